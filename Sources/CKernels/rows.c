// Work on the rows of a batch, split over the pool by rows. One row stays on the calling thread: waking others costs more.

#include "activation_row.h"
#include "activation_super.h"
#include "kernels.h"
#include "require.h"

#include <math.h>
#include <string.h>

typedef struct row_job row_job;
struct row_job {
    void (*one)(const row_job *job, size_t row);
    const sk_kernels *k;
    int32_t rows;
    int32_t columns;
    float *x;
    size_t ldx;
    const float *y;
    size_t ldy;
    float *out;
    size_t ldo;
    const sk_norm *norm;
    sk_function function;
    float scale;
    sk_activation_kind kind;
    char *activations;  // null: none wanted
    // RoPE
    sk_rope_pairing pairing;
    int32_t heads, head_dim, dims;
    const int32_t *positions;
    const float *cosines, *sines;
};

static void row_share(void *argument, int32_t thread, int32_t threads) {
    const row_job *job = argument;
    int32_t first = (int32_t)((int64_t)job->rows * thread / threads), last = (int32_t)((int64_t)job->rows * (thread + 1) / threads);
    for (int32_t row = first; row < last; row++) job->one(job, (size_t)row);
}

static void run_rows(const row_job *job, sk_pool *pool) {
    SK_REQUIRE(job->rows >= 0 && job->columns >= 0, "negative size");
    if (pool == NULL || job->rows < 2) row_share((void *)job, 0, 1);
    else sk_pool_run(pool, row_share, (void *)job);
}

// ---- Quantisation

size_t sk_activation_bytes(sk_activation_kind kind, int32_t columns) {
    SK_REQUIRE(columns > 0, "columns must be positive");
    if (kind == SK_ACTIVATION_F32) return sk_align64((size_t)columns * sizeof(float));
    if (kind == SK_ACTIVATION_Q8_256) {
        SK_REQUIRE(columns % SUPER_BLOCK == 0, "columns must be a multiple of 256 for 8-bit activations in blocks of 256");
        return super_row_bytes(columns);
    }
    SK_REQUIRE(columns % Q8_BLOCK == 0, "columns must be a multiple of 32 for 8-bit activations");
    return activation_row_bytes(columns);
}

static void quantise_into(const row_job *job, const float *x, size_t row) {
    char *out = job->activations + row * sk_activation_bytes(job->kind, job->columns);
    if (job->kind == SK_ACTIVATION_F32) memcpy(out, x, (size_t)job->columns * sizeof(float));
    else if (job->kind == SK_ACTIVATION_Q8_256) job->k->quantise_q8_256(x, job->columns, out);
    else job->k->quantise_q8(x, job->columns, out);
}

static void quantise_row(const row_job *job, size_t row) { quantise_into(job, job->x + row * job->ldx, row); }

void sk_quantise(const sk_kernels *k, sk_pool *pool, sk_activation_kind kind, const float *x, size_t ldx, int32_t rows,
                 int32_t columns, void *out) {
    run_rows(&(row_job){.one = quantise_row, .k = k, .rows = rows, .columns = columns, .x = (float *)x, .ldx = ldx, .kind = kind,
                        .activations = out}, pool);
}

void sk_quantisation_rest(const sk_kernels *k, sk_activation_kind kind, const float *x, size_t ldx, const void *activations, int32_t rows,
                          int32_t columns, float *out, size_t ldo) {
    const size_t stride = sk_activation_bytes(kind, columns);
    for (int32_t row = 0; row < rows; row++, x += ldx, out += ldo) {
        const char *quantised = (const char *)activations + (size_t)row * stride;
        if (kind == SK_ACTIVATION_F32) {
            memset(out, 0, (size_t)columns * sizeof *out);
        } else {
            const bool super = kind == SK_ACTIVATION_Q8_256;
            const void *scales = super ? (const void *)(quantised + super_row_parts_of(columns).scales) : activation_row_at(quantised, columns).scale;
            k->quantisation_rest(x, (const int8_t *)quantised, scales, super ? SUPER_BLOCK : Q8_BLOCK, columns, out);
        }
    }
}

// ---- Norms

static void normalise_row(const row_job *job, size_t row) {
    float *out = job->out + row * job->ldo;
    job->k->normalise(job->norm, job->x + row * job->ldx, out, job->columns);
    if (job->activations != NULL) quantise_into(job, out, row);
}

void sk_normalise(const sk_kernels *k, sk_pool *pool, const sk_norm *norm, const float *x, size_t ldx, int32_t rows,
                  int32_t columns, float *out, size_t ldo) {
    run_rows(&(row_job){.one = normalise_row, .k = k, .rows = rows, .columns = columns, .x = (float *)x, .ldx = ldx, .out = out,
                        .ldo = ldo, .norm = norm}, pool);
}

void sk_normalise_quantise(const sk_kernels *k, sk_pool *pool, const sk_norm *norm, const float *x, size_t ldx, int32_t rows,
                           int32_t columns, float *normed, size_t ldn, sk_activation_kind kind, void *out) {
    run_rows(&(row_job){.one = normalise_row, .k = k, .rows = rows, .columns = columns, .x = (float *)x, .ldx = ldx, .out = normed,
                        .ldo = ldn, .norm = norm, .kind = kind, .activations = out}, pool);
}

