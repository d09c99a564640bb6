// Kernels over one row of floats: quantisation, norms, sums, elementwise steps, RoPE, narrow floats.

#ifndef SK_ROW_KERNELS_H
#define SK_ROW_KERNELS_H

#include "activation_row.h"
#include "functions.h"
#include "halves.h"

#include <math.h>

// ---- Quantisation

/// The integers whose order is the order of magnitudes; infinity and NaN come last.
SK_INLINE ilanes lanes_magnitude_bits(lanes v) { return (ilanes)v & 0x7fffffff; }

SK_INLINE int32_t ilanes_fold_greater(ilanes v) {
    int32_t s[LANES];
    memcpy(s, &v, sizeof s);
    int32_t m = s[0];
    SK_UNROLL for (int j = 1; j < LANES; j++) m = s[j] > m ? s[j] : m;
    return m;
}

/// The integer nearest to v, halves to even; |v| < 2^22.
SK_INLINE ilanes lanes_round(lanes v) { return (ilanes)((ulanes)(v + 0x1.8p23f) - 0x4b400000u); }

static void quantise_q8(const float *x, int32_t columns, void *out) {
    activation_row row = activation_row_at(out, columns);
    int8_t *q = (int8_t *)row.q;
    float *scale = (float *)row.scale, *scaled_sum = (float *)row.scaled_sum;
    int32_t *minus_sum = (int32_t *)row.minus_sum;
    const float smallest = 0x1p-100f;  // 127 / M must not overflow

    for (int32_t b = 0; b < columns / Q8_BLOCK; b++) {
        lanes low = lanes_load(x + b * Q8_BLOCK), high = lanes_load(x + b * Q8_BLOCK + LANES);
        ilanes low_bits = lanes_magnitude_bits(low), high_bits = lanes_magnitude_bits(high);
        int32_t largest = ilanes_fold_greater(ilanes_select(low_bits > high_bits, low_bits, high_bits));
        float magnitude;
        memcpy(&magnitude, &largest, sizeof magnitude);

        bool finite = largest < 0x7f800000;
        bool counts = finite && magnitude >= smallest;
        lanes factor = lanes_splat(counts ? 127.0f / magnitude : 0.0f);
        if (!finite) low = high = lanes_splat(0.0f);
        ilanes a = lanes_round(low * factor), c = lanes_round(high * factor);
        blanes a8 = __builtin_convertvector(a, blanes), c8 = __builtin_convertvector(c, blanes);
        memcpy(q + b * Q8_BLOCK, &a8, sizeof a8);
        memcpy(q + b * Q8_BLOCK + LANES, &c8, sizeof c8);

        ilanes sums = a + c;
        int32_t sum = 0;
        SK_UNROLL for (int j = 0; j < LANES; j++) sum += sums[j];
        float s = counts ? magnitude / 127.0f : finite ? 0.0f : NAN;
        scale[b] = s;
        minus_sum[b] = -sum;
        scaled_sum[b] = s * (float)sum;
    }
}

/// Blocks of `block` values q with a scale each: what they leave of x.
static void quantisation_rest(const float *x, const int8_t *q, const float *scale, int32_t block, int32_t columns, float *out) {
    for (int32_t i = 0; i < columns; i += LANES) {
        blanes a;
        memcpy(&a, q + i, sizeof a);
        lanes value = lanes_to_float(__builtin_convertvector(a, ilanes));
        lanes_store(out + i, lanes_fma(lanes_splat(-scale[i / block]), value, lanes_load(x + i)));
    }
}

// ---- Norms and sums

SK_INLINE float row_sum_of_squares(const float *x, float offset, int32_t count) {
    lanes partial = lanes_splat(0.0f);
    int32_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        lanes v = lanes_load(x + i) - offset;
        partial = lanes_fma(v, v, partial);
    }
    if (i < count) {
        // Lanes past the end must add nothing: they hold offset - offset.
        float padded[LANES];
        for (int j = 0; j < LANES; j++) padded[j] = i + j < count ? x[i + j] : offset;
        lanes v = lanes_load(padded) - offset;
        partial = lanes_fma(v, v, partial);
    }
    return lanes_fold_sum(partial);
}

SK_INLINE float row_sum(const float *x, int32_t count) {
    lanes partial = lanes_splat(0.0f);
    int32_t i = 0;
    for (; i + LANES <= count; i += LANES) partial = partial + lanes_load(x + i);
    if (i < count) partial = partial + lanes_load_first(x + i, (size_t)(count - i));
    return lanes_fold_sum(partial);
}

