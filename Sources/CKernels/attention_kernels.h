// Attention of a few queries of one KV head over one chunk of positions, the merge of chunks, and the writing of KV.
// The rule stands in the public header above `sk_attend`.
//
// Queries that read the same KV head share each load of a key or a value: a tile of them stands in registers, and a block of 32 positions is
// walked by all tiles while it is in the first cache.

#ifndef SK_ATTENTION_KERNELS_H
#define SK_ATTENTION_KERNELS_H

#include "functions.h"
#include "halves.h"
#include "kv_kernels.h"

#include <math.h>

// Accumulators in registers: queries of a tile times the halves of a block (scores) or times 16 dimensions (values). A lone query would
// leave most of them idle and wait for each sum, so it takes twice as many positions at once, and all of a value's dimensions that fit.
#if defined(SK_HAS_AVX512)
enum { TILE_QUERIES = 8, TILE_HALVES = 2, TILE_VALUES = 2, LONE_VALUES = 8 };
#else
enum { TILE_QUERIES = 4, TILE_HALVES = 1, TILE_VALUES = 1, LONE_VALUES = 4 };
#endif

enum { FETCH_BYTES = 64, ALL_HALVES = SK_KV_BLOCK / LANES };

/// Sixteen keys or values as kept; Q8's are still without their scale.
SK_INLINE lanes kv_load(sk_kv_type type, const char *p) {
    if (type == SK_KV_F32) return lanes_load((const float *)(const void *)p);
    if (type == SK_KV_F16) return lanes_from_f16(hlanes_load((const uint16_t *)(const void *)p));
    blanes bytes;
    memcpy(&bytes, p, sizeof bytes);
    return lanes_to_float(__builtin_convertvector(bytes, ilanes));
}

// A KV head's part of a block is only a few KiB and the next block lies anywhere: too short for the processor's prefetchers. So while the
// scores of a block are made its values are asked for, and while its values are added the keys of the same block of the next chunk.

/// sum[q][h] = fma(key[d], query q's d, sum[q][h]) for `count` dimensions. keys: already at the first of them, `half_bytes` between halves.
SK_INLINE void add_products(sk_kv_type type, const int Q, const int H, lanes sum[Q][H], const char *keys, size_t half_bytes, const float *q,
                            int32_t count, const char *ahead) {
    const int32_t step = (int32_t)kv_element_bytes(type) * LANES, together = FETCH_BYTES / step;
    for (int32_t d = 0; d < count; d += together) {
        SK_UNROLL for (int h = 0; h < H; h++) __builtin_prefetch(ahead + (size_t)h * half_bytes + (size_t)(d * step), 0, 2);
        SK_UNROLL for (int32_t i = 0; i < together; i++) {
            if (d + i >= count) break;
            SK_UNROLL for (int h = 0; h < H; h++) {
                lanes key = kv_load(type, keys + (size_t)h * half_bytes + (size_t)((d + i) * step));
                SK_UNROLL for (int j = 0; j < Q; j++)
                    sum[j][h] = lanes_fma(key, lanes_splat(q[(d + i) * ATTENTION_QUERIES + j]), sum[j][h]);
            }
        }
    }
}

