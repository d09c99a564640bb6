// Products with quantised weights: the walk over tiles. The instruction set's file has given, before it includes this,
//   INT8_GROUPS                                      row groups of its large tile
//   int8_dots(type, C, quants, q, dots)              dots[c] += 16 rows' exact dot products of one block, for C columns
// and lanes carry the rest. The rule of each type stands in the public header.

#ifndef SK_PRODUCT_INT8_H
#define SK_PRODUCT_INT8_H

#include "kernels.h"
#include "packed_block.h"
#include "product_float.h"

SK_INLINE void int8_tile(sk_type type, const int G, const int C, const product_range *range, int32_t group, int32_t column) {
    const int32_t blocks = range->columns / Q8_BLOCK;
    const size_t block_bytes = packed_block_bytes(type), group_bytes = block_bytes * (size_t)blocks;
    const uint8_t *w = range->packed + (size_t)group * group_bytes;
    activation_row x[C];
    SK_UNROLL for (int c = 0; c < C; c++)
        x[c] = activation_row_at(range->activations + (size_t)(column + c) * range->stride, range->columns);

    lanes acc[G][C];
    SK_UNROLL for (int g = 0; g < G; g++)
        SK_UNROLL for (int c = 0; c < C; c++) acc[g][c] = lanes_splat(0.0f);
    for (int32_t b = 0; b < blocks; b++) {
        const int8_t *q[C];
        SK_UNROLL for (int c = 0; c < C; c++) q[c] = x[c].q + (size_t)b * Q8_BLOCK;
        SK_UNROLL for (int g = 0; g < G; g++) {
            const uint8_t *block = w + (size_t)g * group_bytes + (size_t)b * block_bytes;
            const uint16_t *scales = (const uint16_t *)(const void *)(block + packed_quants_bytes(type));
            ilanes dots[C];
            SK_UNROLL for (int c = 0; c < C; c++)
                dots[c] = packed_shift(type) < 0 ? ilanes_splat(0) : ilanes_splat(x[c].minus_sum[b]) << packed_shift(type);
            int8_dots(type, C, block, q, dots);
            lanes d = lanes_from_f16(hlanes_load(scales));
            SK_UNROLL for (int c = 0; c < C; c++)
                acc[g][c] = lanes_fma(d * lanes_splat(x[c].scale[b]), lanes_to_float(dots[c]), acc[g][c]);
            if (type != SK_TYPE_Q4_1) continue;
            lanes m = lanes_from_f16(hlanes_load(scales + LANES));
            SK_UNROLL for (int c = 0; c < C; c++) acc[g][c] = lanes_fma(m, lanes_splat(x[c].scaled_sum[b]), acc[g][c]);
        }
    }
    SK_UNROLL for (int g = 0; g < G; g++)
        SK_UNROLL for (int c = 0; c < C; c++) {
            int32_t row = (group + g) * LANES;
            store_rows(range->out + (size_t)(column + c) * range->ldo + row, acc[g][c], range->rows - row);
        }
}

SK_INLINE void int8_groups(sk_type type, const int G, const product_range *range, int32_t group) {
    int32_t column = 0;
    for (; column + 4 <= range->batch; column += 4) int8_tile(type, G, 4, range, group, column);
    switch (range->batch - column) {
        case 3: int8_tile(type, G, 3, range, group, column); break;
        case 2: int8_tile(type, G, 2, range, group, column); break;
        case 1: int8_tile(type, G, 1, range, group, column); break;
    }
}

enum { SHORT_GROUP_BYTES = 48 * 1024 };

/// Several groups at a time share the activations and keep more sums in flight. But each group is a stream of its own from memory, and
/// where streams are short the processor's prefetchers lose more time starting them than a few columns take: then one after another.
SK_INLINE void int8_product(sk_type type, const product_range *range) {
    const size_t group_bytes = packed_block_bytes(type) * (size_t)(range->columns / Q8_BLOCK);
    const bool one_stream = range->batch == 1 || (range->batch <= 4 && group_bytes <= SHORT_GROUP_BYTES);
    int32_t group = 0;
    if (!one_stream)
        for (; group + INT8_GROUPS <= range->groups; group += INT8_GROUPS) int8_groups(type, INT8_GROUPS, range, group);
    for (; group < range->groups; group++) int8_groups(type, 1, range, group);
}

static void product_q4_0(const product_range *range) { int8_product(SK_TYPE_Q4_0, range); }
static void product_q4_1(const product_range *range) { int8_product(SK_TYPE_Q4_1, range); }
static void product_q8_0(const product_range *range) { int8_product(SK_TYPE_Q8_0, range); }

#endif
