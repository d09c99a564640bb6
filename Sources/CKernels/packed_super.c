// Packing of the types with 256-column blocks, and back to floats. Both go through one block of one row in plain form. Layouts: in the
// files above dequant.c's functions, packed in packed_super.h.

#include "halves.h"
#include "packed_super.h"

/// One block of one row.
typedef struct plain_block {
    uint8_t q[SUPER_BLOCK];           // as stored: unsigned, codes for IQ4_XS
    uint8_t scales[SUPER_PARTS];      // the packed scale bytes
    uint16_t d, dmin;                 // f16
} plain_block;

// ---- From the file

/// IQ4_XS: nibble s of four bytes has the low half of scale s, bits 2s of 16 its top. Packed, scale i is found in byte i % 4, low half for
/// i < 4, and its top at bits 8 (i % 2) + 2 (i / 2): a word of four scales is then a mask, two shifts and an or.
static void plain_iq4_scales(const uint8_t *tops, const uint8_t *halves, uint8_t *scales) {
    memset(scales, 0, 6);
    uint32_t top = (uint32_t)tops[0] | (uint32_t)tops[1] << 8;
    for (int s = 0; s < 8; s++) {
        int half = halves[s / 2] >> (s % 2 * 4) & 15;
        scales[s % 4] |= (uint8_t)(half << (s / 4 * 4));
        scales[4 + s % 2] |= (uint8_t)((top >> (2 * s) & 3) << (s / 2 * 2));
    }
}

/// A file's block; the offsets of its fields are those of dequant.c.
static void plain_from_file(sk_type type, const uint8_t *in, plain_block *out) {
    const uint8_t *low = in, *high = in, *scales = in, *d = in, *dmin = NULL;
    switch (type) {
        case SK_TYPE_Q2_K: low = in + 16; d = in + 80; dmin = in + 82; break;
        case SK_TYPE_Q3_K: low = in + 32; scales = in + 96; d = in + 108; break;
        case SK_TYPE_Q4_K: low = in + 16; scales = in + 4; dmin = in + 2; break;
        case SK_TYPE_Q5_K: low = in + 48; high = in + 16; scales = in + 4; dmin = in + 2; break;
        case SK_TYPE_Q6_K: high = in + 128; scales = in + 192; d = in + 208; break;
        default: low = in + 8; break;
    }
    memcpy(&out->d, d, 2);
    out->dmin = 0;
    if (dmin != NULL) memcpy(&out->dmin, dmin, 2);
    if (type == SK_TYPE_IQ4_XS) plain_iq4_scales(in + 2, in + 4, out->scales);
    else memcpy(out->scales, scales, super_scale_bytes(type));

    // A run of consecutive columns lies in consecutive bytes: 16 in IQ4_XS, 64 in Q6_K, 32 in the others.
    const int run = type == SK_TYPE_IQ4_XS ? 16 : type == SK_TYPE_Q6_K ? 64 : 32;
    const int bits = super_low_bits(type), runs = 8 / bits;
    for (int e = 0; e < SUPER_BLOCK; e += run)
        for (int i = 0; i < run; i++) out->q[e + i] = low[e / (run * runs) * run + i] >> (e / run % runs * bits) & ((1 << bits) - 1);
    if (super_high_bits(type) == 1)
        for (int e = 0; e < SUPER_BLOCK; e += 32)
            for (int i = 0; i < 32; i++) out->q[e + i] |= (uint8_t)((high[i] >> (e / 32) & 1) << bits);
    if (super_high_bits(type) == 2)
        for (int e = 0; e < SUPER_BLOCK; e += 32)
            for (int i = 0; i < 32; i++) out->q[e + i] |= (uint8_t)((high[e / 128 * 32 + i] >> (e % 128 / 32 * 2) & 3) << bits);
}

// ---- To and from the packed block

/// Where vector n of the low plane, or of the high one, lies in a slice.
static size_t vector_at(sk_type type, bool high, int n) { return high ? super_high_at(type, n) : super_low_at(type, n); }

/// One row of a plane, from q[32], a slice's weights.
static void put_plane(sk_type type, bool high, const uint8_t *q, int32_t row, uint8_t *slice) {
    const int bits = high ? super_high_bits(type) : super_low_bits(type), from = high ? super_low_bits(type) : 0;
    const int steps = 8 / bits;
    for (int n = 0; n < bits; n++) {
        uint32_t word = 0;
        for (int s = 0; s < steps; s++) {
            uint32_t four;
            memcpy(&four, q + 4 * (n * steps + s), 4);
            word |= (four >> from & ((1u << bits) - 1) * 0x01010101u) << (bits * s);
        }
        memcpy(slice + vector_at(type, high, n) + 4 * row, &word, 4);
    }
}

/// Adds such a row's bits to q[32].
static void get_plane(sk_type type, bool high, const uint8_t *slice, int32_t row, uint8_t *q) {
    const int bits = high ? super_high_bits(type) : super_low_bits(type), from = high ? super_low_bits(type) : 0;
    const int steps = 8 / bits;
    for (int g = 0; g < SUPER_SLICE_STEPS; g++)
        for (int t = 0; t < 4; t++) {
            int value = slice[vector_at(type, high, g / steps) + 4 * (size_t)row + t] >> (bits * (g % steps)) & ((1 << bits) - 1);
            q[4 * g + t] |= (uint8_t)(value << from);
        }
}

