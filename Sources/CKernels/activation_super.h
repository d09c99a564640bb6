// One quantised activation row in memory (SK_ACTIVATION_Q8_256), all parts aligned to 64 bytes:
//   int8[columns] values, f32[blocks] scales s, int16[blocks][16] -S of each 16 values, int16[blocks][8] -S of each 32 values.
// Sums are kept negated because the products only ever subtract them, and in the order 0 2 1 3, 4 6 5 7, ... because the products read two
// at a time beside the even, then the odd bytes of a word of scales. |S| <= 32 * 127 = 4,064.

#ifndef SK_ACTIVATION_SUPER_H
#define SK_ACTIVATION_SUPER_H

#include "activation_row.h"
#include "packed_super.h"

typedef struct super_row {
    const int8_t *q;              // [columns]
    const float *scale;           // [blocks]
    const int16_t *minus_sum_16;  // [blocks][16]
    const int16_t *minus_sum_32;  // [blocks][8]
} super_row;

static inline size_t super_row_bytes(int32_t columns) {
    size_t blocks = (size_t)columns / SUPER_BLOCK;
    return (size_t)columns + sk_align64(blocks * sizeof(float)) + sk_align64(blocks * 32) + sk_align64(blocks * 16);
}

static inline super_row super_row_at(const void *base, int32_t columns) {
    const char *p = base;
    size_t blocks = (size_t)columns / SUPER_BLOCK;
    size_t scales = (size_t)columns, sums_16 = scales + sk_align64(blocks * sizeof(float)), sums_32 = sums_16 + sk_align64(blocks * 32);
    return (super_row){
        (const int8_t *)p,
        (const float *)(const void *)(p + scales),
        (const int16_t *)(const void *)(p + sums_16),
        (const int16_t *)(const void *)(p + sums_32),
    };
}

#endif