// ---- Gates and residuals

void sk_apply(const sk_kernels *k, sk_function function, const float *x, float *out, size_t count) {
    k->apply(function, x, out, count);
}

static void gate_row(const row_job *job, size_t row) {
    float *out = job->out + row * job->ldo;
    job->k->gate(job->function, job->x + row * job->ldx, job->y + row * job->ldx, out, (size_t)job->columns);
    if (job->activations != NULL) quantise_into(job, out, row);
}

void sk_gate(const sk_kernels *k, sk_pool *pool, sk_function function, const float *gate, const float *up, size_t ld,
             int32_t rows, int32_t columns, float *out, size_t ldo, sk_activation_kind kind, void *activations) {
    run_rows(&(row_job){.one = gate_row, .k = k, .rows = rows, .columns = columns, .x = (float *)gate, .ldx = ld, .y = up,
                        .out = out, .ldo = ldo, .function = function, .kind = kind, .activations = activations}, pool);
}

static void add_row(const row_job *job, size_t row) {
    job->k->add(job->x + row * job->ldx, job->y + row * job->ldy, (size_t)job->columns);
}

void sk_add(const sk_kernels *k, sk_pool *pool, float *x, size_t ldx, const float *y, size_t ldy, int32_t rows, int32_t columns) {
    run_rows(&(row_job){.one = add_row, .k = k, .rows = rows, .columns = columns, .x = x, .ldx = ldx, .y = y, .ldy = ldy}, pool);
}

void sk_add_bias(const sk_kernels *k, sk_pool *pool, float *x, size_t ldx, const float *bias, int32_t rows, int32_t columns) {
    sk_add(k, pool, x, ldx, bias, 0, rows, columns);
}

static void add_scaled_row(const row_job *job, size_t row) {
    job->k->add_scaled(job->x + row * job->ldx, job->y + row * job->ldy, job->scale, (size_t)job->columns);
}

void sk_add_scaled(const sk_kernels *k, sk_pool *pool, float *x, size_t ldx, const float *y, size_t ldy, float scale,
                   int32_t rows, int32_t columns) {
    run_rows(&(row_job){.one = add_scaled_row, .k = k, .rows = rows, .columns = columns, .x = x, .ldx = ldx, .y = y, .ldy = ldy,
                        .scale = scale}, pool);
}

void sk_scale(const sk_kernels *k, float *x, float scale, size_t count) { k->scale(x, scale, count); }

// ---- RoPE

static void rope_row(const row_job *job, size_t row) {
    size_t table_row = (size_t)job->positions[row] * (size_t)(job->dims / 2);
    job->k->rope(job->pairing, job->x + row * job->ldx, job->heads, job->head_dim, job->dims, job->cosines + table_row,
                 job->sines + table_row);
}

void sk_rope(const sk_kernels *k, sk_pool *pool, sk_rope_pairing pairing, float *x, size_t ldx, int32_t rows, int32_t heads,
             int32_t head_dim, int32_t dims, const int32_t *positions, const float *cosines, const float *sines) {
    SK_REQUIRE(dims >= 0 && dims % 2 == 0 && dims <= head_dim, "dims must be even and at most head_dim");
    run_rows(&(row_job){.one = rope_row, .k = k, .rows = rows, .columns = dims, .x = x, .ldx = ldx, .pairing = pairing,
                        .heads = heads, .head_dim = head_dim, .dims = dims, .positions = positions, .cosines = cosines,
                        .sines = sines}, pool);
}

// ---- Narrow floats and logits

void sk_round_bf16(const sk_kernels *k, float *x, size_t count) { k->round_bf16(x, count); }
void sk_to_bf16(const sk_kernels *k, const float *x, uint16_t *out, size_t count) { k->to_bf16(x, out, count); }
void sk_from_bf16(const sk_kernels *k, const uint16_t *x, float *out, size_t count) { k->from_bf16(x, out, count); }
void sk_to_f16(const sk_kernels *k, const float *x, uint16_t *out, size_t count) { k->to_f16(x, out, count); }
void sk_from_f16(const sk_kernels *k, const uint16_t *x, float *out, size_t count) { k->from_f16(x, out, count); }

int32_t sk_argmax(const sk_kernels *k, const float *x, int32_t count) {
    SK_REQUIRE(count > 0, "no element");
    return k->argmax(x, count);
}

int32_t sk_collect(const sk_kernels *k, const float *x, int32_t count, float low, float high, int32_t *ids) {
    return k->collect(x, count, low, high, ids);
}

void sk_temper(const sk_kernels *k, const float *x, float highest, float temperature, float *out, int32_t count) {
    k->temper(x, highest, temperature, out, count);
}

bool sk_all_finite(const sk_kernels *k, const float *x, size_t count) { return k->all_finite(x, count); }

void sk_softmax(const sk_kernels *k, const float *x, float *out, int32_t count) {
    SK_REQUIRE(count > 0, "no element");
    float sum = k->exp_sum(x, k->maximum(x, count), out, count);
    k->divide(out, sum, (size_t)count);
}