/// Where byte `i` of a row's scales lies.
static size_t scale_at(sk_type type, int32_t row, size_t i) {
    if (type == SK_TYPE_IQ4_XS && i >= 4) return 64 + 2 * (size_t)row + i - 4;
    return 64 * (i / 4) + 4 * (size_t)row + i % 4;
}

void super_pack_row(sk_type type, const uint8_t *source, int32_t row, int32_t columns, uint8_t *group) {
    const size_t file_bytes = super_block_bytes(type) / SK_ROW_GROUP;
    for (int32_t b = 0; b < columns / SUPER_BLOCK; b++) {
        uint8_t *block = group + (size_t)b * super_block_bytes(type);
        plain_block plain;
        plain_from_file(type, source + (size_t)b * file_bytes, &plain);
        for (int i = 0; i < SUPER_SLICES; i++) {
            uint8_t *slice = block + super_slices_at(type) + (size_t)i * super_slice_bytes(type);
            put_plane(type, false, plain.q + 32 * i, row, slice);
            if (super_high_bits(type) > 0) put_plane(type, true, plain.q + 32 * i, row, slice);
        }
        for (size_t i = 0; i < super_scale_bytes(type); i++) block[scale_at(type, row, i)] = plain.scales[i];
        memcpy(block + super_d_at(type) + 2 * (size_t)row, &plain.d, 2);
        if (super_has_minima(type)) memcpy(block + super_d_at(type) + 32 + 2 * (size_t)row, &plain.dmin, 2);
    }
}

static void plain_from_packed(sk_type type, const uint8_t *block, int32_t row, plain_block *out) {
    *out = (plain_block){0};
    for (int i = 0; i < SUPER_SLICES; i++) {
        const uint8_t *slice = block + super_slices_at(type) + (size_t)i * super_slice_bytes(type);
        get_plane(type, false, slice, row, out->q + 32 * i);
        if (super_high_bits(type) > 0) get_plane(type, true, slice, row, out->q + 32 * i);
    }
    for (size_t i = 0; i < super_scale_bytes(type); i++) out->scales[i] = block[scale_at(type, row, i)];
    memcpy(&out->d, block + super_d_at(type) + 2 * (size_t)row, 2);
    if (super_has_minima(type)) memcpy(&out->dmin, block + super_d_at(type) + 32 + 2 * (size_t)row, 2);
}

// ---- To floats

/// Scale and minimum of a part; the packed bytes' meaning stands in packed_super.h.
static void scale_of(sk_type type, const uint8_t *p, int part, int *scale, int *minimum) {
    *minimum = 0;
    switch (type) {
        case SK_TYPE_Q2_K:
            *scale = p[part] & 15;
            *minimum = p[part] >> 4;
            break;
        case SK_TYPE_Q3_K:
            *scale = ((part < 8 ? p[part] & 15 : p[part - 8] >> 4) | (p[8 + part % 4] >> (part / 4 * 2) & 3) << 4) - 32;
            break;
        case SK_TYPE_Q6_K: *scale = (int8_t)p[part]; break;
        case SK_TYPE_IQ4_XS:
            *scale = ((p[part % 4] >> (part / 4 * 4) & 15) | (p[4 + part % 2] >> (part / 2 * 2) & 3) << 4) - 32;
            break;
        default:
            *scale = part < 4 ? p[part] & 63 : (p[4 + part] & 15) | (p[part - 4] >> 6) << 4;
            *minimum = part < 4 ? p[4 + part] & 63 : p[4 + part] >> 4 | (p[part] >> 6) << 4;
    }
}

static float widen_f16(uint16_t half) {
    uint16_t padded[LANES] = {half};
    return lanes_from_f16(hlanes_load(padded))[0];
}

void super_row_to_f32(sk_type type, const uint8_t *group, int32_t row, int32_t columns, float *out) {
    static const int8_t codes[16] = {SUPER_CODES};
    const int part = super_part(type), zero = 1 << super_zero_shift(type);
    for (int32_t b = 0; b < columns / SUPER_BLOCK; b++, out += SUPER_BLOCK) {
        plain_block plain;
        plain_from_packed(type, group + (size_t)b * super_block_bytes(type), row, &plain);
        float d = widen_f16(plain.d), dmin = widen_f16(plain.dmin);
        for (int p = 0; p < SUPER_BLOCK / part; p++) {
            int scale, minimum;
            scale_of(type, plain.scales, p, &scale, &minimum);
            float factor = d * (float)scale, offset = dmin * (float)minimum;
            for (int i = p * part; i < (p + 1) * part; i++) {
                if (super_has_minima(type)) out[i] = factor * (float)plain.q[i] - offset;
                else out[i] = factor * (float)(type == SK_TYPE_IQ4_XS ? codes[plain.q[i]] : plain.q[i] - zero);
            }
        }
    }
}
