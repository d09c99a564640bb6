// A whole model's forward pass on the public API, as a second reading of the block in `ModelConfiguration.swift`: each product on its
// own, nothing fused, no pool. Its logits must be those of the Swift engine, of every table and of every processor, in every bit.
//
//   forward MODEL TOKENS OUTPUT   a model file of the llama, qwen2 or granite family; TOKENS: a file of ids; the last two are decoded one
//                                 by one after a prefill of the others; OUTPUT: f32[tokens, vocabulary]
//   forward synthetic             models of random weights, of each type that has kernels
//
// Prints lines as `kernels` does, and ends with 1 when tables differ.

#include "model.h"
#include "staffel_dequant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS_MAX = 512, DECODED = 2 };

typedef struct pass {
    const sk_kernels *k;
    model *m;
    int32_t first, rows;  // positions of this batch
    const int32_t *blocks;
    float *cosines, *sines;  // f32[TOKENS_MAX, rope_dims / 2]
} pass;

/// out[rows, ldo] = matrix . x[rows, columns]
static void multiply(const pass *p, const sk_matrix *matrix, const float *x, float *out, size_t ldo) {
    const sk_activation_kind kind = sk_type_activation(matrix->type);
    void *activations = new_memory((size_t)p->rows * sk_activation_bytes(kind, matrix->columns));
    sk_quantise(p->k, NULL, kind, x, (size_t)matrix->columns, p->rows, matrix->columns, activations);
    sk_product product = {*matrix, activations, out, ldo};
    sk_matmul(p->k, NULL, &product, 1, p->rows);
    free(activations);
}

static float *new_rows(const pass *p, int32_t width) { return new_memory((size_t)(p->rows * width) * sizeof(float)); }

static float *new_normed(const pass *p, const float *x, const float *weight) {
    sk_norm norm = {SK_NORM_RMS, p->m->epsilon, weight, NULL};
    float *out = new_rows(p, p->m->hidden);
    sk_normalise(p->k, NULL, &norm, x, (size_t)p->m->hidden, p->rows, p->m->hidden, out, (size_t)p->m->hidden);
    return out;
}

/// hidden += residual_scale * matrix . x
static void add_product(const pass *p, float *hidden, const sk_matrix *matrix, const float *x) {
    const size_t ld = (size_t)p->m->hidden;
    float *delta = new_rows(p, p->m->hidden);
    multiply(p, matrix, x, delta, ld);
    if (p->m->residual_scale == 1) sk_add(p->k, NULL, hidden, ld, delta, ld, p->rows, p->m->hidden);
    else sk_add_scaled(p->k, NULL, hidden, ld, delta, ld, p->m->residual_scale, p->rows, p->m->hidden);
    free(delta);
}

static void attention_part(const pass *p, layer *l, float *hidden) {
    const model *m = p->m;
    const int32_t query_width = m->heads * m->head_dim, kv_width = m->kv_heads * m->head_dim, width = query_width + 2 * kv_width;
    const size_t ld = (size_t)width;
    float *normed = new_normed(p, hidden, l->attention_norm), *query = new_rows(p, width), *attended = new_rows(p, query_width);
    float *key = query + query_width, *value = key + kv_width;
    multiply(p, &l->query, normed, query, ld);
    multiply(p, &l->key, normed, key, ld);
    multiply(p, &l->value, normed, value, ld);
    if (l->bias != NULL) sk_add_bias(p->k, NULL, query, ld, l->bias, p->rows, width);
    int32_t positions[TOKENS_MAX];
    for (int32_t i = 0; i < p->rows; i++) positions[i] = p->first + i;
    sk_rope(p->k, NULL, m->pairing, query, ld, p->rows, m->heads, m->head_dim, m->rope_dims, positions, p->cosines, p->sines);
    sk_rope(p->k, NULL, m->pairing, key, ld, p->rows, m->kv_heads, m->head_dim, m->rope_dims, positions, p->cosines, p->sines);
    const sk_span span = {p->blocks, p->first, 0, p->rows};
    sk_kv_write(p->k, NULL, &l->kv, &span, 1, key, ld, value, ld);
    const sk_attention attention = {l->kv, m->heads, m->attention_scale, 0};
    void *workspace = new_memory(sk_attention_workspace_bytes(&attention, &span, 1, 1));
    sk_attend(p->k, NULL, &attention, &span, 1, query, ld, attended, (size_t)query_width, workspace);
    add_product(p, hidden, &l->output, attended);
    free(workspace);
    free(attended);
    free(query);
    free(normed);
}

