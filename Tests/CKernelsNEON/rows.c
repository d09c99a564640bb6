// Cases of kernels over rows: norms, functions, gates, residuals, narrow floats, logits, RoPE.

#include "cases.h"

#include <stdlib.h>
#include <string.h>

typedef struct row_case {
    int32_t rows, columns;
    spread kind;
    int32_t choice;   // of the function, the norm or the pairing
    int32_t threads;  // 0: no pool
} row_case;

enum { GAP = 3 };  // floats behind each row, which nobody may write

static size_t floats_of(const row_case *c) { return (size_t)c->rows * (size_t)(c->columns + GAP); }
static sk_pool *new_pool(const row_case *c) { return c->threads == 0 ? NULL : sk_pool_create(c->threads, NULL); }

// ---- Norms. choice: 0 RMS, 1 LAYER, 2 LAYER with bias; and in one run with each quantisation that suits the columns.

static void norms(const sk_kernels *k, record *r, const void *argument) {
    const row_case *c = argument;
    seeded s = {31};
    const size_t ld = (size_t)(c->columns + GAP);
    float *x = new_floats(&s, c->kind, floats_of(c)), *out = new_memory(floats_of(c) * sizeof *out);
    float *weight = new_floats(&s, ORDINARY, ld), *bias = new_floats(&s, ORDINARY, ld);
    sk_norm norm = {c->choice == 0 ? SK_NORM_RMS : SK_NORM_LAYER, 1e-5f, weight, c->choice == 2 ? bias : NULL};
    sk_pool *pool = new_pool(c);
    sk_normalise(k, pool, &norm, x, ld, c->rows, c->columns, out, ld);
    record_floats(r, out, floats_of(c));
    for (uint32_t type = 0; type < 64; type++) {
        if (!sk_type_is_supported(type) || c->columns % sk_type_block((sk_type)type) != 0) continue;
        const sk_activation_kind kind = sk_type_activation((sk_type)type);
        void *activations = new_memory((size_t)c->rows * sk_activation_bytes(kind, c->columns));
        sk_normalise_quantise(k, pool, &norm, x, ld, c->rows, c->columns, out, ld, kind, activations);
        record_activations(r, kind, activations, c->rows, c->columns);
        free(activations);
    }
    sk_pool_destroy(pool);
    free(bias);
    free(weight);
    free(out);
    free(x);
}

// ---- Functions

/// Bit patterns over the whole range, finite or not, and a dense sweep where the functions bend.
static size_t sweep(float **values) {
    enum { STEP = 8191, DENSE = 110 * 2 * 32 };
    const size_t sparse = UINT32_MAX / STEP + 1;
    float *x = new_memory((sparse + DENSE) * sizeof *x);
    for (size_t i = 0; i < sparse; i++) {
        uint32_t bits = (uint32_t)(i * STEP);
        memcpy(&x[i], &bits, sizeof bits);
    }
    for (int i = 0; i < DENSE; i++) x[sparse + (size_t)i] = (float)(i - DENSE / 2) / 32;
    *values = x;
    return sparse + DENSE;
}

/// Numbers at which some function changes its form, and their neighbours.
static const float edges[] = {-104.0f, 89.0f, 88.7228f, -87.3365f, -103.972f, -700.0f, -1000.0f, 26.0f, 0x1p-13f, -0x1p-13f, 0x1p-149f,
                              -0x1p-149f, 0x1p-126f, 0x1.fffffep127f, -0x1.fffffep127f, 0.0f, -0.0f, 1.0f, -1.0f};

static void functions(const sk_kernels *k, record *r, const void *argument) {
    const row_case *c = argument;
    float *x, *out;
    size_t count = sweep(&x);
    out = new_memory(count * sizeof *out);
    sk_apply(k, (sk_function)c->choice, x, out, count);
    record_floats(r, out, count);
    for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++) {
        float near[33], result[33];
        for (int j = 0; j < 33; j++) {
            uint32_t bits;
            memcpy(&bits, &edges[i], sizeof bits);
            bits += (uint32_t)(j - 16);
            memcpy(&near[j], &bits, sizeof bits);
        }
        sk_apply(k, (sk_function)c->choice, near, result, 33);
        record_floats(r, result, 33);
    }
    free(out);
    free(x);
}

