// How one block of 256 columns of a row group lies in a packed matrix, for the types whose blocks have parts with integer scales of their
// own (the K-quants and IQ4_XS). Blocks of a group follow each other, groups follow each other, nothing lies between:
//
//   scale bytes | f16 d[16] | f16 dmin[16] (Q2_K, Q4_K, Q5_K) | 8 slices of 32 columns: vectors of the low plane and of the high plane
//
// A *step* is four columns, 4g ... 4g + 3; 8 steps make a slice. A plane of B bits holds 8 / B steps in each 64 bytes: byte 4r + t of its
// vector n has, from bit B * s on, what row r holds of column 4 (8 n / B + s) + t of the slice. So a 32-bit lane is a row, a shift and a mask
// give a step's four weights as the dot-product instructions take them, and the planes of a weight merge without moving between bytes.
// A vector of the high plane stands before those of the low plane that have the same steps, so that everything is read once and in
// ascending order: with the planes of a whole block apart the processor's prefetchers lost the thread, and Q5_K and Q6_K came from memory at
// a third of the speed.
//
//   type    columns of a part   low plane   high plane   scale bytes of a row
//   Q2_K    16                  2 bits      -            16: low half the scale, high half the minimum of part i
//   Q3_K    16                  2 bits      1 bit        12, as in the file
//   Q4_K    32                  4 bits      -            12, as in the file
//   Q5_K    32                  4 bits      1 bit        12, as in the file
//   Q6_K    16                  4 bits      2 bits       16: signed
//   IQ4_XS  32                  4 bits      -            4: low halves of scales i (low) and i + 4 (high); 2: their top bits, see packed_super.c
//
// Scale bytes lie in words of four: byte i of row r at 64 (i / 4) + 4r + i % 4; the two last of IQ4_XS at 64 + 2r.
//
// Bounds of a block's integers, for any bytes whatever (|a| <= 127, 256 columns):
//   sum scale u a, u the weight as stored: Q2_K 15 * 3, Q3_K 32 * 7, Q4_K 63 * 15, Q5_K 63 * 31, Q6_K 128 * 63, IQ4_XS 32 * 241 times 32,512:
//   at most 262,176,768 (Q6_K);
//   sum scale z S, z what was added to make weights unsigned: Q3_K 32 * 4, Q6_K 128 * 32, IQ4_XS 32 * 128 times 32,512: at most 133,169,152;
//   sum min S: at most 63 * 32,512 = 2,048,256.
// So no sum of these leaves an int32. Many are above 2^24: their conversion to float rounds, once.

#ifndef SK_PACKED_SUPER_H
#define SK_PACKED_SUPER_H

#include "staffel_kernels.h"

enum {
    SUPER_BLOCK = 256,  // columns
    SUPER_SLICES = 8,
    SUPER_SLICE_STEPS = 8,
    SUPER_PARTS = 16,  // at most
};

static inline bool is_super(uint32_t type) {
    switch (type) {
        case SK_TYPE_Q2_K: case SK_TYPE_Q3_K: case SK_TYPE_Q4_K: case SK_TYPE_Q5_K: case SK_TYPE_Q6_K: case SK_TYPE_IQ4_XS: return true;
        default: return false;
    }
}

/// Columns that share a scale.
static inline int super_part(sk_type type) {
    return type == SK_TYPE_Q4_K || type == SK_TYPE_Q5_K || type == SK_TYPE_IQ4_XS ? 32 : 16;
}
static inline int super_low_bits(sk_type type) { return type == SK_TYPE_Q2_K || type == SK_TYPE_Q3_K ? 2 : 4; }
static inline int super_high_bits(sk_type type) {
    return type == SK_TYPE_Q6_K ? 2 : type == SK_TYPE_Q3_K || type == SK_TYPE_Q5_K ? 1 : 0;
}
static inline bool super_has_minima(sk_type type) { return type == SK_TYPE_Q2_K || type == SK_TYPE_Q4_K || type == SK_TYPE_Q5_K; }
/// log2 of what was added to weights to make them unsigned, in the types without minima. In IQ4_XS the products do so where their
/// instruction set asks for it: the packed codes are mere numbers.
static inline int super_zero_shift(sk_type type) { return type == SK_TYPE_Q6_K ? 5 : type == SK_TYPE_Q3_K ? 2 : 7; }

/// Bytes of a row's scales in a block.
static inline size_t super_scale_bytes(sk_type type) {
    return type == SK_TYPE_Q2_K || type == SK_TYPE_Q6_K ? 16 : type == SK_TYPE_IQ4_XS ? 6 : 12;
}

static inline size_t super_slice_bytes(sk_type type) { return 64 * (size_t)(super_low_bits(type) + super_high_bits(type)); }
// Where vector n of a plane lies in a slice.
static inline size_t super_low_at(sk_type type, int n) {
    const int top = super_high_bits(type);
    return 64 * (size_t)(top == 0 ? n : n + n / (super_low_bits(type) / top) + 1);
}
static inline size_t super_high_at(sk_type type, int n) { return 64 * (size_t)n * (size_t)(1 + super_low_bits(type) / super_high_bits(type)); }
// Where the fields of a block begin; scales at 0.
static inline size_t super_d_at(sk_type type) { return super_scale_bytes(type) * SK_ROW_GROUP; }
static inline size_t super_slices_at(sk_type type) { return super_d_at(type) + (size_t)(super_has_minima(type) ? 4 : 2) * SK_ROW_GROUP; }
static inline size_t super_block_bytes(sk_type type) { return super_slices_at(type) + SUPER_SLICES * super_slice_bytes(type); }

/// What the 16 codes of IQ4_XS stand for.
#define SUPER_CODES -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113

/// Puts a row of a file into its place in a group, `row` < SK_ROW_GROUP. source: columns / 256 blocks, any alignment.
void super_pack_row(sk_type type, const uint8_t *source, int32_t row, int32_t columns, uint8_t *group);
/// The dequantised values of a row of a group. out: f32[columns].
void super_row_to_f32(sk_type type, const uint8_t *group, int32_t row, int32_t columns, float *out);

#endif
