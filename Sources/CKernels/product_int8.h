// Products with quantised weights: the walk over tiles of one row group and a few columns. The instruction set's file has given, before
// it includes this,
//   INT8_COLUMNS                                     columns of the largest tile, at most 16: one register of sums each
//   INT8_STRIP                                       columns whose integer sums are in flight at once
//   int8_dots(type, C, quants, q, dots)              dots[c] += 16 rows' exact dot products of one block, for C columns
// and lanes carry the rest. The rule of each type stands in the public header.
//
// Activations are first laid side by side in a panel as the tiles read them, so that a tile has two streams, weights and panel, and the
// whole panel stays in the second-level cache while all row groups pass it. While a group is multiplied, the next one is brought near: as
// many columns take long to multiply, the processor's prefetchers would forget to. In a panel, tile by tile, and block by block in a tile
// of C columns:
//   int8 q[C][32], f32 s[C], f32 t[C], int32[C]: what integer sums start from

#ifndef SK_PRODUCT_INT8_H
#define SK_PRODUCT_INT8_H

#include "kernels.h"
#include "packed_block.h"
#include "product_float.h"

enum {
    PANEL_COLUMNS = 32,    // at most; so often are weights used each time they come from memory
    PANEL_BLOCKS = 8192,   // at most, columns times blocks of a column: 352 KiB on the stack
    PANEL_BLOCK_BYTES = Q8_BLOCK + 12,
};

/// The share of tile `tile` when `count` things are dealt to `tiles` evenly: where it begins.
SK_INLINE int32_t tile_start(int32_t count, int32_t tiles, int32_t tile) {
    return (int32_t)((int64_t)count * tile / tiles);
}

/// Lays `blocks` blocks of C columns out as one tile reads them. shift: of the type, see packed_shift.
static void panel_fill(const product_range *range, int shift, int32_t column, int32_t C, int32_t first, int32_t blocks, uint8_t *panel) {
    for (int32_t c = 0; c < C; c++) {
        activation_row x = activation_row_at(range->activations + (size_t)(column + c) * range->stride, range->columns);
        uint8_t *to = panel;
        for (int32_t b = first; b < first + blocks; b++, to += C * PANEL_BLOCK_BYTES) {
            memcpy(to + c * Q8_BLOCK, x.q + (size_t)b * Q8_BLOCK, Q8_BLOCK);
            int32_t start = shift < 0 ? 0 : x.minus_sum[b] * (1 << shift);
            uint8_t *rest = to + C * Q8_BLOCK + c * 4;
            memcpy(rest, x.scale + b, 4);
            memcpy(rest + C * 4, x.scaled_sum + b, 4);
            memcpy(rest + C * 8, &start, 4);
        }
    }
}

/// Adds `blocks` blocks to the C columns of one group's sums. sums: f32[C][16]. Meanwhile as many from `ahead` on are brought near.
SK_INLINE void int8_tile(sk_type type, const int C, const uint8_t *w, const uint8_t *ahead, const uint8_t *panel, int32_t blocks,
                         lanes *sums) {
    lanes acc[C];
    SK_UNROLL for (int c = 0; c < C; c++) acc[c] = sums[c];
    for (; blocks > 0; blocks--, w += packed_block_bytes(type), ahead += packed_block_bytes(type), panel += C * PANEL_BLOCK_BYTES) {
        // One column is bound by memory, and the processor's own prefetchers alone follow its one stream best.
        if (C > 1)
            SK_UNROLL for (size_t line = 0; line < packed_block_bytes(type); line += 64) __builtin_prefetch(ahead + line, 0, 2);
        const uint16_t *scales = (const uint16_t *)(const void *)w;
        const float *s = (const float *)(const void *)(panel + C * Q8_BLOCK), *t = s + C;
        const int32_t *start = (const int32_t *)(const void *)(t + C);
        const lanes d = lanes_from_f16(hlanes_load(scales));
        const lanes m = packed_minimum(type) ? lanes_from_f16(hlanes_load(scales + LANES)) : d;
        SK_UNROLL for (int first = 0; first < C; first += INT8_STRIP) {
            const int strip = C - first < INT8_STRIP ? C - first : INT8_STRIP;
            const int8_t *q[INT8_STRIP];
            ilanes dots[INT8_STRIP];
            SK_UNROLL for (int c = 0; c < strip; c++) {
                q[c] = (const int8_t *)panel + (first + c) * Q8_BLOCK;
                dots[c] = ilanes_splat(packed_shift(type) < 0 ? 0 : start[first + c]);
            }
            int8_dots(type, strip, w + packed_quants_at(type), q, dots);
            SK_UNROLL for (int c = 0; c < strip; c++)
                acc[first + c] = lanes_fma(d * lanes_splat(s[first + c]), lanes_to_float(dots[c]), acc[first + c]);
            if (packed_minimum(type))
                SK_UNROLL for (int c = 0; c < strip; c++) acc[first + c] = lanes_fma(m, lanes_splat(t[first + c]), acc[first + c]);
        }
    }
    SK_UNROLL for (int c = 0; c < C; c++) sums[c] = acc[c];
}

