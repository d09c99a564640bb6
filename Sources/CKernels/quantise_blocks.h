// What the files of quantise_blocks share: halves, and the functions of the formats.

#ifndef SK_QUANTISE_BLOCKS_H
#define SK_QUANTISE_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { SMALL_BLOCK = 32, K_BLOCK = 256, K_GROUPS_MAX = 16 };

/// Turns x, f32[elements of a block], all finite, into one block. `w`: f32[as many], at least one of each 16 above zero, or
/// null. False where a half-precision scale would have to be infinite.
typedef bool (*sk_block_quantiser)(const float *x, const float *w, uint8_t *block);

// 32 elements; null weights: by the format's usual rule.
bool sk_quantise_q4_0(const float *x, const float *w, uint8_t *block);
bool sk_quantise_q4_1(const float *x, const float *w, uint8_t *block);
bool sk_quantise_q5_0(const float *x, const float *w, uint8_t *block);
bool sk_quantise_q5_1(const float *x, const float *w, uint8_t *block);
bool sk_quantise_q8_0(const float *x, const float *w, uint8_t *block);
bool sk_quantise_iq4_NL(const float *x, const float *w, uint8_t *block);
// 256 elements; null weights: all equal.
bool sk_quantise_q2_K(const float *x, const float *w, uint8_t *block);
bool sk_quantise_q3_K(const float *x, const float *w, uint8_t *block);
bool sk_quantise_q4_K(const float *x, const float *w, uint8_t *block);
bool sk_quantise_q5_K(const float *x, const float *w, uint8_t *block);
bool sk_quantise_q6_K(const float *x, const float *w, uint8_t *block);
bool sk_quantise_iq4_XS(const float *x, const float *w, uint8_t *block);

/// The place (0 ... 15) of one of the sixteen IQ4 values.
uint8_t sk_iq4_code(float value);

/// Weights where none are given.
extern const float sk_equal_weights[K_BLOCK];

/// Rounded to nearest even; beyond the largest half, infinity. No NaN.
static inline uint16_t half_of_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
    if (magnitude >= 0x47800000) return (uint16_t)(sign | 0x7C00);
    if (magnitude >= 0x38800000) return (uint16_t)(sign | (magnitude - 0x38000000 + 0xFFF + (magnitude >> 13 & 1)) >> 13);
    // Subnormal or zero: adding 1/2 lets the adder round at bit 2^-24.
    float positive;
    memcpy(&positive, &magnitude, sizeof positive);
    positive += 0.5f;
    memcpy(&magnitude, &positive, sizeof magnitude);
    return (uint16_t)(sign | (magnitude - 0x3F000000));
}

/// Exact; finite halves only.
static inline float float_of_half(uint16_t half) {
    uint32_t exponent = half >> 10 & 31, fraction = half & 0x3FF;
    float magnitude = (float)fraction * 0x1p-24f;
    if (exponent != 0) {
        uint32_t bits = (exponent + 112) << 23 | fraction << 13;
        memcpy(&magnitude, &bits, sizeof bits);
    }
    return half & 0x8000 ? -magnitude : magnitude;
}

static inline bool half_is_finite(uint16_t half) { return (half & 0x7C00) != 0x7C00; }

static inline void store_half(uint8_t *p, uint16_t half) {
    p[0] = (uint8_t)half;
    p[1] = (uint8_t)(half >> 8);
}

#endif
