// The block formats of GGUF files, widened to binary32.
//
// Each function below takes `count` blocks and writes count × block_elements floats. Fields are read by byte offset, because
// blocks lie in a mapped file at any alignment; the layout stands above each function, sizes in bytes. Half-precision
// scales are widened exactly; each product and each difference rounds once, in the order written, which is the order of
// the reference (Python package gguf, module quants).

#include "staffel_dequant.h"

#include <string.h>

static const sk_tensor_format formats[] = {
    {0, 1, 4, "F32"},       {1, 1, 2, "F16"},       {30, 1, 2, "BF16"},     {2, 32, 18, "Q4_0"},
    {3, 32, 20, "Q4_1"},    {6, 32, 22, "Q5_0"},    {7, 32, 24, "Q5_1"},    {8, 32, 34, "Q8_0"},
    {10, 256, 84, "Q2_K"},  {11, 256, 110, "Q3_K"}, {12, 256, 144, "Q4_K"}, {13, 256, 176, "Q5_K"},
    {14, 256, 210, "Q6_K"}, {20, 32, 18, "IQ4_NL"}, {23, 256, 136, "IQ4_XS"},
};

const sk_tensor_format *sk_tensor_format_find(int32_t type) {
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (formats[i].type == type) return &formats[i];
    return NULL;
}

static float float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t load16(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8; }

