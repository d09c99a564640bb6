// Blocks of 256 values in groups, whose scales (and minima) are themselves whole numbers times one half. The layouts stand in
// dequant.c.
//
// The search has three steps: each group alone (quantise_search.h); rounding what was found to whole numbers; then, by turns,
// each group's whole numbers and codes for the given halves, and the halves by least squares for the given numbers and codes.

#include "quantise_blocks.h"
#include "quantise_search.h"

enum { TURNS_MAX = 3 };

/// Element e of group g stands for d * scales[g] * codes[e] - dmin * minima[g]; d and dmin are halves.
typedef struct k_block {
    uint16_t d, dmin;
    int16_t scales[K_GROUPS_MAX];
    int16_t minima[K_GROUPS_MAX];
    int16_t codes[K_BLOCK];
} k_block;

typedef struct whole_range {
    int low, high;
} whole_range;

/// What a format allows.
typedef struct k_format {
    int group;  // elements that share a scale
    code_range codes;
    whole_range scales;
    bool has_minima;  // in the range of the scales
} k_format;

// ---- Whole numbers and halves by turns -------------------------------------------------------------------

/// For the given halves: the best of each group's whole numbers and their neighbours. Returns the block's error.
SK_INLINE float settle_groups(const k_format f, const float *x, const float *w, k_block *b) {
    const float d = float_of_half(b->d), dmin = float_of_half(b->dmin);
    const whole_range minima = f.has_minima ? f.scales : (whole_range){0, 0};
    float total = 0;
    for (int g = 0; g < K_BLOCK / f.group; g++) {
        const float *gx = x + g * f.group, *gw = w + g * f.group;
        const int scale = b->scales[g], minimum = b->minima[g];
        float best = group_error(f.group, f.codes, gx, gw, d * (float)scale, dmin * (float)minimum);
        for (int s = scale - 1; s <= scale + 1; s++) {
            if (s < f.scales.low || s > f.scales.high) continue;
            for (int m = minimum - 1; m <= minimum + 1; m++) {
                if (m < minima.low || m > minima.high || (s == scale && m == minimum)) continue;
                float error = group_error(f.group, f.codes, gx, gw, d * (float)s, dmin * (float)m);
                if (!(error < best)) continue;
                best = error;
                b->scales[g] = (int16_t)s;
                b->minima[g] = (int16_t)m;
            }
        }
        total += best;
    }
    return total;
}

/// For the given whole numbers and the codes that the present halves lead to: the halves by least squares.
SK_INLINE void fit_halves(const k_format f, const float *x, const float *w, k_block *b) {
    const float d = float_of_half(b->d), dmin = float_of_half(b->dmin);
    // Over the block, with s = scale times code and m = minimum: w s s, w s m, w m m, w x s, w x m.
    double ss = 0, sm = 0, mm = 0, xs = 0, xm = 0;
    for (int g = 0; g < K_BLOCK / f.group; g++) {
        const float *gx = x + g * f.group, *gw = w + g * f.group;
        const float scale = (float)b->scales[g], minimum = (float)b->minima[g];
        code_sums sums = sums_of_codes(f.group, f.codes, gx, gw, inverse_of(d * scale), -(dmin * minimum));
        lanes w_sum = lanes_splat(0), wx_sum = w_sum;
        SK_UNROLL for (int i = 0; i < f.group; i += LANES) {
            w_sum += lanes_load(gw + i);
            wx_sum += lanes_load(gw + i) * lanes_load(gx + i);
        }
        ss += (double)(scale * scale) * sums.qq;
        sm += (double)(scale * minimum) * sums.q;
        mm += (double)(minimum * minimum) * sum_of_lanes(w_sum);
        xs += (double)scale * sums.xq;
        xm += (double)minimum * sum_of_lanes(wx_sum);
    }
    double determinant = ss * mm - sm * sm;
    if (f.has_minima && determinant > 0) {
        double new_d = (mm * xs - sm * xm) / determinant, new_dmin = (sm * xs - ss * xm) / determinant;
        if (new_d > 0 && new_dmin >= 0) {
            b->d = half_of_float((float)new_d);
            b->dmin = half_of_float((float)new_dmin);
            return;
        }
    }
    if (ss > 0) b->d = half_of_float((float)((xs + (double)dmin * sm) / ss));
}

