// Products over the pool, for those who do something before and after them: matmul.c nothing, project.c norms, biases, gates and
// residuals, experts.c one batch for each expert.

#ifndef SK_MATMUL_H
#define SK_MATMUL_H

#include "kernels.h"
#include "pool.h"

/// One matrix and what it is multiplied with.
typedef struct product_part {
    sk_matrix matrix;
    const char *activations;  // null: those that `prepare` gave
    int32_t batch;
    float *out;               // f32[batch, ldo]
    size_t ldo;
} product_part;

typedef struct matmul_job matmul_job;
struct matmul_job {
    const sk_kernels *k;
    const product_part *parts;  // [count]
    int32_t count;
    /// Parts 2i and 2i + 1 have equally many rows and are computed side by side, row group by row group.
    bool paired;
    const sk_pool *pool;        // null: the calling thread's alone
    work_queue *queues;         // [threads]
    /// Called once on each thread that computes something, before its first product. Null: nothing to prepare.
    void (*prepare)(const matmul_job *job, int32_t share);
    /// Where `prepare` put the activations of this kind for this share.
    const char *(*prepared)(const matmul_job *job, int32_t share, sk_activation_kind kind);
    /// Called when rows first ..< first + rows of part `part` (paired: and of the next one) are there. Null: nothing follows.
    void (*finish)(const matmul_job *job, int32_t part, int32_t first, int32_t rows);
    const void *context;
};

/// Computes all parts; null: on the calling thread.
void matmul_run(matmul_job *job, sk_pool *pool);

#endif
