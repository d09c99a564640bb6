// Matrix products over the pool. A thread's share is its part of each matrix's row groups, so it meets the same weights in every step,
// whatever other matrices are multiplied in the same run. Which thread computes a row changes nothing in it.

#include "matmul.h"
#include "require.h"

static int32_t row_groups(const sk_matrix *m) { return (m->rows + SK_ROW_GROUP - 1) / SK_ROW_GROUP; }

void sk_matmul_share(const sk_matrix *matrix, int32_t thread, int32_t threads, int32_t *first_group, int32_t *last_group) {
    SK_REQUIRE(threads > 0 && thread >= 0 && thread < threads, "no such thread");
    int64_t groups = row_groups(matrix);
    *first_group = (int32_t)(groups * thread / threads);
    *last_group = (int32_t)(groups * (thread + 1) / threads);
}

static void multiply(const matmul_job *job, const product_part *part, int32_t share, int32_t first, int32_t last) {
    const sk_matrix *m = &part->matrix;
    const sk_activation_kind kind = sk_type_activation(m->type);
    product_range range = {
        .packed = (const uint8_t *)m->packed + sk_packed_offset(m->type, first * SK_ROW_GROUP, m->columns),
        .groups = last - first,
        .rows = m->rows - first * SK_ROW_GROUP,
        .columns = m->columns,
        .activations = part->activations != NULL ? part->activations : job->prepared(job, share, kind),
        .stride = sk_activation_bytes(kind, m->columns),
        .batch = part->batch,
        .out = part->out + (size_t)first * SK_ROW_GROUP,
        .ldo = part->ldo,
    };
    job->k->product[m->type](&range);
}

/// Row groups first ..< last of one part, or of both of a pair.
static void compute(const matmul_job *job, int32_t part, int32_t share, int32_t first, int32_t last) {
    const product_part *p = &job->parts[part];
    multiply(job, p, share, first, last);
    if (job->paired) multiply(job, p + 1, share, first, last);
    if (job->finish == NULL) return;
    int32_t row = first * SK_ROW_GROUP, end = last * SK_ROW_GROUP < p->matrix.rows ? last * SK_ROW_GROUP : p->matrix.rows;
    job->finish(job, part, row, end - row);
}

/// Units first ..< last of the share `whose`: its row groups of the first part, then of the second, …, computed by share `share`.
static void compute_units(const matmul_job *job, int32_t share, int32_t whose, int32_t shares, int32_t first, int32_t last) {
    int32_t base = 0;
    for (int32_t part = 0; part < job->count && base < last; part += job->paired ? 2 : 1) {
        int32_t low, high;
        sk_matmul_share(&job->parts[part].matrix, whose, shares, &low, &high);
        int32_t from = first > base ? first - base : 0, to = last - base < high - low ? last - base : high - low;
        if (from < to) compute(job, part, share, low + from, low + to);
        base += high - low;
    }
}

static int32_t units_of(const matmul_job *job, int32_t share, int32_t shares) {
    int32_t units = 0;
    for (int32_t part = 0; part < job->count; part += job->paired ? 2 : 1) {
        int32_t low, high;
        sk_matmul_share(&job->parts[part].matrix, share, shares, &low, &high);
        units += high - low;
    }
    return units;
}

/// Kernels compute up to four row groups at once where there are columns enough to pay for it: no portion should break these up.
static int32_t least_portion(const matmul_job *job) {
    for (int32_t part = 0; part < job->count; part++)
        if (job->parts[part].batch > 4) return 4;
    return 1;
}

/// The count of what this share takes from that one.
static uint64_t *taken_from(const matmul_job *job, int32_t share, int32_t whose) {
    sk_pool_units *taken = &job->queues[share].taken;
    if (share == whose) return &taken->own;
    return sk_pool_node_of(job->pool, share) == sk_pool_node_of(job->pool, whose) ? &taken->of_node : &taken->of_others;
}

static void matmul_share(void *argument, int32_t share, int32_t shares) {
    const matmul_job *job = argument;
    const int32_t least = least_portion(job), others = shares - 1 < STEAL_FROM_MAX ? shares - 1 : STEAL_FROM_MAX;
    bool prepared = job->prepare == NULL;
    int32_t first, last;
    work_queue_fill(&job->queues[share], units_of(job, share, shares));
    for (int32_t step = 0; step <= others; step++) {
        const int32_t whose = step == 0 ? share : sk_pool_victim(job->pool, share, step);
        uint64_t *taken = taken_from(job, share, whose);
        while (step == 0 ? work_queue_take(&job->queues[whose], least, &first, &last)
                         : work_queue_steal(&job->queues[whose], least, &first, &last)) {
            if (!prepared) job->prepare(job, share);
            prepared = true;
            *taken += (uint64_t)(last - first);
            compute_units(job, share, whose, shares, first, last);
        }
    }
}

void matmul_run(matmul_job *job, sk_pool *pool) {
    work_queue alone = {0};
    job->pool = pool;
    job->queues = pool == NULL ? &alone : sk_pool_queues(pool);
    if (pool == NULL) matmul_share(job, 0, 1);
    else sk_pool_run(pool, matmul_share, job);
}

enum { PARTS_ON_STACK = 8 };

void sk_matmul(const sk_kernels *k, sk_pool *pool, const sk_product *products, int32_t count, int32_t batch) {
    SK_REQUIRE(count >= 0 && batch >= 0, "negative count");
    if (batch == 0) return;
    // Together, so that other threads fetch all of it at once.
    struct {
        matmul_job job;
        product_part parts[PARTS_ON_STACK];
    } work;
    for (int32_t begin = 0; begin < count; begin += PARTS_ON_STACK) {
        int32_t some = count - begin < PARTS_ON_STACK ? count - begin : PARTS_ON_STACK;
        for (int32_t i = 0; i < some; i++) {
            const sk_product *p = &products[begin + i];
            SK_REQUIRE(p->ldo >= (size_t)p->matrix.rows || batch <= 1, "ldo is less than the matrix has rows");
            SK_REQUIRE(((uintptr_t)p->matrix.packed | (uintptr_t)p->activations) % SK_ALIGNMENT == 0,
                       "packed matrices and activations must be aligned to SK_ALIGNMENT");
            work.parts[i] = (product_part){.matrix = p->matrix, .activations = p->activations, .batch = batch, .out = p->out, .ldo = p->ldo};
        }
        work.job = (matmul_job){.k = k, .parts = work.parts, .count = some};
        matmul_run(&work.job, pool);
    }
}
