// One quantised activation row in memory (SK_ACTIVATION_Q8_32), all parts aligned to 64 bytes:
//   int8[columns] values, f32[blocks] scales s, int32[blocks] -S, f32[blocks] t = s * S.
// The sum is kept negated because the products start their integer accumulator with a multiple of -S.

#ifndef SK_ACTIVATION_ROW_H
#define SK_ACTIVATION_ROW_H

#include <stddef.h>
#include <stdint.h>

enum { Q8_BLOCK = 32 };

static inline size_t sk_align64(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

typedef struct activation_row {
    const int8_t *q;             // [columns]
    const float *scale;          // [blocks]
    const int32_t *minus_sum;    // [blocks]
    const float *scaled_sum;     // [blocks]
} activation_row;

static inline size_t activation_row_bytes(int32_t columns) {
    size_t blocks = (size_t)columns / Q8_BLOCK;
    return sk_align64((size_t)columns) + 3 * sk_align64(blocks * sizeof(float));
}

static inline activation_row activation_row_at(const void *base, int32_t columns) {
    const char *p = base;
    size_t values = sk_align64((size_t)columns);
    size_t part = sk_align64((size_t)columns / Q8_BLOCK * sizeof(float));
    return (activation_row){
        (const int8_t *)p,
        (const float *)(p + values),
        (const int32_t *)(p + values + part),
        (const float *)(p + values + 2 * part),
    };
}

#endif