/// With and without quantisation; into a buffer of its own, and in place.
static void gates(const sk_kernels *k, record *r, const void *argument) {
    const row_case *c = argument;
    seeded s = {32};
    const size_t ld = (size_t)(c->columns + GAP);
    float *gate = new_floats(&s, c->kind, floats_of(c)), *up = new_floats(&s, c->kind, floats_of(c));
    float *out = new_memory(floats_of(c) * sizeof *out);
    sk_pool *pool = new_pool(c);
    const sk_function function = (sk_function)c->choice;
    sk_gate(k, pool, function, gate, up, ld, c->rows, c->columns, out, ld, SK_ACTIVATION_F32, NULL);
    record_floats(r, out, floats_of(c));
    for (uint32_t type = 0; type < 64; type++) {
        if (!sk_type_is_supported(type) || c->columns % sk_type_block((sk_type)type) != 0) continue;
        const sk_activation_kind kind = sk_type_activation((sk_type)type);
        void *activations = new_memory((size_t)c->rows * sk_activation_bytes(kind, c->columns));
        memcpy(out, gate, floats_of(c) * sizeof *out);
        sk_gate(k, pool, function, out, up, ld, c->rows, c->columns, out, ld, kind, activations);
        record_floats(r, out, floats_of(c));
        record_activations(r, kind, activations, c->rows, c->columns);
        free(activations);
    }
    sk_pool_destroy(pool);
    free(out);
    free(up);
    free(gate);
}

// ---- Residuals

static void residuals(const sk_kernels *k, record *r, const void *argument) {
    const row_case *c = argument;
    seeded s = {33};
    const size_t ld = (size_t)(c->columns + GAP);
    float *x = new_floats(&s, c->kind, floats_of(c)), *y = new_floats(&s, c->kind, floats_of(c)), *bias = new_floats(&s, c->kind, ld);
    sk_pool *pool = new_pool(c);
    sk_add(k, pool, x, ld, y, ld, c->rows, c->columns);
    record_floats(r, x, floats_of(c));
    sk_add_scaled(k, pool, x, ld, y, ld, 0.22f, c->rows, c->columns);
    record_floats(r, x, floats_of(c));
    sk_add_bias(k, pool, x, ld, bias, c->rows, c->columns);
    record_floats(r, x, floats_of(c));
    sk_scale(k, x, 1.0f / 3, (size_t)c->columns);
    record_floats(r, x, floats_of(c));
    sk_pool_destroy(pool);
    free(bias);
    free(y);
    free(x);
}

// ---- Narrow floats

/// Every narrow number widened; and every narrow number, the middle to its neighbour, and what lies beside that middle, narrowed.
static void halves(const sk_kernels *k, record *r, const void *argument) {
    (void)argument;
    enum { ALL = 65536, NEAR = 4 };
    float *x;
    const size_t count = sweep(&x), longest = count > NEAR * ALL ? count : NEAR * ALL;
    uint16_t *narrow = new_memory(ALL * sizeof *narrow), *back = new_memory(longest * sizeof *back);
    float *wide = new_memory(NEAR * ALL * sizeof *wide);
    for (int i = 0; i < ALL; i++) narrow[i] = (uint16_t)i;
    for (int type = 0; type < 2; type++) {
        if (type == 0) sk_from_f16(k, narrow, wide, ALL);
        else sk_from_bf16(k, narrow, wide, ALL);
        record_floats(r, wide, ALL);
        for (int i = ALL - 1; i >= 0; i--) {
            uint32_t bits, middle = type == 0 ? 0x1000 : 0x8000;
            memcpy(&bits, &wide[i], sizeof bits);
            const uint32_t beside[NEAR] = {bits, bits + middle - 1, bits + middle, bits + middle + 1};
            memcpy(&wide[NEAR * i], beside, sizeof beside);
        }
        if (type == 0) sk_to_f16(k, wide, back, NEAR * ALL);
        else sk_to_bf16(k, wide, back, NEAR * ALL);
        (type == 0 ? record_f16 : record_bf16)(r, back, NEAR * ALL);
    }
    sk_to_f16(k, x, back, count);
    record_f16(r, back, count);
    sk_to_bf16(k, x, back, count);
    record_bf16(r, back, count);
    for (size_t n = 0; n < 40; n++) {  // odd counts go through the short end of the loop
        memset(back, 0xa5, 41 * sizeof *back);
        sk_to_f16(k, x + 25000, back, n);
        record_f16(r, back, 41);
    }
    sk_round_bf16(k, x, count - 1);
    record_floats(r, x, count);
    free(x);
    free(wide);
    free(back);
    free(narrow);
}

// ---- Logits