static void normalise_rms(const sk_norm *norm, const float *x, float *out, int32_t n) {
    float mean_square = row_sum_of_squares(x, 0.0f, n) / (float)n;
    float r = 1.0f / sqrtf(mean_square + norm->epsilon);
    int32_t i = 0;
    for (; i + LANES <= n; i += LANES) lanes_store(out + i, lanes_load(x + i) * r * lanes_load(norm->weight + i));
    for (; i < n; i++) out[i] = x[i] * r * norm->weight[i];
}

static void normalise_layer(const sk_norm *norm, const float *x, float *out, int32_t n) {
    float mean = row_sum(x, n) / (float)n;
    float variance = row_sum_of_squares(x, mean, n) / (float)n;
    float r = 1.0f / sqrtf(variance + norm->epsilon);
    for (int32_t i = 0; i < n; i += LANES) {
        size_t count = n - i < LANES ? (size_t)(n - i) : LANES;
        bool whole = count == LANES;
        lanes v = whole ? lanes_load(x + i) : lanes_load_first(x + i, count);
        lanes weight = whole ? lanes_load(norm->weight + i) : lanes_load_first(norm->weight + i, count);
        lanes bias = lanes_splat(0.0f);
        if (norm->bias != NULL) bias = whole ? lanes_load(norm->bias + i) : lanes_load_first(norm->bias + i, count);
        lanes y = lanes_fma((v - mean) * r, weight, bias);
        if (whole) lanes_store(out + i, y);
        else lanes_store_first(out + i, y, count);
    }
}

static void normalise(const sk_norm *norm, const float *x, float *out, int32_t columns) {
    if (norm->kind == SK_NORM_RMS) normalise_rms(norm, x, out, columns);
    else normalise_layer(norm, x, out, columns);
}

static float maximum(const float *x, int32_t count) {
    lanes best = lanes_splat(-INFINITY);
    int32_t i = 0;
    for (; i + LANES <= count; i += LANES) best = lanes_greater(lanes_load(x + i), best);
    float m = lanes_fold_greater(best);
    for (; i < count; i++) m = x[i] > m ? x[i] : m;
    return m;
}

static float exp_sum(const float *x, float highest, float *out, int32_t count) {
    lanes partial = lanes_splat(0.0f);
    for (int32_t i = 0; i < count; i += LANES) {
        size_t n = count - i < LANES ? (size_t)(count - i) : LANES;
        lanes v = n == LANES ? lanes_load(x + i) : lanes_load_first(x + i, n);
        lanes e = lanes_exp(v - highest);
        if (n < LANES) e = lanes_select(lanes_index() < (int32_t)n, e, lanes_splat(0.0f));
        partial = partial + e;
        if (out == NULL) continue;
        if (n == LANES) lanes_store(out + i, e);
        else lanes_store_first(out + i, e, n);
    }
    return lanes_fold_sum(partial);
}

static int32_t argmax(const float *x, int32_t count) {
    float best = maximum(x, count);
    int32_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        ilanes hit = lanes_load(x + i) == lanes_splat(best);
        int32_t any = 0;
        SK_UNROLL for (int j = 0; j < LANES; j++) any |= hit[j];
        if (any) break;
    }
    while (i < count - 1 && x[i] != best) i++;
    return i;
}

/// Bit j is set where the mask's lane j is -1.
SK_INLINE uint32_t ilanes_bits(ilanes mask) {
    typedef bool flags __attribute__((ext_vector_type(LANES)));
    flags set = __builtin_convertvector(mask, flags);
    uint16_t bits;
    memcpy(&bits, &set, sizeof bits);
    return bits;
}

static int32_t collect(const float *x, int32_t count, float low, float high, int32_t *ids) {
    int32_t found = 0, i = 0;
    for (; i + LANES <= count; i += LANES) {
        lanes v = lanes_load(x + i);
        for (uint32_t bits = ilanes_bits((v >= low) & (v < high)); bits != 0; bits &= bits - 1) ids[found++] = i + __builtin_ctz(bits);
    }
    for (; i < count; i++)
        if (x[i] >= low && x[i] < high) ids[found++] = i;
    return found;
}

static void temper(const float *x, float highest, float temperature, float *out, int32_t count) {
    for (int32_t i = 0; i < count; i++) out[i] = (x[i] - highest) / temperature;
}

