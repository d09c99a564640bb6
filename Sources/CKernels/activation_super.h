// One quantised activation row in memory (SK_ACTIVATION_Q8_256), all parts aligned to 64 bytes:
//   int8[columns] values, f32[blocks] scales s, int16[blocks][16] -S of each 16 values, int16[blocks][8] -S of each 32 values.
// Sums are kept negated because the products only ever subtract them, and in the order 0 2 1 3, 4 6 5 7, ... because the products read two
// at a time beside the even, then the odd bytes of a word of scales. |S| <= 32 * 127 = 4,064.

#ifndef SK_ACTIVATION_SUPER_H
#define SK_ACTIVATION_SUPER_H

#include "activation_row.h"
#include "packed_super.h"

/// Where the parts of a row of so many columns begin, in bytes; the values begin at 0.
typedef struct super_row_parts {
    size_t scales, sums_16, sums_32, end;
} super_row_parts;

static inline super_row_parts super_row_parts_of(int32_t columns) {
    const size_t blocks = (size_t)columns / SUPER_BLOCK, scales = (size_t)columns;
    const size_t sums_16 = scales + sk_align64(blocks * sizeof(float)), sums_32 = sums_16 + sk_align64(blocks * 32);
    return (super_row_parts){scales, sums_16, sums_32, sums_32 + sk_align64(blocks * 16)};
}

static inline size_t super_row_bytes(int32_t columns) { return super_row_parts_of(columns).end; }

#endif
