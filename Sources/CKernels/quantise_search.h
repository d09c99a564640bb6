// The search for the codes of values that share a scale: small weighted squared error, always by the same operations in
// the same order.
//
// A group is 16 or 32 values: value = scale * code, or scale * code - minimum. Rounding to codes and fitting scale and
// minimum by least squares are each easy when the other is given, so several steps around the one that the group's
// range suggests are tried, and the best is polished by turns.

#ifndef SK_QUANTISE_SEARCH_H
#define SK_QUANTISE_SEARCH_H

#include "lanes.h"

#include <stdbool.h>

// ---- Codes -------------------------------------------------------------------------------------

/// What the codes of a format stand for.
typedef struct code_range {
    float low, high;  // whole numbers from low to high, or
    bool iq4;         // the sixteen values of the IQ4 formats, from -127 to 113
    float step;       // distance of the steps that are tried, in codes
} code_range;

/// At 2v + 256, rounded down: the nearest to v of the IQ4 values. Their midpoints are multiples of 1/2, so this is exact.
extern const float sk_iq4_nearest[512];

/// The same range, of which the optimiser knows nothing: where it knows the bounds, clang makes three instructions of
/// what is one minimum or maximum.
SK_INLINE code_range veiled(code_range range) {
    uint32_t low, high;
    memcpy(&low, &range.low, sizeof low);
    memcpy(&high, &range.high, sizeof high);
    __asm__("" : "+r"(low), "+r"(high));
    memcpy(&range.low, &low, sizeof low);
    memcpy(&range.high, &high, sizeof high);
    return range;
}

/// To nearest even, for |v| < 2^22.
SK_INLINE lanes lanes_round(lanes v) {
    const lanes magic = lanes_splat(0x1.8p23f);
    return (v + magic) - magic;
}

SK_INLINE lanes lanes_clamp(lanes v, float low, float high) {
    const lanes l = lanes_splat(low), h = lanes_splat(high);
    v = lanes_select(v > l, v, l);
    return lanes_select(v < h, v, h);
}

/// The code nearest to v.
SK_INLINE lanes nearest_code(const code_range range, lanes v) {
    v = lanes_clamp(v, range.low, range.high);
    if (!range.iq4) return lanes_round(v);
    ilanes index = __builtin_convertvector(v * 2 + 256, ilanes);
    lanes found;
    SK_UNROLL for (int i = 0; i < LANES; i++) found[i] = sk_iq4_nearest[index[i]];
    return found;
}

/// The sum of the lanes: 8 apart, then 4, 2, 1.
SK_INLINE float sum_of_lanes(lanes v) {
    typedef float eight __attribute__((vector_size(32)));
    typedef float four __attribute__((vector_size(16)));
    eight a = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) + __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
    four b = __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7);
    return (b[0] + b[2]) + (b[1] + b[3]);
}

/// 1 / scale, and 0 for 0.
SK_INLINE float inverse_of(float scale) { return scale != 0 ? 1 / scale : 0; }

// ---- A group's own fit ---------------------------------------------------------------------------

/// value = scale * code - minimum.
typedef struct group_fit {
    float scale, minimum;
    float gain;  // how much smaller than sum w x x the error is
} group_fit;

/// Sums over a group for codes q: w q, w q q, w x q.
typedef struct code_sums {
    float q, qq, xq;
} code_sums;

/// x, w: f32[group]. The codes are those of (x - origin) * inverse.
SK_INLINE code_sums sums_of_codes(const int group, const code_range range, const float *x, const float *w, float inverse, float origin) {
    lanes q_sum = lanes_splat(0), qq_sum = q_sum, xq_sum = q_sum;
    SK_UNROLL for (int i = 0; i < group; i += LANES) {
        lanes value = lanes_load(x + i);
        lanes q = nearest_code(range, (value - lanes_splat(origin)) * inverse);
        lanes wq = lanes_load(w + i) * q;
        q_sum += wq;
        qq_sum += wq * q;
        xq_sum += wq * value;
    }
    return (code_sums){sum_of_lanes(q_sum), sum_of_lanes(qq_sum), sum_of_lanes(xq_sum)};
}