static bool all_finite(const float *x, size_t count) {
    ilanes worst = ilanes_splat(0);
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) worst |= lanes_magnitude_bits(lanes_load(x + i)) >= 0x7f800000;
    if (i < count) worst |= lanes_magnitude_bits(lanes_load_first(x + i, count - i)) >= 0x7f800000;
    int32_t any = 0;
    SK_UNROLL for (int j = 0; j < LANES; j++) any |= worst[j];
    return any == 0;
}

// ---- Elementwise steps. The compiler makes vectors of these; each element is on its own, so order is no question.

static void add(float *x, const float *y, size_t count) {
    for (size_t i = 0; i < count; i++) x[i] = x[i] + y[i];
}

static void add_scaled(float *x, const float *y, float factor, size_t count) {
    lanes f = lanes_splat(factor);
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) lanes_store(x + i, lanes_fma(f, lanes_load(y + i), lanes_load(x + i)));
    for (; i < count; i++) x[i] = fmaf(factor, y[i], x[i]);
}

static void scale(float *x, float factor, size_t count) {
    for (size_t i = 0; i < count; i++) x[i] = x[i] * factor;
}

static void divide(float *x, float divisor, size_t count) {
    for (size_t i = 0; i < count; i++) x[i] = x[i] / divisor;
}

// ---- Narrow floats

SK_INLINE hlanes hlanes_load_first(const uint16_t *p, size_t n) {
    uint16_t padded[LANES] = {0};
    memcpy(padded, p, n * sizeof(uint16_t));
    return hlanes_load(padded);
}

SK_INLINE void hlanes_store_first(uint16_t *p, hlanes v, size_t n) { memcpy(p, &v, n * sizeof(uint16_t)); }

#define SK_NARROWING(name, convert)                                                                             \
    static void name(const float *x, uint16_t *out, size_t count) {                                             \
        size_t i = 0;                                                                                           \
        for (; i + LANES <= count; i += LANES) hlanes_store(out + i, convert(lanes_load(x + i)));               \
        if (i < count) hlanes_store_first(out + i, convert(lanes_load_first(x + i, count - i)), count - i);     \
    }

#define SK_WIDENING(name, convert)                                                                              \
    static void name(const uint16_t *x, float *out, size_t count) {                                             \
        size_t i = 0;                                                                                           \
        for (; i + LANES <= count; i += LANES) lanes_store(out + i, convert(hlanes_load(x + i)));               \
        if (i < count) lanes_store_first(out + i, convert(hlanes_load_first(x + i, count - i)), count - i);     \
    }

SK_NARROWING(to_f16, lanes_to_f16)
SK_NARROWING(to_bf16, lanes_to_bf16)
SK_WIDENING(from_f16, lanes_from_f16)
SK_WIDENING(from_bf16, lanes_from_bf16)

static void round_bf16(float *x, size_t count) {
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) lanes_store(x + i, lanes_from_bf16(lanes_to_bf16(lanes_load(x + i))));
    if (i == count) return;
    lanes rounded = lanes_from_bf16(lanes_to_bf16(lanes_load_first(x + i, count - i)));
    lanes_store_first(x + i, rounded, count - i);
}

// ---- RoPE

SK_INLINE void rope_halves(float *x, int32_t half, const float *cosines, const float *sines) {
    int32_t i = 0;
    for (; i + LANES <= half; i += LANES) {
        lanes a = lanes_load(x + i), b = lanes_load(x + half + i);
        lanes c = lanes_load(cosines + i), s = lanes_load(sines + i);
        lanes_store(x + i, lanes_fma(a, c, -(b * s)));
        lanes_store(x + half + i, lanes_fma(b, c, a * s));
    }
    for (; i < half; i++) {
        float a = x[i], b = x[half + i];
        x[i] = fmaf(a, cosines[i], -(b * sines[i]));
        x[half + i] = fmaf(b, cosines[i], a * sines[i]);
    }
}

SK_INLINE void rope_adjacent(float *x, int32_t half, const float *cosines, const float *sines) {
    for (int32_t i = 0; i < half; i++) {
        float a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = fmaf(a, cosines[i], -(b * sines[i]));
        x[2 * i + 1] = fmaf(b, cosines[i], a * sines[i]);
    }
}

static void rope(sk_rope_pairing pairing, float *x, int32_t heads, int32_t head_dim, int32_t dims, const float *cosines,
                 const float *sines) {
    for (int32_t h = 0; h < heads; h++) {
        float *head = x + (size_t)h * (size_t)head_dim;
        if (pairing == SK_ROPE_HALVES) rope_halves(head, dims / 2, cosines, sines);
        else rope_adjacent(head, dims / 2, cosines, sines);
    }
}

#endif