static void logits(const sk_kernels *k, record *r, const void *argument) {
    const row_case *c = argument;
    seeded s = {34};
    float *x = new_floats(&s, c->kind, (size_t)c->columns), *out = new_memory((size_t)c->columns * sizeof *out);
    record_int(r, sk_all_finite(k, x, (size_t)c->columns));
    if (c->kind != NOT_FINITE) {  // no NaN here, says the header
        record_int(r, sk_argmax(k, x, c->columns));
        x[c->columns / 2] = x[0] = 4e18f;  // equals: the first counts
        record_int(r, sk_argmax(k, x, c->columns));
        fill_floats(&s, c->kind, x, (size_t)c->columns);
    }
    double sum = sk_log_sum_exp(k, x, c->columns);
    record_doubles(r, &sum, 1);
    int32_t *ids = new_memory((size_t)c->columns * sizeof *ids);
    record_int(r, sk_collect(k, x, c->columns, -0.5f, 1.5f, ids));
    record_memory(r, ids, (size_t)c->columns * sizeof *ids);
    free(ids);
    sk_temper(k, x, 3.0f, 0.7f, out, c->columns);
    record_floats(r, out, (size_t)c->columns);
    sk_softmax(k, x, out, c->columns);
    record_floats(r, out, (size_t)c->columns);
    sk_softmax(k, x, x, c->columns);
    record_floats(r, x, (size_t)c->columns);
    free(out);
    free(x);
}

// ---- RoPE. rows: heads; columns: head_dim; choice: the pairing.

static void turns(const sk_kernels *k, record *r, const void *argument) {
    const row_case *c = argument;
    enum { ROWS = 7, POSITIONS = 300, FIRST = 130000 };
    seeded s = {35};
    const int32_t dims = c->columns & ~1, pairs = dims / 2;
    double *frequencies = new_memory((size_t)pairs * sizeof *frequencies);
    float *divisors = new_memory((size_t)pairs * sizeof *divisors);
    for (int32_t i = 0; i < pairs; i++) divisors[i] = 1.0f + (float)i / 3;
    sk_rope_frequencies(5e5, dims, c->threads == 0 ? NULL : divisors, frequencies);
    if (c->threads != 0) sk_rope_scale_linear(frequencies, pairs, 2.5);
    else sk_rope_scale_llama3(frequencies, pairs, 8, 1, 4, 8192);
    record_doubles(r, frequencies, (size_t)pairs);
    float *cosines = new_memory((size_t)(POSITIONS * pairs) * sizeof *cosines), *sines = new_memory((size_t)(POSITIONS * pairs) * sizeof *sines);
    sk_rope_table(frequencies, pairs, FIRST, POSITIONS, 1.1, cosines, sines);
    record_floats(r, cosines, (size_t)(POSITIONS * pairs));
    record_floats(r, sines, (size_t)(POSITIONS * pairs));

    const size_t ld = (size_t)(c->rows * c->columns + GAP);
    float *x = new_floats(&s, c->kind, ROWS * ld);
    int32_t positions[ROWS];
    for (int i = 0; i < ROWS; i++) positions[i] = (int32_t)seeded_below(&s, POSITIONS);
    sk_pool *pool = new_pool(c);
    sk_rope(k, pool, (sk_rope_pairing)c->choice, x, ld, ROWS, c->rows, c->columns, dims, positions, cosines, sines);
    record_floats(r, x, ROWS * ld);
    sk_pool_destroy(pool);
    free(x);
    free(sines);
    free(cosines);
    free(divisors);
    free(frequencies);
}

void run_row_cases(void) {
    static const int32_t columns[] = {1, 15, 16, 17, 96, 100, 512};
    static const char *const norm_names[] = {"rms", "layer", "layer with bias"};
    static const char *const function_names[] = {"silu", "gelu_erf", "gelu_tanh", "gelu_quick", "tanh", "softplus", "exp"};
    for (int function = SK_FUNCTION_SILU; function <= SK_FUNCTION_EXP; function++)
        run_case(functions, &(row_case){.choice = function}, "function %s", function_names[function]);
    run_case(halves, NULL, "f16 and bf16");
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
        for (int kind = 0; kind < SPREADS; kind++) {
            row_case c = {5, columns[i], (spread)kind, 0, i % 2 == 0 ? 0 : 2};
            for (c.choice = 0; c.choice < 3; c.choice++)
                run_case(norms, &c, "norm %s %s %d", norm_names[c.choice], spread_names[kind], c.columns);
            for (c.choice = SK_FUNCTION_SILU; c.choice <= SK_FUNCTION_EXP; c.choice++)
                run_case(gates, &c, "gate %s %s %d", function_names[c.choice], spread_names[kind], c.columns);
            run_case(residuals, &c, "residuals %s %d", spread_names[kind], c.columns);
            run_case(logits, &c, "logits %s %d", spread_names[kind], c.columns);
        }
    }
    run_case(logits, &(row_case){.columns = 49153, .kind = ORDINARY}, "logits ordinary 49153");
    for (int pairing = SK_ROPE_HALVES; pairing <= SK_ROPE_ADJACENT; pairing++)
        for (int threads = 0; threads <= 2; threads += 2)
            for (int kind = 0; kind < SPREADS; kind++)
                for (int dims = 10; dims <= 130; dims += 30)
                    run_case(turns, &(row_case){3, dims, (spread)kind, pairing, threads}, "rope %s %d of 3 x %d, %d threads",
                             spread_names[kind], pairing, dims, threads);
}
