// Blocks of 32 values with scales of their own. The layouts stand in dequant.c.
//
// Without weights Q4_0 to Q8_0 follow the rule that all tools share: the scale brings the largest magnitude (or the
// range) to the end of the codes. Its roundings, double precision for Q4_0 and Q5_0 included, are those of the reference.

#include "quantise_blocks.h"
#include "quantise_search.h"

const float sk_equal_weights[K_BLOCK] = {[0 ... K_BLOCK - 1] = 1};

const float sk_iq4_nearest[512] = {
    [0 ... 24] = -127,   [25 ... 68] = -104,  [69 ... 107] = -83,  [108 ... 141] = -65, [142 ... 171] = -49, [172 ... 198] = -35,
    [199 ... 223] = -22, [224 ... 246] = -10, [247 ... 269] = 1,   [270 ... 293] = 13,  [294 ... 318] = 25,  [319 ... 346] = 38,
    [347 ... 377] = 53,  [378 ... 413] = 69,  [414 ... 457] = 89,  [458 ... 511] = 113,
};

uint8_t sk_iq4_code(float value) {
    static const uint8_t place[241] = {
        [0] = 0,   [23] = 1,  [44] = 2,   [62] = 3,   [78] = 4,   [92] = 5,   [105] = 6,  [117] = 7,
        [128] = 8, [140] = 9, [152] = 10, [165] = 11, [180] = 12, [196] = 13, [216] = 14, [240] = 15,
    };
    return place[(int)value + 127];
}

static float largest_magnitude(const float *x) {
    float largest = x[0];
    for (int i = 1; i < SMALL_BLOCK; i++)
        if (__builtin_fabsf(x[i]) > __builtin_fabsf(largest)) largest = x[i];
    return largest;
}

/// 1 / d; 0 where d is 0, or so small that its inverse is infinite: the half is 0 then and codes do not matter.
static float finite_inverse(float d) {
    float inverse = inverse_of(d);
    return __builtin_isinf(inverse) ? 0 : inverse;
}

/// Codes for given halves: the nearest to (x - m) / d, less range.low.
static void nearest_codes(const code_range range, const float *x, float d, float m, uint8_t *codes) {
    float inverse = inverse_of(d);
    for (int e = 0; e < SMALL_BLOCK; e += LANES) {
        lanes q = nearest_code(range, (lanes_load(x + e) - m) * inverse) - range.low;
        for (int i = 0; i < LANES; i++) codes[e + i] = (uint8_t)q[i];
    }
}

// ---- A scale alone -----------------------------------------------------------------------------------

/// Codes 0 ... 2 * middle - 1 for (code - middle) * d.
static uint16_t usual_scale(const float *x, float middle, uint8_t *codes) {
    float d = largest_magnitude(x) / -middle, inverse = finite_inverse(d), last = 2 * middle - 1;
    for (int i = 0; i < SMALL_BLOCK; i++) {
        float shifted = (float)((double)x[i] * (double)inverse + ((double)middle + 0.5));
        codes[i] = (uint8_t)(shifted > last ? last : shifted);
    }
    return half_of_float(d);
}

static uint16_t searched_scale(code_range range, const float *x, const float *w, uint8_t *codes) {
    range = veiled(range);
    uint16_t d = half_of_float(fit_scale(SMALL_BLOCK, range, x, w).scale);
    if (half_is_finite(d)) nearest_codes(range, x, float_of_half(d), 0, codes);
    return d;
}

// ---- A scale and a minimum ---------------------------------------------------------------------------