/// Scores of queries first ..< first + Q for 16 * H positions that lie side by side in one block, from its half `half` on.
SK_INLINE void scores_tile(sk_kv_type type, const int Q, const int H, const attention_chunk *c, int first, int32_t block, int32_t half) {
    const int32_t dim = c->kv->head_dim;
    const size_t step = kv_element_bytes(type) * LANES, half_bytes = step * (size_t)dim;
    char *head = kv_head_at(c->kv, c->blocks[block], c->kv_head);
    const char *keys = head + (size_t)half * half_bytes, *values = keys + kv_values_offset(c->kv);
    const float *q = c->q + first;
    lanes score[Q][H];
    SK_UNROLL for (int j = 0; j < Q; j++)
        SK_UNROLL for (int h = 0; h < H; h++) score[j][h] = lanes_splat(0.0f);
    if (type != SK_KV_Q8) {
        add_products(type, Q, H, score, keys, half_bytes, q, dim, values);
    } else {
        const uint16_t *scales = kv_scales_at(c->kv, head) + half * LANES;
        for (int32_t d = 0; d < dim; d += KV_Q8_BLOCK, scales += SK_KV_BLOCK) {
            lanes dot[Q][H];
            SK_UNROLL for (int j = 0; j < Q; j++)
                SK_UNROLL for (int h = 0; h < H; h++) dot[j][h] = lanes_splat(0.0f);
            int32_t count = dim - d < KV_Q8_BLOCK ? dim - d : KV_Q8_BLOCK;
            __builtin_prefetch((const char *)scales + kv_scale_bytes(dim), 0, 2);
            add_products(type, Q, H, dot, keys + (size_t)d * step, half_bytes, q + d * ATTENTION_QUERIES, count, values + (size_t)d * step);
            SK_UNROLL for (int h = 0; h < H; h++) {
                lanes scale = lanes_from_bf16(hlanes_load(scales + h * LANES));
                SK_UNROLL for (int j = 0; j < Q; j++) score[j][h] = lanes_fma(scale, dot[j][h], score[j][h]);
            }
        }
    }
    SK_UNROLL for (int h = 0; h < H; h++) {
        int32_t position = block * SK_KV_BLOCK + (half + h) * LANES;
        ilanes positions = lanes_index() + position;
        SK_UNROLL for (int j = 0; j < Q; j++) {
            ilanes visible = (positions >= c->low[first + j]) & (positions < c->high[first + j]);
            lanes scaled = lanes_select(visible, score[j][h] * c->scale, lanes_splat(-INFINITY));
            lanes_store(c->scores + (first + j) * SK_ATTENTION_CHUNK + position - c->chunk * SK_ATTENTION_CHUNK, scaled);
        }
    }
}

SK_INLINE void scores_of_block(sk_kv_type type, const int Q, const attention_chunk *c, int first, int32_t block) {
    const int H = Q <= 2 ? ALL_HALVES : TILE_HALVES;
    SK_UNROLL for (int half = 0; half < ALL_HALVES; half += H) scores_tile(type, Q, H, c, first, block, half);
}

/// The scores of one query become its weights e; fills in maximum and sum. Positions start ..< end of the chunk hold scores.
SK_INLINE void weights_of_query(attention_chunk *c, int q, int32_t start, int32_t end) {
    float *scores = c->scores + q * SK_ATTENTION_CHUNK;
    lanes best = lanes_splat(-INFINITY);
    for (int32_t i = start; i < end; i += LANES) best = lanes_greater(lanes_load(scores + i), best);
    float highest = lanes_fold_greater(best);
    lanes partial = lanes_splat(0.0f);
    for (int32_t i = start; i < end; i += LANES) {
        lanes e = lanes_exp(lanes_load(scores + i) - highest);
        lanes_store(scores + i, e);
        partial = partial + e;
    }
    c->maximum[q] = highest;
    c->sum[q] = lanes_fold_sum(partial);
}

/// v[d] = fma(w_p, value[p, d], v[d]) for Q queries from `first` on, 16 * D dimensions from d on and `count` positions of one block.
/// weights: of the first query at the first position, `stride` between queries. row: of the first position.
SK_INLINE void values_tile(sk_kv_type type, const int Q, const int D, attention_chunk *c, int first, int32_t d, int32_t count,
                           const float *weights, const int stride, const char *row, size_t row_bytes, ptrdiff_t ahead) {
    const size_t step = kv_element_bytes(type) * LANES;
    lanes sum[Q][D];
    SK_UNROLL for (int q = 0; q < Q; q++)
        SK_UNROLL for (int j = 0; j < D; j++) sum[q][j] = lanes_load(c->value[first + q] + d + j * LANES);
    for (int32_t p = 0; p < count; p++, row += row_bytes) {
        SK_UNROLL for (size_t i = 0; i < step * (size_t)D; i += FETCH_BYTES) __builtin_prefetch(row + ahead + i, 0, 2);
        SK_UNROLL for (int j = 0; j < D; j++) {
            lanes value = kv_load(type, row + (size_t)j * step);
            SK_UNROLL for (int q = 0; q < Q; q++) sum[q][j] = lanes_fma(lanes_splat(weights[q * stride + p]), value, sum[q][j]);
        }
    }
    SK_UNROLL for (int q = 0; q < Q; q++)
        SK_UNROLL for (int j = 0; j < D; j++) lanes_store(c->value[first + q] + d + j * LANES, sum[q][j]);
}

