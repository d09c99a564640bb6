// Cases of paged attention: KV written row by row into scattered blocks, then read by decoding and by prefill.

#include "cases.h"

#include <stdlib.h>
#include <string.h>

typedef struct attention_case {
    sk_kv_type type;
    int32_t kv_heads, group, head_dim;
    int32_t context;  // positions before the last span begins
    int32_t rows;     // of the last span
    int32_t window, threads;
    spread kind;
} attention_case;

enum { SEQUENCES = 2, GAP = 3 };

/// Two sequences whose blocks lie in turns and backwards: their KV is written from one batch, then the last rows of both attend.
static void attention(const sk_kernels *k, record *r, const void *argument) {
    const attention_case *c = argument;
    seeded s = {41};
    const int32_t positions = c->context + c->rows, blocks = (positions + SK_KV_BLOCK - 1) / SK_KV_BLOCK;
    const size_t block_bytes = sk_kv_block_bytes(c->type, c->kv_heads, c->head_dim), stride = block_bytes + SK_ALIGNMENT;
    const size_t kv_width = (size_t)(c->kv_heads * c->head_dim), ldk = kv_width + GAP;
    const size_t width = kv_width * (size_t)c->group, ldq = width + GAP;
    const int32_t all_rows = SEQUENCES * positions, query_rows = SEQUENCES * c->rows;

    int32_t *tables = new_memory((size_t)(SEQUENCES * blocks) * sizeof *tables);
    for (int32_t q = 0; q < SEQUENCES; q++)
        for (int32_t b = 0; b < blocks; b++) tables[q * blocks + b] = (blocks - 1 - b) * SEQUENCES + q;
    sk_kv kv = {c->type, c->kv_heads, c->head_dim, new_memory((size_t)(SEQUENCES * blocks) * stride), stride};
    memset(kv.base, 0, (size_t)(SEQUENCES * blocks) * stride);
    float *keys = new_floats(&s, c->kind, (size_t)all_rows * ldk), *values = new_floats(&s, c->kind, (size_t)all_rows * ldk);
    float *q = new_floats(&s, c->kind == NOT_FINITE ? HOSTILE : c->kind, (size_t)query_rows * ldq);
    float *out = new_memory((size_t)query_rows * ldq * sizeof *out);
    sk_pool *pool = c->threads == 0 ? NULL : sk_pool_create(c->threads, NULL);

    sk_span written[SEQUENCES], asked[SEQUENCES];
    for (int32_t i = 0; i < SEQUENCES; i++) {
        written[i] = (sk_span){tables + i * blocks, 0, i * positions, positions};
        asked[i] = (sk_span){tables + i * blocks, c->context, i * c->rows, c->rows};
    }
    sk_kv_write(k, pool, &kv, written, SEQUENCES, keys, ldk, values, ldk);
    record_memory(r, kv.base, (size_t)(SEQUENCES * blocks) * stride);

    sk_attention attention = {kv, c->kv_heads * c->group, 0.125f, c->window};
    const size_t bytes = sk_attention_workspace_bytes(&attention, asked, SEQUENCES, c->threads == 0 ? 1 : c->threads);
    void *workspace = new_memory(bytes);
    sk_attend(k, pool, &attention, asked, SEQUENCES, q, ldq, out, ldq, workspace);
    record_floats(r, out, (size_t)query_rows * ldq);

    sk_pool_destroy(pool);
    free(workspace);
    free(out);
    free(q);
    free(values);
    free(keys);
    free(kv.base);
    free(tables);
}

static void run_shapes(sk_kv_type type, const char *name) {
    // kv_heads, group, head_dim, context, rows, window, threads
    static const int32_t shapes[][7] = {
        {1, 1, 16, 0, 1, 0, 0},    {2, 3, 64, 0, 37, 0, 0},   {1, 4, 24, 31, 2, 0, 0},   {3, 1, 10, 255, 3, 0, 2},
        {1, 8, 128, 300, 1, 0, 0}, {1, 2, 80, 600, 1, 0, 3},  {2, 1, 64, 250, 20, 9, 0}, {1, 1, 64, 530, 5, 300, 2},
    };
    for (int kind = 0; kind < SPREADS; kind++) {
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
            const int32_t *f = shapes[i];
            attention_case c = {type, f[0], f[1], f[2], f[3], f[4], f[5], f[6], (spread)kind};
            run_case(attention, &c, "attention %s %s, %d x %d heads of %d, %d + %d positions, window %d, %d threads", name, spread_names[kind],
                     f[0], f[1], f[2], f[3], f[4], f[5], f[6]);
        }
    }
}

void run_attention_cases(void) {
    run_shapes(SK_KV_F32, "f32");
    run_shapes(SK_KV_F16, "f16");
    run_shapes(SK_KV_Q8, "q8");
}
