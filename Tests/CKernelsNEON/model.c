// Loading of whole models.

#include "model.h"
#include "gguf.h"
#include "staffel_dequant.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/// Where weights come from: a file, or, where that is null, a seed and a type.
typedef struct source {
    const gguf_file *file;
    seeded seed;
    sk_type type;
} source;

_Noreturn void stop(const char *what, const char *name) {
    fprintf(stderr, "error: %s: %s\n", what, name);
    exit(1);
}

static sk_matrix load_matrix(source *from, const char *name, int32_t rows, int32_t columns) {
    gguf_tensor tensor = {.type = from->type, .columns = columns, .rows = rows};
    uint8_t *made = NULL;
    if (from->file == NULL) {
        const size_t bytes = (size_t)rows * sk_type_row_bytes(from->type, columns);
        made = new_memory(bytes);
        const float deviation = strcmp(name, "token_embd.weight") == 0 ? 1.0f : 1.5f / sqrtf((float)columns);
        fill_weights(&from->seed, ORDINARY, from->type, deviation, made, bytes);
        tensor.bytes = made;
    } else if (!gguf_find(from->file, name, &tensor) || tensor.rows != rows || tensor.columns != columns) {
        stop("the model lacks a tensor of this name and shape", name);
    }
    if (!sk_type_is_supported(tensor.type)) stop("there are no kernels for the type of tensor", name);
    const sk_type type = (sk_type)tensor.type;
    void *packed = new_memory(sk_packed_bytes(type, rows, columns));
    sk_pack_rows(type, tensor.bytes, rows, columns, packed);
    free(made);
    return (sk_matrix){type, rows, columns, packed};
}

/// Floats of one tensor into `out`; false where there is none.
static bool load_floats(source *from, const char *name, int32_t count, float *out) {
    gguf_tensor tensor;
    if (from->file == NULL) {
        fill_floats(&from->seed, ORDINARY, out, (size_t)count);
        return true;
    }
    if (!gguf_find(from->file, name, &tensor)) return false;
    if (tensor.columns != count || sk_dequantize_row((int32_t)tensor.type, tensor.bytes, out, (size_t)count) != 0)
        stop("the model has no floats of this length", name);
    return true;
}

static float *load_vector(source *from, const char *name, int32_t count) {
    float *vector = new_memory((size_t)count * sizeof *vector);
    if (!load_floats(from, name, count, vector)) stop("the model lacks the tensor", name);
    return vector;
}

static const char *in_layer(int32_t index, const char *name) {
    static char whole[64];
    snprintf(whole, sizeof whole, "blk.%d.%s", index, name);
    return whole;
}

static void load_layer(model *m, source *from, int32_t i) {
    layer *l = &m->layer[i];
    const int32_t query_width = m->heads * m->head_dim, kv_width = m->kv_heads * m->head_dim;
    l->attention_norm = load_vector(from, in_layer(i, "attn_norm.weight"), m->hidden);
    l->query = load_matrix(from, in_layer(i, "attn_q.weight"), query_width, m->hidden);
    l->key = load_matrix(from, in_layer(i, "attn_k.weight"), kv_width, m->hidden);
    l->value = load_matrix(from, in_layer(i, "attn_v.weight"), kv_width, m->hidden);
    l->output = load_matrix(from, in_layer(i, "attn_output.weight"), m->hidden, query_width);
    l->feed_forward_norm = load_vector(from, in_layer(i, "ffn_norm.weight"), m->hidden);
    l->gate = load_matrix(from, in_layer(i, "ffn_gate.weight"), m->feed_forward, m->hidden);
    l->up = load_matrix(from, in_layer(i, "ffn_up.weight"), m->feed_forward, m->hidden);
    l->down = load_matrix(from, in_layer(i, "ffn_down.weight"), m->hidden, m->feed_forward);
    float *bias = new_memory((size_t)(query_width + 2 * kv_width) * sizeof *bias);
    const bool has_bias = load_floats(from, in_layer(i, "attn_q.bias"), query_width, bias) &&
                          load_floats(from, in_layer(i, "attn_k.bias"), kv_width, bias + query_width) &&
                          load_floats(from, in_layer(i, "attn_v.bias"), kv_width, bias + query_width + kv_width);
    if (has_bias) l->bias = bias;
    else free(bias);
}