SK_INLINE void take_turns(const k_format f, const float *x, const float *w, k_block *found) {
    k_block trial = *found;
    float best = __builtin_inff();
    for (int turn = 0; turn < TURNS_MAX && half_is_finite(trial.d) && half_is_finite(trial.dmin); turn++) {
        float error = settle_groups(f, x, w, &trial);
        if (!(error < best)) return;
        best = error;
        *found = trial;
        if (turn + 1 < TURNS_MAX) fit_halves(f, x, w, &trial);
        if (trial.d == found->d && trial.dmin == found->dmin) return;
    }
}

// ---- The search ------------------------------------------------------------------------------------------

/// The half that brings `largest` to `limit`; a step more where rounding down would leave it out of reach, which it does where
/// halves are subnormal.
static uint16_t half_for(float largest, int limit) {
    uint16_t half = half_of_float(largest / (float)limit);
    float reached = __builtin_fabsf(float_of_half(half)) * (__builtin_fabsf((float)limit) + 0.5f);
    return half_is_finite(half) && reached < __builtin_fabsf(largest) ? (uint16_t)(half + 1) : half;
}

static int16_t nearest_whole(float value, float unit, whole_range range) {
    float ratio = unit != 0 ? __builtin_rintf(value / unit) : 0;
    return (int16_t)(ratio < (float)range.low ? range.low : ratio > (float)range.high ? range.high : (int)ratio);
}

/// False where a half would be infinite.
SK_INLINE bool search_block(k_format f, const float *x, const float *w, k_block *found) {
    f.codes = veiled(f.codes);
    if (w == NULL) w = sk_equal_weights;
    group_fit fits[K_GROUPS_MAX];
    float scale = 0, minimum = 0;
    for (int g = 0; g < K_BLOCK / f.group; g++) {
        const float *gx = x + g * f.group, *gw = w + g * f.group;
        fits[g] = f.has_minima ? fit_line(f.group, f.codes, true, gx, gw) : fit_scale(f.group, f.codes, gx, gw);
        if (__builtin_fabsf(fits[g].scale) > __builtin_fabsf(scale)) scale = fits[g].scale;
        if (fits[g].minimum > minimum) minimum = fits[g].minimum;
    }
    // Without minima scales have a sign, and their range reaches one further below zero than above.
    found->d = half_for(scale, f.has_minima ? f.scales.high : f.scales.low);
    found->dmin = half_for(minimum, f.scales.high);
    if (!half_is_finite(found->d) || !half_is_finite(found->dmin)) return false;
    for (int g = 0; g < K_BLOCK / f.group; g++) {
        found->scales[g] = nearest_whole(fits[g].scale, float_of_half(found->d), f.scales);
        found->minima[g] = nearest_whole(fits[g].minimum, float_of_half(found->dmin), f.scales);
    }
    take_turns(f, x, w, found);

    const float d = float_of_half(found->d), dmin = float_of_half(found->dmin);
    for (int e = 0; e < K_BLOCK; e += LANES) {
        float inverse = inverse_of(d * (float)found->scales[e / f.group]);
        lanes q = nearest_code(f.codes, (lanes_load(x + e) + dmin * (float)found->minima[e / f.group]) * inverse);
        for (int i = 0; i < LANES; i++) found->codes[e + i] = (int16_t)q[i];
    }
    return true;
}

// ---- Formats ---------------------------------------------------------------------------------------------

/// Two bits of each code, from bit `shift` of it on: element 128h + 32j + l in bits 2j of byte 32h + l.
static void store_bit_pairs(uint8_t *p, const k_block *b, int add, int shift) {
    memset(p, 0, 64);
    for (int e = 0; e < K_BLOCK; e++) p[e / 128 * 32 + e % 32] |= (uint8_t)(((b->codes[e] + add) >> shift & 3) << (e % 128 / 32 * 2));
}

bool sk_quantise_q2_K(const float *x, const float *w, uint8_t *block) {
    k_block b;
    if (!search_block((k_format){16, {0, 3, false, 0.2f}, {0, 15}, true}, x, w, &b)) return false;
    for (int g = 0; g < 16; g++) block[g] = (uint8_t)(b.scales[g] | b.minima[g] << 4);
    store_bit_pairs(block + 16, &b, 0, 0);
    store_half(block + 80, b.d);
    store_half(block + 82, b.dmin);
    return true;
}

