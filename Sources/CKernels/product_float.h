// Products with float weights (f32, f16, bf16). Packed: for each row group [columns][16 rows].
// A tile of G row groups x C columns has one accumulator in each lane; widening is shared by the columns.

#ifndef SK_PRODUCT_FLOAT_H
#define SK_PRODUCT_FLOAT_H

#include "halves.h"
#include "kernels.h"

enum { FLOAT_BLOCK = 256 };

SK_INLINE size_t float_weight_bytes(sk_type type) { return type == SK_TYPE_F32 ? 4 : 2; }

SK_INLINE lanes float_weights(sk_type type, const uint8_t *p) {
    if (type == SK_TYPE_F32) return lanes_load((const float *)(const void *)p);
    hlanes h = hlanes_load((const uint16_t *)(const void *)p);
    return type == SK_TYPE_F16 ? lanes_from_f16(h) : lanes_from_bf16(h);
}

SK_INLINE lanes load_rows(const float *out, int32_t rows) {
    return rows >= LANES ? lanes_load(out) : lanes_load_first(out, (size_t)rows);
}

/// Stores one group's 16 outputs, or as many as there are rows.
SK_INLINE void store_rows(float *out, lanes v, int32_t rows) {
    if (rows >= LANES) lanes_store(out, v);
    else if (rows > 0) lanes_store_first(out, v, (size_t)rows);
}

SK_INLINE void float_tile(sk_type type, const int G, const int C, const product_range *range, int32_t group, int32_t column) {
    const size_t step = float_weight_bytes(type) * LANES;
    const size_t group_bytes = step * (size_t)range->columns;
    const uint8_t *w = range->packed + (size_t)group * group_bytes;
    const float *x[C];
    SK_UNROLL for (int c = 0; c < C; c++)
        x[c] = (const float *)(const void *)(range->activations + (size_t)(column + c) * range->stride);

    lanes total[G][C];
    SK_UNROLL for (int g = 0; g < G; g++)
        SK_UNROLL for (int c = 0; c < C; c++) total[g][c] = lanes_splat(0.0f);
    for (int32_t start = 0; start < range->columns; start += FLOAT_BLOCK) {
        int32_t end = range->columns - start < FLOAT_BLOCK ? range->columns : start + FLOAT_BLOCK;
        lanes block[G][C];
        SK_UNROLL for (int g = 0; g < G; g++)
            SK_UNROLL for (int c = 0; c < C; c++) block[g][c] = lanes_splat(0.0f);
        for (int32_t k = start; k < end; k++) {
            SK_UNROLL for (int g = 0; g < G; g++) {
                lanes weights = float_weights(type, w + (size_t)g * group_bytes + (size_t)k * step);
                SK_UNROLL for (int c = 0; c < C; c++) block[g][c] = lanes_fma(weights, lanes_splat(x[c][k]), block[g][c]);
            }
        }
        SK_UNROLL for (int g = 0; g < G; g++)
            SK_UNROLL for (int c = 0; c < C; c++) total[g][c] = total[g][c] + block[g][c];
    }
    SK_UNROLL for (int g = 0; g < G; g++)
        SK_UNROLL for (int c = 0; c < C; c++) {
            int32_t row = (group + g) * LANES;
            store_rows(range->out + (size_t)(column + c) * range->ldo + row, total[g][c], range->rows - row);
        }
}

// How many groups and columns a tile has: as many as the registers of the instruction set hold.
#if defined(SK_HAS_AVX512)
enum { FLOAT_GROUPS = 4 };
#else
enum { FLOAT_GROUPS = 1 };
#endif

SK_INLINE void float_groups(sk_type type, const int G, const product_range *range, int32_t group) {
    int32_t column = 0;
    for (; column + 4 <= range->batch; column += 4) float_tile(type, G, 4, range, group, column);
    switch (range->batch - column) {
        case 3: float_tile(type, G, 3, range, group, column); break;
        case 2: float_tile(type, G, 2, range, group, column); break;
        case 1: float_tile(type, G, 1, range, group, column); break;
    }
}

SK_INLINE void float_product(sk_type type, const product_range *range) {
    int32_t group = 0;
    for (; group + FLOAT_GROUPS <= range->groups; group += FLOAT_GROUPS) float_groups(type, FLOAT_GROUPS, range, group);
    for (; group < range->groups; group++) float_groups(type, 1, range, group);
}

static void product_f32(const product_range *range) { float_product(SK_TYPE_F32, range); }
static void product_f16(const product_range *range) { float_product(SK_TYPE_F16, range); }
static void product_bf16(const product_range *range) { float_product(SK_TYPE_BF16, range); }

#endif