/// Q8: the weights of a block's positions times the scales of 32 dimensions of its values. scales: of position 0 of the block.
SK_INLINE void scale_weights(const int Q, const attention_chunk *c, int first, int32_t block, const uint16_t *scales,
                             float weights[Q][SK_KV_BLOCK]) {
    const float *e = c->scores + first * SK_ATTENTION_CHUNK + block * SK_KV_BLOCK - c->chunk * SK_ATTENTION_CHUNK;
    SK_UNROLL for (int h = 0; h < ALL_HALVES; h++) {
        lanes scale = lanes_from_bf16(hlanes_load(scales + h * LANES));
        SK_UNROLL for (int q = 0; q < Q; q++)
            lanes_store(weights[q] + h * LANES, lanes_load(e + q * SK_ATTENTION_CHUNK + h * LANES) * scale);
    }
}

/// Absolute positions low ..< high, which lie in one block, for Q queries from `first` on.
SK_INLINE void values_of_block(sk_kv_type type, const int Q, attention_chunk *c, int first, int32_t low, int32_t high) {
    if (low >= high) return;
    const int D = Q <= 2 ? 2 : TILE_VALUES;
    const int32_t stride = kv_value_stride(c->kv->head_dim), block = low / SK_KV_BLOCK, slot = low % SK_KV_BLOCK;
    const size_t element = kv_element_bytes(type), row_bytes = element * (size_t)stride;
    const int32_t later = block + SK_ATTENTION_CHUNK / SK_KV_BLOCK;
    char *head = kv_head_at(c->kv, c->blocks[block], c->kv_head);
    const char *row = head + kv_values_offset(c->kv) + (size_t)slot * row_bytes;
    char *next = kv_head_at(c->kv, c->blocks[later < c->block_end ? later : block], c->kv_head);
    const ptrdiff_t ahead = next + (size_t)slot * row_bytes - row;
    const float *e = c->scores + first * SK_ATTENTION_CHUNK + low - c->chunk * SK_ATTENTION_CHUNK;
    if (type != SK_KV_Q8 && Q == 1) {
        // A row of values is then read once and in one go.
        int32_t d = 0;
        for (; d + LONE_VALUES * LANES <= stride; d += LONE_VALUES * LANES)
            values_tile(type, Q, LONE_VALUES, c, first, d, high - low, e, SK_ATTENTION_CHUNK, row + (size_t)d * element, row_bytes, ahead);
        for (; d < stride; d += LANES)
            values_tile(type, Q, 1, c, first, d, high - low, e, SK_ATTENTION_CHUNK, row + (size_t)d * element, row_bytes, ahead);
        return;
    }
    for (int32_t b = 0; b < stride; b += KV_Q8_BLOCK) {
        float scaled[Q][SK_KV_BLOCK];
        const float *weights = type == SK_KV_Q8 ? scaled[0] + slot : e;
        const int weight_stride = type == SK_KV_Q8 ? SK_KV_BLOCK : SK_ATTENTION_CHUNK;
        if (type == SK_KV_Q8) {
            __builtin_prefetch(kv_scales_at(c->kv, next) + b, 0, 2);
            scale_weights(Q, c, first, block, kv_scales_at(c->kv, head) + kv_scale_bytes(c->kv->head_dim) / sizeof(uint16_t) + b, scaled);
        }
        int32_t end = stride - b < KV_Q8_BLOCK ? stride : b + KV_Q8_BLOCK, d = b;
        for (; d + D * LANES <= end; d += D * LANES)
            values_tile(type, Q, D, c, first, d, high - low, weights, weight_stride, row + (size_t)d * element, row_bytes, ahead);
        if (d < end) values_tile(type, Q, 1, c, first, d, high - low, weights, weight_stride, row + (size_t)d * element, row_bytes, ahead);
    }
}