/// Codes 0 ... last for code * d + m.
static void usual_line(const float *x, float last, uint16_t *d, uint16_t *m, uint8_t *codes) {
    float low = x[0], high = x[0];
    for (int i = 1; i < SMALL_BLOCK; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    float scale = (high - low) / last, inverse = finite_inverse(scale);
    for (int i = 0; i < SMALL_BLOCK; i++) {
        float shifted = (x[i] - low) * inverse + 0.5f;
        codes[i] = (uint8_t)(shifted > last ? last : shifted);
    }
    *d = half_of_float(scale);
    *m = half_of_float(low);
}

static void searched_line(code_range range, const float *x, const float *w, uint16_t *d, uint16_t *m, uint8_t *codes) {
    range = veiled(range);
    group_fit fit = fit_line(SMALL_BLOCK, range, false, x, w);
    *d = half_of_float(fit.scale);
    *m = half_of_float(-fit.minimum);
    if (half_is_finite(*d) && half_is_finite(*m)) nearest_codes(range, x, float_of_half(*d), float_of_half(*m), codes);
}

// ---- Formats -------------------------------------------------------------------------------------------

static void store_nibbles(uint8_t *p, const uint8_t *codes) {
    for (int i = 0; i < 16; i++) p[i] = (uint8_t)((codes[i] & 15) | codes[16 + i] << 4);
}

static void store_fifth_bits(uint8_t *p, const uint8_t *codes) {
    memset(p, 0, 4);
    for (int i = 0; i < SMALL_BLOCK; i++) p[i >> 3] |= (uint8_t)((codes[i] >> 4 & 1) << (i & 7));
}

bool sk_quantise_q4_0(const float *x, const float *w, uint8_t *block) {
    uint8_t codes[SMALL_BLOCK];
    uint16_t d = w == NULL ? usual_scale(x, 8, codes) : searched_scale((code_range){-8, 7, false, 0.2f}, x, w, codes);
    if (!half_is_finite(d)) return false;
    store_half(block, d);
    store_nibbles(block + 2, codes);
    return true;
}

bool sk_quantise_q5_0(const float *x, const float *w, uint8_t *block) {
    uint8_t codes[SMALL_BLOCK];
    uint16_t d = w == NULL ? usual_scale(x, 16, codes) : searched_scale((code_range){-16, 15, false, 0.4f}, x, w, codes);
    if (!half_is_finite(d)) return false;
    store_half(block, d);
    store_fifth_bits(block + 2, codes);
    store_nibbles(block + 6, codes);
    return true;
}

bool sk_quantise_q4_1(const float *x, const float *w, uint8_t *block) {
    uint8_t codes[SMALL_BLOCK];
    uint16_t d, m;
    if (w == NULL) usual_line(x, 15, &d, &m, codes);
    else searched_line((code_range){0, 15, false, 0.2f}, x, w, &d, &m, codes);
    if (!half_is_finite(d) || !half_is_finite(m)) return false;
    store_half(block, d);
    store_half(block + 2, m);
    store_nibbles(block + 4, codes);
    return true;
}

bool sk_quantise_q5_1(const float *x, const float *w, uint8_t *block) {
    uint8_t codes[SMALL_BLOCK];
    uint16_t d, m;
    if (w == NULL) usual_line(x, 31, &d, &m, codes);
    else searched_line((code_range){0, 31, false, 0.4f}, x, w, &d, &m, codes);
    if (!half_is_finite(d) || !half_is_finite(m)) return false;
    store_half(block, d);
    store_half(block + 2, m);
    store_fifth_bits(block + 4, codes);
    store_nibbles(block + 8, codes);
    return true;
}

bool sk_quantise_q8_0(const float *x, const float *w, uint8_t *block) {
    if (w != NULL) {
        uint8_t codes[SMALL_BLOCK];
        uint16_t d = searched_scale((code_range){-128, 127, false, 0.4f}, x, w, codes);
        if (!half_is_finite(d)) return false;
        store_half(block, d);
        for (int i = 0; i < SMALL_BLOCK; i++) block[2 + i] = codes[i] ^ 0x80;
        return true;
    }
    float d = __builtin_fabsf(largest_magnitude(x)) / 127, inverse = finite_inverse(d);
    uint16_t half = half_of_float(d);
    if (!half_is_finite(half)) return false;
    store_half(block, half);
    for (int i = 0; i < SMALL_BLOCK; i++) {
        // Halves away from zero.
        float scaled = x[i] * inverse, magnitude = __builtin_fabsf(scaled);
        int whole = (int)magnitude;
        int rounded = whole + (magnitude - (float)whole >= 0.5f);
        block[2 + i] = (uint8_t)(int8_t)(scaled < 0 ? -rounded : rounded);
    }
    return true;
}

bool sk_quantise_iq4_NL(const float *x, const float *w, uint8_t *block) {
    const code_range range = veiled((code_range){-127, 113, true, 4.8f});
    if (w == NULL) w = sk_equal_weights;
    uint16_t d = half_of_float(fit_scale(SMALL_BLOCK, range, x, w).scale);
    if (!half_is_finite(d)) return false;
    float inverse = inverse_of(float_of_half(d));
    uint8_t codes[SMALL_BLOCK];
    for (int e = 0; e < SMALL_BLOCK; e += LANES) {
        lanes q = nearest_code(range, lanes_load(x + e) * inverse);
        for (int i = 0; i < LANES; i++) codes[e + i] = sk_iq4_code(q[i]);
    }
    store_half(block, d);
    store_nibbles(block + 2, codes);
    return true;
}