bool sk_quantise_q3_K(const float *x, const float *w, uint8_t *block) {
    k_block b;
    if (!search_block((k_format){16, {-4, 3, false, 0.2f}, {-32, 31}, false}, x, w, &b)) return false;
    memset(block, 0, 32);
    for (int e = 0; e < K_BLOCK; e++) block[e % 32] |= (uint8_t)((b.codes[e] >= 0) << (e / 32));
    store_bit_pairs(block + 32, &b, 4, 0);
    uint8_t *scales = block + 96;
    memset(scales, 0, 12);
    for (int g = 0; g < 16; g++) {
        int scale = b.scales[g] + 32;
        scales[g % 8] |= (uint8_t)((scale & 15) << (g / 8 * 4));
        scales[8 + g % 4] |= (uint8_t)(scale >> 4 << (g / 4 * 2));
    }
    store_half(block + 108, b.d);
    return true;
}

/// The 16 bytes with which Q4_K and Q5_K begin.
static void store_lines(uint8_t *p, const k_block *b) {
    store_half(p, b->d);
    store_half(p + 2, b->dmin);
    uint8_t *six = p + 4;
    for (int g = 0; g < 4; g++) {
        six[g] = (uint8_t)(b->scales[g] | b->scales[4 + g] >> 4 << 6);
        six[4 + g] = (uint8_t)(b->minima[g] | b->minima[4 + g] >> 4 << 6);
        six[8 + g] = (uint8_t)((b->scales[4 + g] & 15) | (b->minima[4 + g] & 15) << 4);
    }
}

/// Of each 64 elements, the first 32 in low halves.
static void store_k_nibbles(uint8_t *p, const k_block *b) {
    for (int e = 0; e < K_BLOCK / 2; e++) {
        const int16_t *pair = b->codes + e / 32 * 64 + e % 32;
        p[e] = (uint8_t)((pair[0] & 15) | (pair[32] & 15) << 4);
    }
}

bool sk_quantise_q4_K(const float *x, const float *w, uint8_t *block) {
    k_block b;
    if (!search_block((k_format){32, {0, 15, false, 0.2f}, {0, 63}, true}, x, w, &b)) return false;
    store_lines(block, &b);
    store_k_nibbles(block + 16, &b);
    return true;
}

bool sk_quantise_q5_K(const float *x, const float *w, uint8_t *block) {
    k_block b;
    if (!search_block((k_format){32, {0, 31, false, 0.4f}, {0, 63}, true}, x, w, &b)) return false;
    store_lines(block, &b);
    memset(block + 16, 0, 32);
    for (int e = 0; e < K_BLOCK; e++) block[16 + e % 32] |= (uint8_t)((b.codes[e] >> 4) << (e / 32));
    store_k_nibbles(block + 48, &b);
    return true;
}

bool sk_quantise_q6_K(const float *x, const float *w, uint8_t *block) {
    k_block b;
    if (!search_block((k_format){16, {-32, 31, false, 0.4f}, {-128, 127}, false}, x, w, &b)) return false;
    for (int e = 0; e < K_BLOCK / 2; e++) {
        const int16_t *pair = b.codes + e / 64 * 128 + e % 64;
        block[e] = (uint8_t)(((pair[0] + 32) & 15) | ((pair[64] + 32) & 15) << 4);
    }
    store_bit_pairs(block + 128, &b, 32, 4);
    for (int g = 0; g < 16; g++) block[192 + g] = (uint8_t)(int8_t)b.scales[g];
    store_half(block + 208, b.d);
    return true;
}

bool sk_quantise_iq4_XS(const float *x, const float *w, uint8_t *block) {
    k_block b;
    if (!search_block((k_format){32, {-127, 113, true, 4.8f}, {-32, 31}, false}, x, w, &b)) return false;
    store_half(block, b.d);
    memset(block + 2, 0, 6);
    for (int g = 0; g < 8; g++) {
        int scale = b.scales[g] + 32;
        block[2 + g / 4] |= (uint8_t)(scale >> 4 << (g % 4 * 2));
        block[4 + g / 2] |= (uint8_t)((scale & 15) << (g % 2 * 4));
    }
    for (int i = 0; i < K_BLOCK / 2; i++) {
        const int16_t *pair = b.codes + i / 16 * 32 + i % 16;
        block[8 + i] = (uint8_t)(sk_iq4_code(pair[0]) | sk_iq4_code(pair[16]) << 4);
    }
    return true;
}
