// How one block of 32 columns of a row group lies in a packed matrix, for the types that multiply in 8-bit integers. Blocks of a group
// follow each other, groups follow each other, nothing lies between:
//
//   Q4_0    f16 d[16], 64 bytes x 4                     byte (j, 4r + t): low half q of row r, element 4j + t; high half element 16 + 4j + t
//   Q4_1    f16 d[16], f16 m[16], 64 bytes x 4          as Q4_0
//   Q5_0    f16 d[16], 64 bytes, 64 bytes x 4           first fifth bits: bit 4h + j of byte 4r + t is that of element 16h + 4j + t; then as Q4_0
//   Q5_1    f16 d[16], f16 m[16], 64 bytes, 64 bytes x 4  as Q5_0
//   Q8_0    f16 d[16], 64 bytes x 8                     byte (j, 4r + t): q + 128 of row r, element 4j + t
//   IQ4_NL  f16 d[16], 64 bytes x 4                     as Q4_0, q being the number of a value of the table
//
// Fields lie in the order in which they are read: the processor's prefetchers lose a stream that goes back and forth.
//
// So a 32-bit lane holds four elements of its row, as the dot-product instructions take them: weights unsigned, activations signed.
// Signed weights are shifted: by 8 (Q4_0), 16 (Q5_0) or 128 (Q8_0, IQ4_NL).
//
// Bounds of a block's integer sum: 4 bit 15 * 127 * 32 = 60,960, or, with 8 S folded in, 8 * 127 * 32 more: 93,472;
// 5 bit 31 * 127 * 32 = 125,984 and 16 S, 65,024; 8 bit 255 * 127 * 32 = 1,036,320 and 128 S, 520,192; IQ4_NL is less, since
// its shifted values are 1...241. All below 2^24, so exact as int32 and exact again as float.

#ifndef SK_PACKED_BLOCK_H
#define SK_PACKED_BLOCK_H

#include "activation_row.h"
#include "staffel_kernels.h"

/// Whether two elements share a byte.
static inline bool packed_nibbles(sk_type type) { return type != SK_TYPE_Q8_0; }
static inline bool packed_fifth_bits(sk_type type) { return type == SK_TYPE_Q5_0 || type == SK_TYPE_Q5_1; }
static inline bool packed_minimum(sk_type type) { return type == SK_TYPE_Q4_1 || type == SK_TYPE_Q5_1; }

/// Where the 64-byte vectors of a block begin; scales lie at 0, minima at 32, fifth bits just before this.
static inline size_t packed_quants_at(sk_type type) { return (packed_minimum(type) ? 64 : 32) + (packed_fifth_bits(type) ? 64 : 0); }
static inline size_t packed_block_bytes(sk_type type) { return packed_quants_at(type) + (packed_nibbles(type) ? 256 : 512); }

/// log2 of what weights are shifted by, so that S << shift is to be taken off the sum; -1 for none.
static inline int packed_shift(sk_type type) {
    switch (type) {
        case SK_TYPE_Q4_0: return 3;
        case SK_TYPE_Q5_0: return 4;
        case SK_TYPE_Q8_0: case SK_TYPE_IQ4_NL: return 7;
        default: return -1;
    }
}

/// What the 16 codes of IQ4_NL stand for.
static const int8_t packed_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

#endif
