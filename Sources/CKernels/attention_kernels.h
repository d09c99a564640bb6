// Attention of a few queries of one KV head over one chunk of positions, the merge of chunks, and the writing of KV.
// The rule stands in the public header above `sk_attend`.

#ifndef SK_ATTENTION_KERNELS_H
#define SK_ATTENTION_KERNELS_H

#include "functions.h"
#include "halves.h"

#include <math.h>

SK_INLINE lanes kv_load(sk_kv_type type, const char *p) {
    if (type == SK_KV_F32) return lanes_load((const float *)(const void *)p);
    return lanes_from_f16(hlanes_load((const uint16_t *)(const void *)p));
}

static void kv_write(const sk_kv *kv, int32_t block, int32_t slot, const float *key, const float *value) {
    const int32_t dim = kv->head_dim, value_stride = kv_value_stride(dim);
    for (int32_t h = 0; h < kv->kv_heads; h++) {
        char *keys = kv_head_at(kv, block, h), *values = keys + kv_values_offset(kv);
        size_t key_start = (size_t)(slot / LANES) * (size_t)dim * LANES + (size_t)(slot % LANES);
        size_t value_start = (size_t)slot * (size_t)value_stride;
        const float *k = key + (size_t)h * (size_t)dim, *v = value + (size_t)h * (size_t)dim;
        for (int32_t d = 0; d < dim; d += LANES) {
            size_t n = dim - d < LANES ? (size_t)(dim - d) : LANES;
            lanes kd = n == LANES ? lanes_load(k + d) : lanes_load_first(k + d, n);
            lanes vd = n == LANES ? lanes_load(v + d) : lanes_load_first(v + d, n);
            if (kv->type == SK_KV_F32) {
                for (size_t j = 0; j < n; j++) ((float *)(void *)keys)[key_start + ((size_t)d + j) * LANES] = kd[j];
                lanes_store((float *)(void *)values + value_start + d, vd);
            } else {
                hlanes kh = lanes_to_f16(kd);
                for (size_t j = 0; j < n; j++) ((uint16_t *)(void *)keys)[key_start + ((size_t)d + j) * LANES] = kh[j];
                hlanes_store((uint16_t *)(void *)values + value_start + d, lanes_to_f16(vd));
            }
        }
    }
}

// A KV head's part of a block is only a few KiB and the next block lies anywhere: too short for the processor's prefetchers, so the next
// block is asked for while this one is used (a fifth of the time of decode, and as much of prefill).