/// binary16 to binary32, exact for every value; a NaN keeps its payload and becomes quiet.
static float load_half(const uint8_t *p) {
    uint32_t half = load16(p);
    uint32_t sign = (half & 0x8000) << 16;
    uint32_t exponent = half >> 10 & 0x1F;
    uint32_t fraction = half & 0x3FF;
    if (exponent == 0) {
        // Subnormal or zero: fraction × 2⁻²⁴, and the sign put on afterwards so that −0 stays −0.
        float magnitude = (float)fraction * 0x1p-24f;
        uint32_t bits;
        memcpy(&bits, &magnitude, sizeof bits);
        return float_of_bits(bits | sign);
    }
    if (exponent == 31) return float_of_bits(sign | 0x7F800000 | (fraction ? 0x400000 | fraction << 13 : 0));
    return float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

static void widen_f16(const uint8_t *in, float *out, size_t count) {
    for (size_t i = 0; i < count; i++) out[i] = load_half(in + 2 * i);
}

static void widen_bf16(const uint8_t *in, float *out, size_t count) {
    for (size_t i = 0; i < count; i++) out[i] = float_of_bits(load16(in + 2 * i) << 16);
}

// d 2 | nibbles 16: element i in the low half of byte i, element 16 + i in its high half
static void widen_q4_0(const uint8_t *in, float *out, size_t count) {
    for (; count > 0; count--, in += 18, out += 32) {
        float d = load_half(in);
        for (int i = 0; i < 16; i++) {
            out[i] = d * (float)((in[2 + i] & 15) - 8);
            out[16 + i] = d * (float)((in[2 + i] >> 4) - 8);
        }
    }
}

// d 2 | m 2 | nibbles 16 as Q4_0
static void widen_q4_1(const uint8_t *in, float *out, size_t count) {
    for (; count > 0; count--, in += 20, out += 32) {
        float d = load_half(in), m = load_half(in + 2);
        for (int i = 0; i < 16; i++) {
            out[i] = d * (float)(in[4 + i] & 15) + m;
            out[16 + i] = d * (float)(in[4 + i] >> 4) + m;
        }
    }
}

/// Bit i of the 32 that begin at p.
static int bit_of(const uint8_t *p, int i) { return p[i >> 3] >> (i & 7) & 1; }

// d 2 | fifth bits 4: bit i for element i | nibbles 16 as Q4_0
static void widen_q5_0(const uint8_t *in, float *out, size_t count) {
    for (; count > 0; count--, in += 22, out += 32) {
        float d = load_half(in);
        for (int i = 0; i < 16; i++) {
            out[i] = d * (float)(((in[6 + i] & 15) | bit_of(in + 2, i) << 4) - 16);
            out[16 + i] = d * (float)((in[6 + i] >> 4 | bit_of(in + 2, 16 + i) << 4) - 16);
        }
    }
}

// d 2 | m 2 | fifth bits 4 as Q5_0 | nibbles 16
static void widen_q5_1(const uint8_t *in, float *out, size_t count) {
    for (; count > 0; count--, in += 24, out += 32) {
        float d = load_half(in), m = load_half(in + 2);
        for (int i = 0; i < 16; i++) {
            out[i] = d * (float)((in[8 + i] & 15) | bit_of(in + 4, i) << 4) + m;
            out[16 + i] = d * (float)(in[8 + i] >> 4 | bit_of(in + 4, 16 + i) << 4) + m;
        }
    }
}

// d 2 | int8 32
static void widen_q8_0(const uint8_t *in, float *out, size_t count) {
    for (; count > 0; count--, in += 34, out += 32) {
        float d = load_half(in);
        for (int i = 0; i < 32; i++) out[i] = d * (float)(int8_t)in[2 + i];
    }
}

// scales 16: low half the factor, high half the minimum of 16 elements | two bits 64 | d 2 | dmin 2
// Element 128h + 32j + l: bits 2j of byte 32h + l.
static void widen_q2_K(const uint8_t *in, float *out, size_t count) {
    for (; count > 0; count--, in += 84, out += 256) {
        float d = load_half(in + 80), dmin = load_half(in + 82);
        for (int e = 0; e < 256; e++) {
            int scale = in[e / 16];
            int q = in[16 + e / 128 * 32 + e % 32] >> (e % 128 / 32 * 2) & 3;
            out[e] = d * (float)(scale & 15) * (float)q - dmin * (float)(scale >> 4);
        }
    }
}

// high bits 32: bit e/32 of byte e%32, inverted | two bits 64 as Q2_K | scales 12 | d 2
// Scale s of 16 elements has 6 bits: nibble s of the first 8 bytes (low halves first), then bits 2(s/4) of byte 8 + s%4.
static void widen_q3_K(const uint8_t *in, float *out, size_t count) {
    for (; count > 0; count--, in += 110, out += 256) {
        const uint8_t *scales = in + 96;
        float d = load_half(in + 108);
        for (int e = 0; e < 256; e++) {
            int s = e / 16;
            int low = s < 8 ? scales[s] & 15 : scales[s - 8] >> 4;
            int high = scales[8 + s % 4] >> (s / 4 * 2) & 3;
            int q = in[32 + e / 128 * 32 + e % 32] >> (e % 128 / 32 * 2) & 3;
            int inverted = in[e % 32] >> (e / 32) & 1;
            out[e] = d * (float)((low | high << 4) - 32) * (float)(q - (inverted ? 0 : 4));
        }
    }
}

/// Factor and minimum s (0…7) of the 12 bytes that Q4_K and Q5_K share: 6 bits each; those of s ≥ 4 lie in the last four
/// bytes, with their top bits in the top bits of the first eight.
static void scale_and_minimum(const uint8_t *p, int s, int *scale, int *minimum) {
    if (s < 4) {
        *scale = p[s] & 63;
        *minimum = p[4 + s] & 63;
    } else {
        *scale = (p[4 + s] & 15) | (p[s - 4] >> 6) << 4;
        *minimum = p[4 + s] >> 4 | (p[s] >> 6) << 4;
    }
}

// d 2 | dmin 2 | scales 12 | nibbles 128: element 64g + l in the low half of byte 32g + l, 64g + 32 + l in its high half
static void widen_q4_K(const uint8_t *in, float *out, size_t count) {
    for (; count > 0; count--, in += 144, out += 256) {
        float d = load_half(in), dmin = load_half(in + 2);
        for (int s = 0; s < 8; s++) {
            int scale, minimum;
            scale_and_minimum(in + 4, s, &scale, &minimum);
            float factor = d * (float)scale, offset = dmin * (float)minimum;
            for (int l = 0; l < 32; l++) {
                int q = in[16 + s / 2 * 32 + l] >> (s % 2 * 4) & 15;
                out[32 * s + l] = factor * (float)q - offset;
            }
        }
    }
}

// d 2 | dmin 2 | scales 12 | fifth bits 32: bit e/32 of byte e%32 | nibbles 128 as Q4_K
static void widen_q5_K(const uint8_t *in, float *out, size_t count) {
    for (; count > 0; count--, in += 176, out += 256) {
        float d = load_half(in), dmin = load_half(in + 2);
        for (int s = 0; s < 8; s++) {
            int scale, minimum;
            scale_and_minimum(in + 4, s, &scale, &minimum);
            float factor = d * (float)scale, offset = dmin * (float)minimum;
            for (int l = 0; l < 32; l++) {
                int low = in[48 + s / 2 * 32 + l] >> (s % 2 * 4) & 15;
                int high = in[16 + l] >> s & 1;
                out[32 * s + l] = factor * (float)(low | high << 4) - offset;
            }
        }
    }
}

// low nibbles 128: of each 128 elements, the first 64 in low halves | top bits 64 as Q2_K's | int8 scales 16 | d 2
static void widen_q6_K(const uint8_t *in, float *out, size_t count) {
    for (; count > 0; count--, in += 210, out += 256) {
        float d = load_half(in + 208);
        for (int e = 0; e < 256; e++) {
            int low = in[e / 128 * 64 + e % 64] >> (e % 128 / 64 * 4) & 15;
            int high = in[128 + e / 128 * 32 + e % 32] >> (e % 128 / 32 * 2) & 3;
            float factor = d * (float)(int8_t)in[192 + e / 16];
            out[e] = factor * (float)((low | high << 4) - 32);
        }
    }
}

/// What the 16 codes of the IQ4 formats stand for.
static const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

// d 2 | codes 16, placed as Q4_0's nibbles
static void widen_iq4_NL(const uint8_t *in, float *out, size_t count) {
    for (; count > 0; count--, in += 18, out += 32) {
        float d = load_half(in);
        for (int i = 0; i < 16; i++) {
            out[i] = d * (float)iq4_values[in[2 + i] & 15];
            out[16 + i] = d * (float)iq4_values[in[2 + i] >> 4];
        }
    }
}

// d 2 | top bits of scales 2: bits 2s | low halves of scales 4: nibble s | codes 128: 16 bytes for 32 elements, as Q4_0
static void widen_iq4_XS(const uint8_t *in, float *out, size_t count) {
    for (; count > 0; count--, in += 136, out += 256) {
        float d = load_half(in);
        for (int s = 0; s < 8; s++) {
            int low = in[4 + s / 2] >> (s % 2 * 4) & 15;
            int high = (int)(load16(in + 2) >> (2 * s) & 3);
            float factor = d * (float)((low | high << 4) - 32);
            for (int i = 0; i < 16; i++) {
                int codes = in[8 + 16 * s + i];
                out[32 * s + i] = factor * (float)iq4_values[codes & 15];
                out[32 * s + 16 + i] = factor * (float)iq4_values[codes >> 4];
            }
        }
    }
}

int sk_dequantize_row(int32_t type, const void *blocks, float *out, size_t n) {
    const sk_tensor_format *format = sk_tensor_format_find(type);
    if (format == NULL || n % (size_t)format->block_elements != 0) return -1;
    size_t count = n / (size_t)format->block_elements;
    switch (type) {
        case 0: memcpy(out, blocks, n * sizeof *out); break;
        case 1: widen_f16(blocks, out, count); break;
        case 2: widen_q4_0(blocks, out, count); break;
        case 3: widen_q4_1(blocks, out, count); break;
        case 6: widen_q5_0(blocks, out, count); break;
        case 7: widen_q5_1(blocks, out, count); break;
        case 8: widen_q8_0(blocks, out, count); break;
        case 10: widen_q2_K(blocks, out, count); break;
        case 11: widen_q3_K(blocks, out, count); break;
        case 12: widen_q4_K(blocks, out, count); break;
        case 13: widen_q5_K(blocks, out, count); break;
        case 14: widen_q6_K(blocks, out, count); break;
        case 20: widen_iq4_NL(blocks, out, count); break;
        case 23: widen_iq4_XS(blocks, out, count); break;
        case 30: widen_bf16(blocks, out, count); break;
    }
    return 0;
}