/// Positions of a block that all queries of a tile see are walked together; what only some see is walked for these alone, because even a
/// weight of zero times a value could change a bit (infinity, or the sign of a zero).
SK_INLINE void values_of_tile(sk_kv_type type, const int Q, attention_chunk *c, int first, int32_t start, int32_t end) {
    int32_t low = start, high = end;
    SK_UNROLL for (int q = first; q < first + Q; q++) {
        if (c->low[q] > low) low = c->low[q];
        if (c->high[q] < high) high = c->high[q];
    }
    if (low == start && high == end) return values_of_block(type, Q, c, first, start, end);
    if (low >= high) low = high = end;
    for (int q = first; q < first + Q; q++) {
        int32_t last = c->high[q] < low ? c->high[q] : low;
        values_of_block(type, 1, c, q, c->low[q] > start ? c->low[q] : start, last);
    }
    values_of_block(type, Q, c, first, low, high);
    for (int q = first; q < first + Q; q++) values_of_block(type, 1, c, q, high, c->high[q] < end ? c->high[q] : end);
}

/// STEP(Q, first) for all queries of a chunk, in tiles whose number of queries the compiler knows.
#define SK_EACH_TILE(STEP)                                                          \
    for (int first = 0, count; first < c->queries; first += count) {                \
        count = c->queries - first < TILE_QUERIES ? c->queries - first : TILE_QUERIES; \
        if (count == 8) { STEP(8, first); }                                         \
        else if (count >= 4) { count = 4; STEP(4, first); }                         \
        else if (count == 3) { STEP(3, first); }                                    \
        else if (count == 2) { STEP(2, first); }                                    \
        else { STEP(1, first); }                                                    \
    }

SK_INLINE void attend_typed(sk_kv_type type, attention_chunk *c) {
    const int32_t origin = c->chunk * SK_ATTENTION_CHUNK, value_bytes = (int32_t)sizeof(float) * kv_value_stride(c->kv->head_dim);
    int32_t low = origin + SK_ATTENTION_CHUNK, high = origin;
    for (int q = 0; q < c->queries; q++) {
        if (c->low[q] >= c->high[q]) continue;
        if (c->low[q] < low) low = c->low[q];
        if (c->high[q] > high) high = c->high[q];
    }
    const int32_t start = low & ~(SK_KV_BLOCK - 1), end = (high + SK_KV_BLOCK - 1) & ~(SK_KV_BLOCK - 1);
#define SK_SCORES(Q, first) scores_of_block(type, Q, c, first, p / SK_KV_BLOCK)
    for (int32_t p = start; p < end; p += SK_KV_BLOCK) SK_EACH_TILE(SK_SCORES)
    for (int q = 0; q < c->queries; q++) {
        if (c->low[q] < c->high[q]) weights_of_query(c, q, start - origin, end - origin);
        memset(c->value[q], 0, (size_t)value_bytes);
    }
#define SK_VALUES(Q, first) values_of_tile(type, Q, c, first, p, p + SK_KV_BLOCK)
    for (int32_t p = start; p < end; p += SK_KV_BLOCK) SK_EACH_TILE(SK_VALUES)
#undef SK_SCORES
#undef SK_VALUES
}

static void attend_chunk(attention_chunk *c) {
    switch (c->kv->type) {
        case SK_KV_F32: return attend_typed(SK_KV_F32, c);
        case SK_KV_F16: return attend_typed(SK_KV_F16, c);
        case SK_KV_Q8: return attend_typed(SK_KV_Q8, c);
    }
}

static void attend_merge(float *highest, float *sum, float *value, float m, float l, const float *v, int32_t head_dim) {
    float merged = m > *highest ? m : *highest;
    lanes differences = lanes_splat(0.0f);
    differences[0] = *highest - merged;
    differences[1] = m - merged;
    lanes factors = lanes_exp(differences);
    float f = factors[0], g = factors[1];
    *highest = merged;
    *sum = fmaf(*sum, f, l * g);
    for (int32_t d = 0; d < kv_value_stride(head_dim); d += LANES)
        lanes_store(value + d, lanes_fma(lanes_load(value + d), lanes_splat(f), lanes_load(v + d) * g));
}

static void attend_finish(const float *value, float sum, float *out, int32_t head_dim) {
    float r = 1.0f / sum;
    int32_t d = 0;
    for (; d + LANES <= head_dim; d += LANES) lanes_store(out + d, lanes_load(value + d) * r);
    for (; d < head_dim; d++) out[d] = value[d] * r;
}

#endif