static void feed_forward_part(const pass *p, const layer *l, float *hidden) {
    const int32_t width = p->m->feed_forward;
    const size_t ld = (size_t)width;
    float *normed = new_normed(p, hidden, l->feed_forward_norm), *gate = new_rows(p, width), *up = new_rows(p, width);
    multiply(p, &l->gate, normed, gate, ld);
    multiply(p, &l->up, normed, up, ld);
    sk_gate(p->k, NULL, SK_FUNCTION_SILU, gate, up, ld, p->rows, width, gate, ld, SK_ACTIVATION_F32, NULL);
    add_product(p, hidden, &l->down, gate);
    free(up);
    free(gate);
    free(normed);
}

/// logits += head . what quantising `normed` left out
static void add_rest(const pass *p, const float *normed, float *logits) {
    const model *m = p->m;
    const sk_activation_kind kind = sk_type_activation(m->head.type);
    void *activations = new_memory((size_t)p->rows * sk_activation_bytes(kind, m->hidden));
    sk_quantise(p->k, NULL, kind, normed, (size_t)m->hidden, p->rows, m->hidden, activations);
    float *rest = new_rows(p, m->hidden), *more = new_rows(p, m->vocabulary);
    sk_quantisation_rest(p->k, kind, normed, (size_t)m->hidden, activations, p->rows, m->hidden, rest, (size_t)m->hidden);
    multiply(p, &m->head, rest, more, (size_t)m->vocabulary);
    sk_add(p->k, NULL, logits, (size_t)m->vocabulary, more, (size_t)m->vocabulary, p->rows, m->vocabulary);
    free(more);
    free(rest);
    free(activations);
}

/// Logits of p->rows tokens from p->first on, into f32[rows, vocabulary].
static void forward(const pass *p, const int32_t *tokens, float *logits) {
    model *m = p->m;
    float *hidden = new_rows(p, m->hidden);
    for (int32_t i = 0; i < p->rows; i++) sk_packed_row_to_f32(&m->embedding, tokens[p->first + i], hidden + i * m->hidden);
    if (m->embedding_scale != 1) sk_scale(p->k, hidden, m->embedding_scale, (size_t)(p->rows * m->hidden));
    for (int32_t i = 0; i < m->layers; i++) {
        attention_part(p, &m->layer[i], hidden);
        feed_forward_part(p, &m->layer[i], hidden);
    }
    float *normed = new_normed(p, hidden, m->norm);
    multiply(p, &m->head, normed, logits, (size_t)m->vocabulary);
    if (sk_type_activation(m->head.type) != SK_ACTIVATION_F32) add_rest(p, normed, logits);
    if (m->logit_divisor != 1) sk_scale(p->k, logits, 1 / m->logit_divisor, (size_t)p->rows * (size_t)m->vocabulary);
    free(normed);
    free(hidden);
}

// ---- Cases

typedef struct model_case {
    model *m;
    sk_kv_type kv;
    int32_t count;
    int32_t tokens[TOKENS_MAX];
    const char *output;  // null: not written; else by each table in turn, since all are equal or the run fails
} model_case;