static void load_tensors(model *m, source *from) {
    gguf_tensor ignored;
    m->embedding = m->head = load_matrix(from, "token_embd.weight", m->vocabulary, m->hidden);
    if (from->file == NULL || gguf_find(from->file, "output.weight", &ignored))
        m->head = load_matrix(from, "output.weight", m->vocabulary, m->hidden);
    m->norm = load_vector(from, "output_norm.weight", m->hidden);
    for (int32_t i = 0; i < m->layers; i++) load_layer(m, from, i);
}

/// The file's number below its architecture's name.
static double number(const source *from, const char *architecture, const char *key, double otherwise) {
    char whole[128];
    snprintf(whole, sizeof whole, "%s.%s", architecture, key);
    const double found = gguf_number(from->file, whole, otherwise);
    if (isnan(found)) stop("the model lacks the key", whole);
    return found;
}

static void read_configuration(model *m, source *from) {
    static const char *const families[] = {"llama", "qwen2", "granite"};
    const char *family = NULL;
    for (size_t i = 0; i < 3; i++)
        if (gguf_says(from->file, "general.architecture", families[i])) family = families[i];
    if (family == NULL) stop("the model is of another family than", "llama, qwen2, granite");
    gguf_tensor embedding;
    if (!gguf_find(from->file, "token_embd.weight", &embedding)) stop("the model lacks the tensor", "token_embd.weight");
    m->vocabulary = embedding.rows;
    m->hidden = (int32_t)number(from, family, "embedding_length", NAN);
    m->layers = (int32_t)number(from, family, "block_count", NAN);
    m->heads = (int32_t)number(from, family, "attention.head_count", NAN);
    m->kv_heads = (int32_t)number(from, family, "attention.head_count_kv", m->heads);
    m->head_dim = (int32_t)number(from, family, "attention.key_length", m->hidden / m->heads);
    m->feed_forward = (int32_t)number(from, family, "feed_forward_length", NAN);
    m->rope_dims = (int32_t)number(from, family, "rope.dimension_count", m->head_dim);
    m->epsilon = (float)number(from, family, "attention.layer_norm_rms_epsilon", NAN);
    m->attention_scale = (float)number(from, family, "attention.scale", 1 / sqrt(m->head_dim));
    m->embedding_scale = (float)number(from, family, "embedding_scale", 1);
    m->residual_scale = (float)number(from, family, "residual_scale", 1);
    m->logit_divisor = (float)number(from, family, "logit_scale", 1);
    m->pairing = strcmp(family, "qwen2") == 0 ? SK_ROPE_HALVES : SK_ROPE_ADJACENT;
    const int32_t pairs = m->rope_dims / 2;
    float *divisors = new_memory((size_t)pairs * sizeof *divisors);
    m->frequencies = new_memory((size_t)pairs * sizeof *m->frequencies);
    const bool has_divisors = load_floats(from, "rope_freqs.weight", pairs, divisors);
    sk_rope_frequencies(number(from, family, "rope.freq_base", 10000), m->rope_dims, has_divisors ? divisors : NULL, m->frequencies);
    sk_rope_scale_linear(m->frequencies, pairs, number(from, family, "rope.scaling.factor", 1));
    free(divisors);
}

model *load_file(const char *path) {
    model *m = calloc(1, sizeof *m);
    source from = {.file = gguf_open(path)};
    read_configuration(m, &from);
    if (m->layers > LAYERS_MAX) stop("the model has too many layers", path);
    load_tensors(m, &from);
    return m;
}

model *load_synthetic(sk_type type) {
    model *m = calloc(1, sizeof *m);
    *m = (model){.hidden = 256, .layers = 2, .heads = 8, .kv_heads = 2, .head_dim = 32, .feed_forward = 512, .vocabulary = 389,
                 .rope_dims = 32, .epsilon = 1e-5f, .attention_scale = 0.17f, .embedding_scale = 1.5f, .residual_scale = 0.7f,
                 .logit_divisor = 3, .pairing = type % 2 == 0 ? SK_ROPE_ADJACENT : SK_ROPE_HALVES};
    m->frequencies = new_memory((size_t)m->rope_dims / 2 * sizeof *m->frequencies);
    sk_rope_frequencies(10000, m->rope_dims, NULL, m->frequencies);
    source from = {.seed = {(uint64_t)type + 1}, .type = type};
    load_tensors(m, &from);
    return m;
}
