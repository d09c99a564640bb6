// A projection with what stands around it: norm and quantisation of its input before, bias, gate or residual after, in one run of the
// pool. What comes before is needed by every thread. For few rows each thread computes it for itself, which takes no longer than
// waiting for one that does it for all; for many it is a run of its own, shared by rows.

#include "activation_row.h"
#include "matmul.h"
#include "require.h"

enum {
    // Norm and quantisation of so many elements take about as long as a run of the pool takes to begin and end.
    ELEMENTS_EACH_FOR_ITSELF_MAX = 4096,
    KINDS_MAX = 4,  // of activations
};

typedef struct projection_run {
    const sk_kernels *k;
    const sk_projection *p;
    int32_t rows;
    int32_t threads;
    bool shared;                   // whether the activations are computed once for all
    char *activations[KINDS_MAX];  // by kind: [rows][bytes], or where not shared [threads][rows][bytes]; null: not used
    char *normed;                  // [threads] rows of floats
} projection_run;

static bool is_shared(const sk_projection *p, int32_t rows) {
    return rows > 1 && (int64_t)rows * p->columns > ELEMENTS_EACH_FOR_ITSELF_MAX;
}

static bool uses(const sk_projection *p, sk_activation_kind kind) {
    for (int32_t i = 0; i < p->count; i++)
        if (sk_type_activation(p->matrices[i].type) == kind) return true;
    return false;
}

static size_t normed_bytes(const sk_projection *p) { return sk_align64((size_t)p->columns * sizeof(float)); }

/// Lays the run's memory out; returns its size. Kinds are numbered from 0.
static size_t place(projection_run *run, char *workspace) {
    size_t bytes = normed_bytes(run->p) * (size_t)run->threads;
    run->normed = workspace;
    const size_t copies = run->shared ? 1 : (size_t)run->threads;
    for (int32_t kind = 0; kind < KINDS_MAX; kind++) {
        run->activations[kind] = NULL;
        if (!uses(run->p, (sk_activation_kind)kind)) continue;
        if (workspace != NULL) run->activations[kind] = workspace + bytes;
        bytes += copies * (size_t)run->rows * sk_activation_bytes((sk_activation_kind)kind, run->p->columns);
    }
    return bytes;
}

size_t sk_project_workspace_bytes(const sk_projection *projection, int32_t rows, int32_t threads) {
    projection_run run = {.p = projection, .rows = rows, .threads = threads, .shared = is_shared(projection, rows)};
    return place(&run, NULL);
}

// ---- Before

static char *activations_at(const projection_run *run, int32_t share, sk_activation_kind kind) {
    size_t bytes = sk_activation_bytes(kind, run->p->columns);
    return run->activations[kind] + (run->shared ? 0 : (size_t)share * (size_t)run->rows * bytes);
}

/// One row in each form that the matrices take.
static void prepare_row(const projection_run *run, int32_t share, int32_t row) {
    const sk_projection *p = run->p;
    const float *x = p->x + (size_t)row * p->ldx;
    if (p->norm != NULL) {
        float *normed = (float *)(void *)(run->normed + (size_t)share * normed_bytes(p));
        sk_normalise(run->k, NULL, p->norm, x, p->ldx, 1, p->columns, normed, (size_t)p->columns);
        x = normed;
    }
    for (int32_t kind = 0; kind < KINDS_MAX; kind++) {
        if (run->activations[kind] == NULL) continue;
        char *out = activations_at(run, share, (sk_activation_kind)kind) +
                    (size_t)row * sk_activation_bytes((sk_activation_kind)kind, p->columns);
        sk_quantise(run->k, NULL, (sk_activation_kind)kind, x, p->ldx, 1, p->columns, out);
    }
}

static void prepare_share(void *argument, int32_t share, int32_t shares) {
    const projection_run *run = argument;
    int32_t first = (int32_t)((int64_t)run->rows * share / shares), last = (int32_t)((int64_t)run->rows * (share + 1) / shares);
    for (int32_t row = first; row < last; row++) prepare_row(run, share, row);
}