static void run_model(const sk_kernels *k, record *r, const void *argument) {
    const model_case *c = argument;
    model *m = c->m;
    const int32_t pairs = m->rope_dims / 2, blocks = (c->count + SK_KV_BLOCK - 1) / SK_KV_BLOCK;
    const size_t stride = sk_kv_block_bytes(c->kv, m->kv_heads, m->head_dim), table_bytes = (size_t)(c->count * pairs) * sizeof(float);
    int32_t order[TOKENS_MAX];
    for (int32_t i = 0; i < blocks; i++) order[i] = blocks - 1 - i;
    for (int32_t i = 0; i < m->layers; i++)
        m->layer[i].kv = (sk_kv){c->kv, m->kv_heads, m->head_dim, new_memory((size_t)blocks * stride), stride};
    pass p = {.k = k, .m = m, .blocks = order, .cosines = new_memory(table_bytes), .sines = new_memory(table_bytes)};
    sk_rope_table(m->frequencies, pairs, 0, c->count, 1, p.cosines, p.sines);

    const size_t bytes = (size_t)c->count * (size_t)m->vocabulary * sizeof(float);
    float *logits = new_memory(bytes);
    for (; p.first < c->count; p.first += p.rows) {
        p.rows = p.first == 0 && c->count > DECODED ? c->count - DECODED : 1;
        forward(&p, c->tokens, logits + (size_t)p.first * (size_t)m->vocabulary);
    }
    record_floats(r, logits, (size_t)c->count * (size_t)m->vocabulary);
    if (c->output != NULL) {
        FILE *file = fopen(c->output, "wb");
        if (file == NULL || fwrite(logits, 1, bytes, file) != bytes || fclose(file) != 0) stop("the logits cannot be written", c->output);
    }
    free(logits);
    for (int32_t i = 0; i < m->layers; i++) free(m->layer[i].kv.base);
    free(p.sines);
    free(p.cosines);
}

static void run_synthetic(void) {
    for (uint32_t type = 0; type < 64; type++) {
        if (!sk_type_is_supported(type)) continue;
        model_case c = {.m = load_synthetic((sk_type)type), .count = 17 + DECODED};
        seeded s = {51};
        for (int32_t i = 0; i < c.count; i++) c.tokens[i] = (int32_t)seeded_below(&s, (uint32_t)c.m->vocabulary);
        const sk_kv_type kinds[] = {SK_KV_F32, SK_KV_F16, SK_KV_Q8};
        static const char *const names[] = {"f32", "f16", "q8"};
        for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
            c.kv = kinds[i];
            run_case(run_model, &c, "model of random %s, KV %s", sk_tensor_format_find((int32_t)type)->name, names[i]);
        }
        free(c.m);  // and not its weights: the process ends soon
    }
}

static void run_file(const char *path, const char *tokens, const char *output) {
    model_case c = {.m = load_file(path), .kv = SK_KV_F16, .output = output};
    FILE *file = fopen(tokens, "r");
    if (file == NULL) stop("the tokens cannot be read", tokens);
    while (c.count < TOKENS_MAX && fscanf(file, "%d", &c.tokens[c.count]) == 1) c.count++;
    fclose(file);
    if (c.count == 0) stop("there are no tokens in", tokens);
    for (int32_t i = 0; i < c.count; i++)
        if (c.tokens[i] < 0 || c.tokens[i] >= c.m->vocabulary) stop("a token is outside the vocabulary in", tokens);
    const char *name = strrchr(path, '/');
    run_case(run_model, &c, "model %s", name == NULL ? path : name + 1);
}

int main(int count, char **arguments) {
    if (count == 2 && strcmp(arguments[1], "synthetic") == 0) {
        find_tables();
        run_synthetic();
    } else if (count == 4) {
        find_tables();
        run_file(arguments[1], arguments[2], arguments[3]);
    } else {
        fprintf(stderr, "usage: forward MODEL TOKENS OUTPUT | forward synthetic\n");
        return 2;
    }
    return cases_failed() == 0 ? 0 : 1;
}