/// Scores of 16 * HALVES positions that lie side by side in one block, from its half `half` on.
SK_INLINE void scores_of_block(sk_kv_type type, const int Q, const int HALVES, const attention_chunk *c, int32_t block, int32_t half,
                               int32_t next_block) {
    const int32_t dim = c->kv->head_dim;
    const size_t step = kv_element_bytes(type) * LANES, half_bytes = step * (size_t)dim;
    const char *keys = kv_head_at(c->kv, c->blocks[block], c->kv_head) + (size_t)half * half_bytes;
    const char *next = kv_head_at(c->kv, c->blocks[next_block], c->kv_head) + (size_t)half * half_bytes;
    lanes score[Q][HALVES];
    SK_UNROLL for (int q = 0; q < Q; q++)
        SK_UNROLL for (int h = 0; h < HALVES; h++) score[q][h] = lanes_splat(0.0f);
    for (int32_t d = 0; d < dim; d++) {
        SK_UNROLL for (int h = 0; h < HALVES; h++) {
            lanes key = kv_load(type, keys + (size_t)h * half_bytes + (size_t)d * step);
            __builtin_prefetch(next + (size_t)h * half_bytes + (size_t)d * step);
            SK_UNROLL for (int q = 0; q < Q; q++) score[q][h] = lanes_fma(key, lanes_splat(c->q[q][d]), score[q][h]);
        }
    }
    SK_UNROLL for (int h = 0; h < HALVES; h++) {
        int32_t position = block * SK_KV_BLOCK + (half + h) * LANES;
        ilanes positions = lanes_index() + position;
        SK_UNROLL for (int q = 0; q < Q; q++) {
            ilanes visible = (positions >= c->low[q]) & (positions < c->high[q]);
            lanes scaled = lanes_select(visible, score[q][h] * c->scale, lanes_splat(-INFINITY));
            lanes_store(c->scores + q * SK_ATTENTION_CHUNK + position - c->chunk * SK_ATTENTION_CHUNK, scaled);
        }
    }
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

/// v[d] = fma(e_p, value[p, d], v[d]) for Q queries from `first` on, 16 * D dimensions from d on, absolute positions low ..< high.
SK_INLINE void values_tile(sk_kv_type type, const int Q, const int D, attention_chunk *c, int first, int32_t d, int32_t low, int32_t high) {
    const size_t element = kv_element_bytes(type);
    const size_t step = element * (size_t)kv_value_stride(c->kv->head_dim);
    const float *weights = c->scores - c->chunk * SK_ATTENTION_CHUNK;
    lanes sum[Q][D];
    SK_UNROLL for (int q = 0; q < Q; q++)
        SK_UNROLL for (int j = 0; j < D; j++) sum[q][j] = lanes_load(c->value[first + q] + d + j * LANES);
    for (int32_t p = low; p < high;) {
        int32_t block = p / SK_KV_BLOCK, end = (block + 1) * SK_KV_BLOCK;
        if (end > high) end = high;
        const char *values = kv_head_at(c->kv, c->blocks[block], c->kv_head) + kv_values_offset(c->kv) + element * (size_t)d;
        const int32_t next = end < high ? block + 1 : block;
        const ptrdiff_t ahead = kv_head_at(c->kv, c->blocks[next], c->kv_head) - kv_head_at(c->kv, c->blocks[block], c->kv_head);
        for (; p < end; p++) {
            const char *row = values + (size_t)(p % SK_KV_BLOCK) * step;
            SK_UNROLL for (int j = 0; j < D; j++) {
                lanes value = kv_load(type, row + (size_t)j * LANES * element);
                __builtin_prefetch(row + ahead + (size_t)j * LANES * element);
                SK_UNROLL for (int q = 0; q < Q; q++)
                    sum[q][j] = lanes_fma(lanes_splat(weights[(first + q) * SK_ATTENTION_CHUNK + p]), value, sum[q][j]);
            }
        }
    }
    SK_UNROLL for (int q = 0; q < Q; q++)
        SK_UNROLL for (int j = 0; j < D; j++) lanes_store(c->value[first + q] + d + j * LANES, sum[q][j]);
}

SK_INLINE void values_range(sk_kv_type type, const int Q, attention_chunk *c, int first, int32_t low, int32_t high) {
    if (low >= high) return;
    int32_t d = 0, stride = kv_value_stride(c->kv->head_dim);
#if defined(SK_HAS_AVX512)
    for (; d + 4 * LANES <= stride; d += 4 * LANES) values_tile(type, Q, 4, c, first, d, low, high);
#endif
    for (; d + 2 * LANES <= stride; d += 2 * LANES) values_tile(type, Q, 2, c, first, d, low, high);
    if (d < stride) values_tile(type, Q, 1, c, first, d, low, high);
}

/// The weighted values. Positions that all queries see are walked together; what only some see is walked for these alone, because
/// even a weight of zero times a value could change a bit (infinity, or the sign of a zero).
SK_INLINE void values_of_chunk(sk_kv_type type, const int Q, attention_chunk *c) {
    int32_t low = c->low[0], high = c->high[0];
    SK_UNROLL for (int q = 1; q < Q; q++) {
        if (c->low[q] > low) low = c->low[q];
        if (c->high[q] < high) high = c->high[q];
    }
    SK_UNROLL for (int q = 0; q < Q; q++) memset(c->value[q], 0, sizeof(float) * (size_t)kv_value_stride(c->kv->head_dim));
    if (low >= high) {
        for (int q = 0; q < Q; q++) values_range(type, 1, c, q, c->low[q], c->high[q]);
        return;
    }
    for (int q = 0; q < Q; q++) values_range(type, 1, c, q, c->low[q], low);
    values_range(type, Q, c, 0, low, high);
    for (int q = 0; q < Q; q++) values_range(type, 1, c, q, high, c->high[q]);
}

SK_INLINE void attend_queries(sk_kv_type type, const int Q, attention_chunk *c) {
    int32_t low = c->low[0], high = c->high[0];
    SK_UNROLL for (int q = 1; q < Q; q++) {
        if (c->low[q] < low) low = c->low[q];
        if (c->high[q] > high) high = c->high[q];
    }
    const int32_t origin = c->chunk * SK_ATTENTION_CHUNK;
    const int32_t start = (low - origin) & ~(SK_KV_BLOCK - 1), end = (high - origin + SK_KV_BLOCK - 1) & ~(SK_KV_BLOCK - 1);
    for (int32_t p = start; p < end; p += SK_KV_BLOCK) {
        int32_t block = (origin + p) / SK_KV_BLOCK, next = p + SK_KV_BLOCK < end ? block + 1 : block;
#if defined(SK_HAS_AVX512)
        scores_of_block(type, Q, 2, c, block, 0, next);
#else
        if (Q <= 2) {
            scores_of_block(type, Q, 2, c, block, 0, next);
        } else {
            scores_of_block(type, Q, 1, c, block, 0, next);
            scores_of_block(type, Q, 1, c, block, 1, next);
        }
#endif
    }
    for (int q = 0; q < Q; q++) weights_of_query(c, q, start, end);
    values_of_chunk(type, Q, c);
}

SK_INLINE void attend_typed(sk_kv_type type, attention_chunk *c) {
    switch (c->queries) {
        case 1: return attend_queries(type, 1, c);
        case 2: return attend_queries(type, 2, c);
        case 3: return attend_queries(type, 3, c);
        default: return attend_queries(type, 4, c);
    }
}

static void attend_chunk(attention_chunk *c) {
    if (c->kv->type == SK_KV_F16) attend_typed(SK_KV_F16, c);
    else attend_typed(SK_KV_F32, c);
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
    for (int32_t d = 0; d < head_dim; d++) out[d] = value[d] * r;
}

#endif