#define SK_INT8_TILE(C)                                                                                   \
    case C:                                                                                               \
        if (C <= INT8_COLUMNS) int8_tile(type, C <= INT8_COLUMNS ? C : 1, w, ahead, panel, blocks, sums); \
        break;

SK_INLINE void int8_tile_of(sk_type type, int32_t columns, const uint8_t *w, const uint8_t *ahead, const uint8_t *panel, int32_t blocks,
                            lanes *sums) {
    switch (columns) {
        SK_INT8_TILE(1) SK_INT8_TILE(2) SK_INT8_TILE(3) SK_INT8_TILE(4) SK_INT8_TILE(5) SK_INT8_TILE(6) SK_INT8_TILE(7) SK_INT8_TILE(8)
        SK_INT8_TILE(9) SK_INT8_TILE(10) SK_INT8_TILE(11) SK_INT8_TILE(12) SK_INT8_TILE(13) SK_INT8_TILE(14) SK_INT8_TILE(15) SK_INT8_TILE(16)
    }
}

/// Some columns and some of their blocks, laid out in a panel.
typedef struct int8_panel {
    int32_t column, columns, tiles;
    int32_t block, blocks;
    uint8_t *bytes;
} int8_panel;

/// All tiles of one row group over one panel.
SK_INLINE void int8_group(sk_type type, const product_range *range, const int8_panel *panel, int32_t group) {
    const size_t block_bytes = packed_block_bytes(type), group_bytes = block_bytes * (size_t)(range->columns / Q8_BLOCK);
    const uint8_t *w = range->packed + (size_t)group * group_bytes + (size_t)panel->block * block_bytes;
    const int32_t row = group * LANES, rows = range->rows - row;
    for (int32_t tile = 0; tile < panel->tiles; tile++) {
        const int32_t first = tile_start(panel->columns, panel->tiles, tile);
        const int32_t columns = tile_start(panel->columns, panel->tiles, tile + 1) - first;
        float *out = range->out + (size_t)(panel->column + first) * range->ldo + row;
        // Lines of the result lie a row's length apart, each in a page of its own.
        for (int32_t c = 0; c < columns; c++) __builtin_prefetch(out + (size_t)c * range->ldo, 1, 3);
        lanes sums[INT8_COLUMNS];
        for (int32_t c = 0; c < columns; c++)
            sums[c] = panel->block == 0 ? lanes_splat(0.0f) : load_rows(out + (size_t)c * range->ldo, rows);
        const uint8_t *ahead = tile + 1 == panel->tiles && group + 1 < range->groups ? w + group_bytes : w;
        int8_tile_of(type, columns, w, ahead, panel->bytes + (size_t)first * (size_t)panel->blocks * PANEL_BLOCK_BYTES, panel->blocks, sums);
        for (int32_t c = 0; c < columns; c++) store_rows(out + (size_t)c * range->ldo, sums[c], rows);
    }
}

SK_INLINE void int8_product(sk_type type, const product_range *range) {
    _Alignas(64) uint8_t bytes[PANEL_BLOCKS * PANEL_BLOCK_BYTES];
    const int32_t all_blocks = range->columns / Q8_BLOCK;
    const int32_t passes = (range->batch + PANEL_COLUMNS - 1) / PANEL_COLUMNS;
    for (int32_t pass = 0; pass < passes; pass++) {
        int8_panel panel = {.column = tile_start(range->batch, passes, pass), .bytes = bytes};
        panel.columns = tile_start(range->batch, passes, pass + 1) - panel.column;
        panel.tiles = (panel.columns + INT8_COLUMNS - 1) / INT8_COLUMNS;
        const int32_t fitting = PANEL_BLOCKS / panel.columns, parts = (all_blocks + fitting - 1) / fitting;
        const int32_t blocks_max = (all_blocks + parts - 1) / parts;
        for (; panel.block < all_blocks; panel.block += blocks_max) {
            panel.blocks = all_blocks - panel.block < blocks_max ? all_blocks - panel.block : blocks_max;
            for (int32_t tile = 0; tile < panel.tiles; tile++) {
                const int32_t first = tile_start(panel.columns, panel.tiles, tile), next = tile_start(panel.columns, panel.tiles, tile + 1);
                panel_fill(range, packed_shift(type), panel.column + first, next - first, panel.block, panel.blocks,
                           bytes + (size_t)first * (size_t)panel.blocks * PANEL_BLOCK_BYTES);
            }
            for (int32_t group = 0; group < range->groups; group++) int8_group(type, range, &panel, group);
        }
    }
}

static void product_q4_0(const product_range *range) { int8_product(SK_TYPE_Q4_0, range); }
static void product_q4_1(const product_range *range) { int8_product(SK_TYPE_Q4_1, range); }
static void product_q5_0(const product_range *range) { int8_product(SK_TYPE_Q5_0, range); }
static void product_q5_1(const product_range *range) { int8_product(SK_TYPE_Q5_1, range); }
static void product_q8_0(const product_range *range) { int8_product(SK_TYPE_Q8_0, range); }
static void product_iq4_nl(const product_range *range) { int8_product(SK_TYPE_IQ4_NL, range); }

#endif