/// The better of `best` and the least-squares scale for the codes of x * inverse.
SK_INLINE group_fit better_scale(const int group, const code_range range, const float *x, const float *w, float inverse, group_fit best) {
    code_sums s = sums_of_codes(group, range, x, w, inverse, 0);
    if (!(s.qq > 0)) return best;
    float scale = s.xq / s.qq, gain = scale * s.xq;
    return gain > best.gain ? (group_fit){scale, 0, gain} : best;
}

enum { STEPS_EACH_WAY = 5, POLISHES = 2 };

/// A scale alone. The largest magnitude is brought near either end of the codes, so the scale may be negative.
SK_INLINE group_fit fit_scale(const int group, const code_range range, const float *x, const float *w) {
    float largest = 0;
    for (int i = 0; i < group; i++)
        if (__builtin_fabsf(x[i]) > __builtin_fabsf(largest)) largest = x[i];
    group_fit best = {0, 0, 0};
    if (largest == 0) return best;
    for (int step = -STEPS_EACH_WAY; step <= STEPS_EACH_WAY; step++) {
        best = better_scale(group, range, x, w, (range.low - range.step * (float)step) / largest, best);
        best = better_scale(group, range, x, w, (range.high + range.step * (float)step) / largest, best);
    }
    for (int i = 0; i < POLISHES && best.scale != 0; i++) best = better_scale(group, range, x, w, 1 / best.scale, best);
    return best;
}

/// The better of `best` and the least-squares line for the codes of (x - origin) * inverse. `below`: its minimum must be >= 0.
SK_INLINE group_fit better_line(const int group, const code_range range, bool below, const float *x, const float *w, float w_sum,
                                float wx_sum, float inverse, float origin, group_fit best) {
    code_sums s = sums_of_codes(group, range, x, w, inverse, origin);
    if (!(s.qq > 0)) return best;
    // Where nearly all weight has one code, the determinant is nothing but roundings, and there is no line to find.
    float determinant = w_sum * s.qq - s.q * s.q;
    bool is_line = determinant > 0x1p-20f * (w_sum * s.qq);
    float scale = is_line ? (w_sum * s.xq - wx_sum * s.q) / determinant : 0;
    float offset = is_line ? (s.qq * wx_sum - s.q * s.xq) / determinant : 0;
    if (!is_line || (below && offset > 0)) {
        offset = 0;
        scale = s.xq / s.qq;
    }
    float gain = scale * s.xq + offset * wx_sum;
    return scale > 0 && gain > best.gain ? (group_fit){scale, -offset, gain} : best;
}

/// Scale (>= 0) and minimum for codes from 0 to range.high. `below`: the minimum must be >= 0, so that the codes reach from zero or less.
SK_INLINE group_fit fit_line(const int group, const code_range range, bool below, const float *x, const float *w) {
    float low = below && x[0] > 0 ? 0 : x[0], high = x[0], w_sum = 0, wx_sum = 0;
    for (int i = 0; i < group; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
        w_sum += w[i];
        wx_sum += w[i] * x[i];
    }
    group_fit best = {0, -low, -1};
    if (!(high > low)) return best;
    for (int step = -STEPS_EACH_WAY; step <= STEPS_EACH_WAY; step++)
        best = better_line(group, range, below, x, w, w_sum, wx_sum, (range.high + range.step * (float)step) / (high - low), low, best);
    for (int i = 0; i < POLISHES && best.scale > 0; i++)
        best = better_line(group, range, below, x, w, w_sum, wx_sum, 1 / best.scale, -best.minimum, best);
    return best;
}

/// The weighted squared error of a group with this scale and minimum.
SK_INLINE float group_error(const int group, const code_range range, const float *x, const float *w, float scale, float minimum) {
    float inverse = inverse_of(scale);
    lanes sum = lanes_splat(0);
    SK_UNROLL for (int i = 0; i < group; i += LANES) {
        lanes value = lanes_load(x + i) + minimum;
        lanes off = value - nearest_code(range, value * inverse) * scale;
        sum += lanes_load(w + i) * off * off;
    }
    return sum_of_lanes(sum);
}

#endif