static void prepare_all(const matmul_job *job, int32_t share) {
    const projection_run *run = job->context;
    for (int32_t row = 0; row < run->rows; row++) prepare_row(run, share, row);
}

static const char *prepared(const matmul_job *job, int32_t share, sk_activation_kind kind) {
    return activations_at(job->context, share, kind);
}

// ---- After

static int32_t rows_before(const sk_projection *p, int32_t matrix) {
    int32_t rows = 0;
    for (int32_t i = 0; i < matrix; i++) rows += p->matrices[i].rows;
    return rows;
}

/// Outputs first ..< first + count of matrix `matrix` are there, for all rows.
static void finish(const matmul_job *job, int32_t matrix, int32_t first, int32_t count) {
    const projection_run *run = job->context;
    const sk_projection *p = run->p;
    const size_t at = (size_t)(rows_before(p, matrix) + first);
    for (int32_t row = 0; row < run->rows; row++) {
        float *out = p->out + (size_t)row * p->ldo + at;
        if (p->bias != NULL) {
            run->k->add(out, p->bias + at, (size_t)count);
            if (p->gated) run->k->add(out + p->matrices[0].rows, p->bias + at + p->matrices[0].rows, (size_t)count);
        }
        if (p->gated) run->k->gate(p->function, out, out + p->matrices[0].rows, out, (size_t)count);
        if (p->residual == NULL) continue;
        float *residual = p->residual + (size_t)row * p->ldr + at;
        if (p->residual_scale == 1.0f) run->k->add(residual, out, (size_t)count);
        else run->k->add_scaled(residual, out, p->residual_scale, (size_t)count);
    }
}

static void require_sense(const sk_projection *p, int32_t rows, const void *workspace) {
    SK_REQUIRE(p->count >= 1 && p->count <= SK_PROJECTION_MATRICES_MAX, "a projection has 1...4 matrices");
    SK_REQUIRE((uintptr_t)workspace % SK_ALIGNMENT == 0, "workspace must be aligned to SK_ALIGNMENT");
    SK_REQUIRE(p->ldo >= (size_t)rows_before(p, p->count) || rows <= 1, "ldo is less than the matrices have rows");
    SK_REQUIRE(!p->gated || (p->count == 2 && p->matrices[0].rows == p->matrices[1].rows && p->residual == NULL),
               "a gate takes two matrices of equally many rows and no residual");
    for (int32_t i = 0; i < p->count; i++) {
        SK_REQUIRE(p->matrices[i].columns == p->columns, "all matrices take the same input");
        SK_REQUIRE((uintptr_t)p->matrices[i].packed % SK_ALIGNMENT == 0, "packed matrices must be aligned to SK_ALIGNMENT");
    }
}

void sk_project(const sk_kernels *k, sk_pool *pool, const sk_projection *p, int32_t rows, void *workspace) {
    require_sense(p, rows, workspace);
    if (rows == 0) return;
    // Together, so that other threads fetch all of it at once.
    struct {
        matmul_job job;
        product_part parts[SK_PROJECTION_MATRICES_MAX];
        projection_run run;
        sk_projection projection;
    } work;
    work.projection = *p;
    work.run = (projection_run){.k = k, .p = &work.projection, .rows = rows, .threads = pool == NULL ? 1 : sk_pool_threads(pool),
                                .shared = is_shared(p, rows)};
    place(&work.run, workspace);
    if (work.run.shared) {
        if (pool == NULL) prepare_share(&work.run, 0, 1);
        else sk_pool_run(pool, prepare_share, &work.run);
    }

    size_t at = 0;
    for (int32_t i = 0; i < p->count; i++) {
        work.parts[i] = (product_part){.matrix = p->matrices[i], .batch = rows, .out = p->out + at, .ldo = p->ldo};
        at += (size_t)p->matrices[i].rows;
    }
    const bool is_plain = p->bias == NULL && !p->gated && p->residual == NULL;
    work.job = (matmul_job){
        .k = k, .parts = work.parts, .count = p->count, .paired = p->gated, .prepare = work.run.shared ? NULL : prepare_all,
        .prepared = prepared, .finish = is_plain ? NULL : finish, .context = &work.run,
    };
    matmul_run(&work.job, pool);
}
