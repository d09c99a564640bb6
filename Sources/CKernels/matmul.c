// Matrix products over the pool: each thread takes a contiguous share of the row groups of all products, by weight bytes, so a
// thread meets the same weights in every step (its cache, its NUMA node). Which thread computes a row changes nothing in it.

#include "kernels.h"
#include "require.h"

typedef struct matmul_job {
    const sk_kernels *k;
    const sk_product *products;
    int32_t count;
    int32_t batch;
    size_t total_bytes;
} matmul_job;

static int32_t row_groups(const sk_matrix *m) { return (m->rows + SK_ROW_GROUP - 1) / SK_ROW_GROUP; }
static size_t group_bytes(const sk_matrix *m) { return sk_packed_offset(m->type, SK_ROW_GROUP, m->columns); }

static void multiply(const matmul_job *job, const sk_product *product, int32_t first, int32_t last) {
    const sk_matrix *m = &product->matrix;
    product_range range = {
        .packed = (const uint8_t *)m->packed + (size_t)first * group_bytes(m),
        .groups = last - first,
        .rows = m->rows - first * SK_ROW_GROUP,
        .columns = m->columns,
        .activations = product->activations,
        .stride = sk_activation_bytes(sk_type_activation(m->type), m->columns),
        .batch = job->batch,
        .out = product->out + (size_t)first * SK_ROW_GROUP,
        .ldo = product->ldo,
    };
    job->k->product[m->type](&range);
}

/// The first group of a matrix, whose bytes begin at `base` of all, that starts at or after byte `at`.
static int32_t group_at(const sk_matrix *m, size_t base, size_t at) {
    if (at <= base) return 0;
    size_t group = (at - base + group_bytes(m) - 1) / group_bytes(m);
    return group < (size_t)row_groups(m) ? (int32_t)group : row_groups(m);
}

static void matmul_share(void *argument, int32_t thread, int32_t threads) {
    const matmul_job *job = argument;
    size_t low = job->total_bytes / (size_t)threads * (size_t)thread;
    size_t high = thread + 1 == threads ? job->total_bytes : job->total_bytes / (size_t)threads * (size_t)(thread + 1);
    size_t base = 0;
    for (int32_t i = 0; i < job->count; i++) {
        const sk_matrix *m = &job->products[i].matrix;
        int32_t first = group_at(m, base, low), last = group_at(m, base, high);
        if (first < last) multiply(job, &job->products[i], first, last);
        base += (size_t)row_groups(m) * group_bytes(m);
    }
}

void sk_matmul(const sk_kernels *k, sk_pool *pool, const sk_product *products, int32_t count, int32_t batch) {
    SK_REQUIRE(count >= 0 && batch >= 0, "negative count");
    matmul_job job = {.k = k, .products = products, .count = count, .batch = batch};
    for (int32_t i = 0; i < count; i++) {
        const sk_product *p = &products[i];
        SK_REQUIRE(p->ldo >= (size_t)p->matrix.rows || batch <= 1, "ldo is less than the matrix has rows");
        SK_REQUIRE(((uintptr_t)p->matrix.packed | (uintptr_t)p->activations) % SK_ALIGNMENT == 0,
                   "packed matrices and activations must be aligned to SK_ALIGNMENT");
        job.total_bytes += (size_t)row_groups(&p->matrix) * group_bytes(&p->matrix);
    }
    if (job.total_bytes == 0 || batch == 0) return;
    if (pool == NULL) matmul_share(&job, 0, 1);
    else sk_pool_run(pool, matmul_share, &job);
}
