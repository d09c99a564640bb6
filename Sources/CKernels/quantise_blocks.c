// Floats to the blocks of GGUF files: what callers see, the float formats, and the weights of a block.

#include "quantise_blocks.h"

#include "staffel_dequant.h"
#include "staffel_quantise.h"

/// No quantised format has a value beyond this: the largest half times the largest scale and code. Its square is far from
/// the largest float, so the searches need not fear infinities.
static const float LARGEST_VALUE = 0x1p28f;

static bool quantiser_of(int32_t type, sk_block_quantiser *quantiser) {
    switch (type) {
        case 2: *quantiser = sk_quantise_q4_0; return true;
        case 3: *quantiser = sk_quantise_q4_1; return true;
        case 6: *quantiser = sk_quantise_q5_0; return true;
        case 7: *quantiser = sk_quantise_q5_1; return true;
        case 8: *quantiser = sk_quantise_q8_0; return true;
        case 10: *quantiser = sk_quantise_q2_K; return true;
        case 11: *quantiser = sk_quantise_q3_K; return true;
        case 12: *quantiser = sk_quantise_q4_K; return true;
        case 13: *quantiser = sk_quantise_q5_K; return true;
        case 14: *quantiser = sk_quantise_q6_K; return true;
        case 20: *quantiser = sk_quantise_iq4_NL; return true;
        case 23: *quantiser = sk_quantise_iq4_XS; return true;
    }
    return false;
}

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/// Each to nearest even; NaN stays NaN (quiet), infinity infinity.
static sk_quantise_error to_f16(const float *x, size_t n, uint8_t *out) {
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = bits_of(x[i]), magnitude = bits & 0x7FFFFFFF;
        uint16_t half = magnitude > 0x7F800000 ? (uint16_t)((bits >> 16 & 0x8000) | 0x7E00 | (magnitude >> 13 & 0x3FF)) : half_of_float(x[i]);
        if (!half_is_finite(half) && magnitude < 0x7F800000) return SK_QUANTISE_TOO_LARGE;
        store_half(out + 2 * i, half);
    }
    return SK_QUANTISE_OK;
}

static sk_quantise_error to_bf16(const float *x, size_t n, uint8_t *out) {
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = bits_of(x[i]), magnitude = bits & 0x7FFFFFFF;
        uint32_t half = magnitude > 0x7F800000 ? bits >> 16 | 0x40 : (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
        if (magnitude < 0x7F800000 && (half & 0x7F80) == 0x7F80) return SK_QUANTISE_TOO_LARGE;
        store_half(out + 2 * i, (uint16_t)half);
    }
    return SK_QUANTISE_OK;
}

static sk_quantise_error check_values(const float *x, size_t n) {
    uint32_t largest = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t magnitude = bits_of(x[i]) & 0x7FFFFFFF;
        largest = magnitude > largest ? magnitude : largest;
    }
    if (largest >= 0x7F800000) return SK_QUANTISE_NOT_FINITE;
    return largest > bits_of(LARGEST_VALUE) ? SK_QUANTISE_TOO_LARGE : SK_QUANTISE_OK;
}

/// The weights of one block with 1 as the largest; groups of 16 whose weights are all zero, or vanish beside the largest, get
/// equal ones.
static sk_quantise_error weights_of(const float *importance, size_t n, float *w) {
    float largest = 0;
    for (size_t i = 0; i < n; i++) {
        if (!(importance[i] >= 0) || bits_of(importance[i]) == 0x7F800000) return SK_QUANTISE_WRONG_IMPORTANCE;
        largest = importance[i] > largest ? importance[i] : largest;
    }
    for (size_t g = 0; g < n; g += 16) {
        float sum = 0;
        for (size_t i = g; i < g + 16; i++) {
            w[i] = largest > 0 ? importance[i] / largest : 0;
            sum += w[i];
        }
        for (size_t i = g; i < g + 16 && sum < 0x1p-60f; i++) w[i] = 0x1p-40f;
    }
    return SK_QUANTISE_OK;
}

sk_quantise_error sk_quantise_blocks(int32_t type, const float *x, size_t n, const float *importance, void *blocks) {
    const sk_tensor_format *format = sk_tensor_format_find(type);
    if (format == NULL) return SK_QUANTISE_UNKNOWN_TYPE;
    const size_t elements = (size_t)format->block_elements, bytes = (size_t)format->block_bytes;
    if (n % elements != 0) return SK_QUANTISE_RAGGED;
    uint8_t *out = blocks;
    sk_block_quantiser quantiser;
    if (!quantiser_of(type, &quantiser)) {
        if (type == 1) return to_f16(x, n, out);
        if (type == 30) return to_bf16(x, n, out);
        memcpy(out, x, n * sizeof *x);
        return SK_QUANTISE_OK;
    }
    for (size_t start = 0; start < n; start += elements, out += bytes) {
        sk_quantise_error error = check_values(x + start, elements);
        float weights[K_BLOCK];
        if (error == SK_QUANTISE_OK && importance != NULL) error = weights_of(importance + start, elements, weights);
        if (error != SK_QUANTISE_OK) return error;
        if (!quantiser(x + start, importance == NULL ? NULL : weights, out)) return SK_QUANTISE_TOO_LARGE;
    }
    return SK_QUANTISE_OK;
}
