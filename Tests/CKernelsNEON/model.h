// A decoder's weights and switches, packed for the kernels: read from a model file, or made up from a seed.

#ifndef MODEL_H
#define MODEL_H

#include "cases.h"

enum { LAYERS_MAX = 128 };

typedef struct layer {
    float *attention_norm, *feed_forward_norm;  // f32[hidden]
    float *bias;                                // f32[query_width + 2 kv_width] or null
    sk_matrix query, key, value, output, gate, up, down;
    sk_kv kv;
} layer;

typedef struct model {
    int32_t hidden, layers, heads, kv_heads, head_dim, feed_forward, vocabulary, rope_dims;
    float epsilon, attention_scale, embedding_scale, residual_scale, logit_divisor;
    sk_rope_pairing pairing;
    double *frequencies;  // f64[rope_dims / 2]
    sk_matrix embedding, head;
    float *norm;
    layer layer[LAYERS_MAX];
} model;

/// Of the llama, qwen2 or granite family. Ends the process with a message where it is not, or lacks something.
model *load_file(const char *path);
/// Small, of one type, with shapes that fit blocks of 256, and every switch of the block on.
model *load_synthetic(sk_type type);
/// Ends the process.
_Noreturn void stop(const char *what, const char *name);

#endif
