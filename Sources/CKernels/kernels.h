// One instruction set's kernels as a table. Every entry works on one thread and on one row, one range of row groups or one chunk;
// who does which part is decided above it, in matmul.c, rows.c and attention.c.

#ifndef SK_KERNELS_H
#define SK_KERNELS_H

#include "staffel_kernels.h"

enum { SK_TYPE_LIMIT = 31, ATTENTION_QUERIES = 8, KV_Q8_BLOCK = 32 };

/// `groups` row groups from `packed` on, of which `rows` rows exist. activations: [batch] rows `stride` bytes apart.
/// out: f32[batch, ldo], already at the first of these rows.
typedef struct product_range {
    const uint8_t *packed;
    int32_t groups, rows, columns;
    const char *activations;
    size_t stride;
    int32_t batch;
    float *out;
    size_t ldo;
} product_range;

/// Up to ATTENTION_QUERIES queries of one KV head over one chunk.
typedef struct attention_chunk {
    const sk_kv *kv;
    const int32_t *blocks;              // of the sequence
    int32_t block_end;                  // blocks of the sequence that may be fetched ahead
    int32_t kv_head;
    int32_t chunk;
    int32_t queries;
    float scale;
    const float *q;                     // f32[head_dim, ATTENTION_QUERIES]
    int32_t low[ATTENTION_QUERIES];     // visible positions low ..< high, absolute, inside the chunk; where low >= high there is no result
    int32_t high[ATTENTION_QUERIES];
    float maximum[ATTENTION_QUERIES];   // results
    float sum[ATTENTION_QUERIES];
    float *value[ATTENTION_QUERIES];    // f32[head_dim rounded up to 16]
    float *scores;                      // scratch f32[ATTENTION_QUERIES, SK_ATTENTION_CHUNK]
} attention_chunk;

struct sk_kernels {
    sk_isa isa;
    void (*product[SK_TYPE_LIMIT])(const product_range *range);  // by type number; null: no such type
    void (*quantise_q8)(const float *x, int32_t columns, void *out);
    void (*quantise_q8_256)(const float *x, int32_t columns, void *out);
    void (*quantisation_rest)(const float *x, const int8_t *q, const float *scale, int32_t block, int32_t columns, float *out);
    void (*normalise)(const sk_norm *norm, const float *x, float *out, int32_t columns);
    void (*apply)(sk_function function, const float *x, float *out, size_t count);
    void (*gate)(sk_function function, const float *gate, const float *up, float *out, size_t count);
    void (*add)(float *x, const float *y, size_t count);
    void (*add_scaled)(float *x, const float *y, float scale, size_t count);
    void (*scale)(float *x, float scale, size_t count);
    void (*round_bf16)(float *x, size_t count);
    void (*to_bf16)(const float *x, uint16_t *out, size_t count);
    void (*from_bf16)(const uint16_t *x, float *out, size_t count);
    void (*to_f16)(const float *x, uint16_t *out, size_t count);
    void (*from_f16)(const uint16_t *x, float *out, size_t count);
    int32_t (*argmax)(const float *x, int32_t count);
    int32_t (*collect)(const float *x, int32_t count, float low, float high, int32_t *ids);
    void (*temper)(const float *x, float highest, float temperature, float *out, int32_t count);
    bool (*all_finite)(const float *x, size_t count);
    float (*maximum)(const float *x, int32_t count);
    /// Sum of exp(x - maximum); the terms go to `out` unless it is null.
    float (*exp_sum)(const float *x, float maximum, float *out, int32_t count);
    void (*divide)(float *x, float divisor, size_t count);
    void (*rope)(sk_rope_pairing pairing, float *x, int32_t heads, int32_t head_dim, int32_t dims, const float *cosines,
                 const float *sines);
    void (*kv_write)(const sk_kv *kv, int32_t block, int32_t slot, const float *key, const float *value);
    void (*attend_chunk)(attention_chunk *chunk);
    /// (M, L, V) becomes itself merged with the later (m, l, v). V, v: f32[head_dim rounded up to 16].
    void (*attend_merge)(float *maximum, float *sum, float *value, float m, float l, const float *v, int32_t head_dim);
    void (*attend_finish)(const float *value, float sum, float *out, int32_t head_dim);
};

// Where a KV head's keys, values and scales lie in a block.
static inline size_t kv_element_bytes(sk_kv_type type) { return type == SK_KV_F32 ? 4 : type == SK_KV_F16 ? 2 : 1; }
static inline int32_t kv_value_stride(int32_t head_dim) { return (head_dim + 15) & ~15; }

/// Keys and values, without scales.
static inline size_t kv_data_bytes(sk_kv_type type, int32_t head_dim) {
    size_t bytes = kv_element_bytes(type) * SK_KV_BLOCK * (size_t)(head_dim + kv_value_stride(head_dim));
    return (bytes + SK_ALIGNMENT - 1) & ~(size_t)(SK_ALIGNMENT - 1);
}

/// Scales of a block's keys or of its values: bf16[blocks of 32 dimensions][32 positions], so that positions lie side by side.
static inline size_t kv_scale_bytes(int32_t head_dim) {
    return (size_t)((head_dim + KV_Q8_BLOCK - 1) / KV_Q8_BLOCK) * SK_KV_BLOCK * sizeof(uint16_t);
}

static inline size_t kv_head_bytes(sk_kv_type type, int32_t head_dim) {
    return kv_data_bytes(type, head_dim) + (type == SK_KV_Q8 ? 2 * kv_scale_bytes(head_dim) : 0);
}

static inline char *kv_head_at(const sk_kv *kv, int32_t block, int32_t kv_head) {
    return (char *)kv->base + (size_t)block * kv->stride + (size_t)kv_head * kv_head_bytes(kv->type, kv->head_dim);
}

static inline size_t kv_values_offset(const sk_kv *kv) {
    return kv_element_bytes(kv->type) * SK_KV_BLOCK * (size_t)kv->head_dim;
}

/// SK_KV_Q8 only: the keys' scales of a head; the values' follow after kv_scale_bytes.
static inline uint16_t *kv_scales_at(const sk_kv *kv, char *head) {
    return (uint16_t *)(void *)(head + kv_data_bytes(kv->type, kv->head_dim));
}

extern const sk_kernels sk_kernels_portable;      // for any processor
extern const sk_kernels sk_kernels_portable_fma;  // the same source for processors with FMA: fmaf is an instruction, not a call
extern const sk_kernels sk_kernels_avx2;
extern const sk_kernels sk_kernels_avx512;
extern const sk_kernels sk_kernels_neon;

#endif
