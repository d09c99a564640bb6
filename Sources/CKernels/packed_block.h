// How one block of 32 columns of a row group lies in a packed matrix, for the types that multiply in 8-bit integers. Blocks of a group
// follow each other, groups follow each other, nothing lies between:
//
//   Q4_0  64 bytes x 4, then f16 d[16]              byte (j, 4r + t): low half q of row r, element 4j + t; high half element 16 + 4j + t
//   Q4_1  64 bytes x 4, then f16 d[16], f16 m[16]   as Q4_0
//   Q8_0  64 bytes x 8, then f16 d[16]              byte (j, 4r + t): q + 128 of row r, element 4j + t
//
// So a 32-bit lane holds four elements of its row, as the dot-product instructions take them: weights unsigned, activations signed.
//
// Bounds of a block's integer sum: 4 bit 15 * 127 * 32 = 60,960, or, with 8 S folded in, 8 * 127 * 32 more: 93,472;
// 8 bit 255 * 127 * 32 = 1,036,320 and 128 S, 520,192: all below 2^24, so exact as int32 and exact again as float.

#ifndef SK_PACKED_BLOCK_H
#define SK_PACKED_BLOCK_H

#include "activation_row.h"
#include "staffel_kernels.h"

static inline size_t packed_quants_bytes(sk_type type) { return type == SK_TYPE_Q8_0 ? 512 : 256; }
static inline size_t packed_block_bytes(sk_type type) {
    return packed_quants_bytes(type) + (type == SK_TYPE_Q4_1 ? 64 : 32);
}
/// log2 of what weights are shifted by, so that S << shift is to be taken off the sum; -1 for none.
static inline int packed_shift(sk_type type) { return type == SK_TYPE_Q4_0 ? 3 : type == SK_TYPE_Q8_0 ? 7 : -1; }

#endif
