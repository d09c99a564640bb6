// Cases of formats and products: every type that has kernels, over odd shapes.

#include "cases.h"
#include "staffel_dequant.h"

#include <stdlib.h>
#include <string.h>

enum { TYPES = 64, BATCH_MAX = 17, LONG_BATCH = 131 };  // more than any kernel takes in one pass

typedef struct product_case {
    sk_type type;
    int32_t rows, columns;
    int32_t first_batch, last_batch;
    spread weights, activations;
    int32_t threads;  // 0: no pool
} product_case;

static uint8_t *new_weights(seeded *s, const product_case *p) {
    size_t bytes = (size_t)p->rows * sk_type_row_bytes(p->type, p->columns);
    uint8_t *rows = new_memory(bytes);
    fill_weights(s, p->weights, p->type, 0.05f, rows, bytes);
    return rows;
}

static void *new_packed(seeded *s, const product_case *p) {
    uint8_t *rows = new_weights(s, p);
    void *packed = new_memory(sk_packed_bytes(p->type, p->rows, p->columns));
    sk_pack_rows(p->type, rows, p->rows, p->columns, packed);
    free(rows);
    return packed;
}

/// Products of one matrix with 1, 2, … columns; the gap behind each output row must stay as it was.
static void products_of_batches(const sk_kernels *k, record *r, const void *argument) {
    const product_case *p = argument;
    seeded s = {17};
    void *packed = new_packed(&s, p);
    float *x = new_floats(&s, p->activations, (size_t)p->last_batch * (size_t)p->columns);
    sk_pool *pool = p->threads == 0 ? NULL : sk_pool_create(p->threads, NULL);
    const sk_activation_kind kind = sk_type_activation(p->type);
    const size_t ldo = (size_t)p->rows + 3;
    for (int32_t batch = p->first_batch; batch <= p->last_batch; batch++) {
        void *activations = new_memory((size_t)batch * sk_activation_bytes(kind, p->columns));
        float *out = new_memory((size_t)batch * ldo * sizeof *out);
        sk_quantise(k, pool, kind, x, (size_t)p->columns, batch, p->columns, activations);
        sk_product product = {{p->type, p->rows, p->columns, packed}, activations, out, ldo};
        sk_matmul(k, pool, &product, 1, batch);
        record_floats(r, out, (size_t)batch * ldo);
        free(out);
        free(activations);
    }
    sk_pool_destroy(pool);
    free(x);
    free(packed);
}

/// Three matrices with one input in one run, their outputs side by side, as queries, keys and values are.
static void products_in_one_run(const sk_kernels *k, record *r, const void *argument) {
    const product_case *p = argument;
    enum { COUNT = 3 };
    seeded s = {18};
    const int32_t rows[COUNT] = {p->rows, 16, 5};
    const size_t ldo = (size_t)p->rows + 21;
    const sk_activation_kind kind = sk_type_activation(p->type);
    float *x = new_floats(&s, p->activations, (size_t)p->last_batch * (size_t)p->columns);
    void *activations = new_memory((size_t)p->last_batch * sk_activation_bytes(kind, p->columns));
    float *out = new_memory((size_t)p->last_batch * ldo * sizeof *out);
    sk_pool *pool = sk_pool_create(3, NULL);
    sk_quantise(k, pool, kind, x, (size_t)p->columns, p->last_batch, p->columns, activations);
    sk_product products[COUNT];
    for (int i = 0; i < COUNT; i++) {
        product_case part = *p;
        part.rows = rows[i];
        float *at = out + (i > 0) * p->rows + (i > 1) * 16;
        products[i] = (sk_product){{p->type, rows[i], p->columns, new_packed(&s, &part)}, activations, at, ldo};
    }
    sk_matmul(k, pool, products, COUNT, p->last_batch);
    record_floats(r, out, (size_t)p->last_batch * ldo);
    sk_pool_destroy(pool);
    for (int i = 0; i < COUNT; i++) free((void *)products[i].matrix.packed);
    free(out);
    free(activations);
    free(x);
}

/// Packed bytes, and rows of them as floats. Neither asks for kernels, both must not depend on the processor.
static void packing(const sk_kernels *k, record *r, const void *argument) {
    (void)k;
    const product_case *p = argument;
    seeded s = {19};
    void *packed = new_packed(&s, p);
    record_memory(r, packed, sk_packed_bytes(p->type, p->rows, p->columns));
    float *row = new_memory((size_t)p->columns * sizeof *row);
    sk_matrix matrix = {p->type, p->rows, p->columns, packed};
    for (int32_t i = 0; i < p->rows; i++) {
        sk_packed_row_to_f32(&matrix, i, row);
        record_floats(r, row, (size_t)p->columns);
    }
    free(row);
    free(packed);
}

static void quantisation(const sk_kernels *k, record *r, const void *argument) {
    const product_case *p = argument;
    enum { ROWS = 9 };
    seeded s = {20};
    const sk_activation_kind kind = sk_type_activation(p->type);
    float *x = new_floats(&s, p->activations, ROWS * ((size_t)p->columns + 5));
    // Every value at one of two magnitudes, and halves on the way to an integer: ties of the rounding.
    for (int32_t i = 0; i < p->columns; i++) x[i] = i % 3 == 0 ? 127.0f : (float)(i % 127) + 0.5f;
    void *out = new_memory(ROWS * sk_activation_bytes(kind, p->columns));
    sk_quantise(k, NULL, kind, x, (size_t)p->columns + 5, ROWS, p->columns, out);
    record_activations(r, kind, out, ROWS, p->columns);
    float *rest = new_memory(ROWS * (size_t)p->columns * sizeof(float));
    sk_quantisation_rest(k, kind, x, (size_t)p->columns + 5, out, ROWS, p->columns, rest, (size_t)p->columns);
    record_floats(r, rest, ROWS * (size_t)p->columns);
    free(rest);
    free(out);
    free(x);
}

/// Every format that files may have, with kernels or without.
static void dequantisation(const sk_kernels *k, record *r, const void *argument) {
    (void)k;
    const sk_tensor_format *format = argument;
    enum { BLOCKS = 40 };
    seeded s = {21};
    uint8_t *blocks = new_memory(BLOCKS * (size_t)format->block_bytes);
    for (size_t i = 0; i < BLOCKS * (size_t)format->block_bytes; i++) blocks[i] = (uint8_t)(seeded_next(&s) >> 56);
    const size_t count = BLOCKS * (size_t)format->block_elements;
    float *out = new_memory(count * sizeof *out);
    record_int(r, sk_dequantize_row(format->type, blocks, out, count));
    record_floats(r, out, count);
    free(out);
    free(blocks);
}

static void run_type(sk_type type) {
    const sk_tensor_format *format = sk_tensor_format_find((int32_t)type);
    const char *name = format == NULL ? "?" : format->name;
    const int32_t block = sk_type_block(type);
    // Block counts with every remainder of four; float rows end inside their blocks of 256 too.
    const int32_t lengths[] = {block == 1 ? 1 : block, block == 1 ? 255 : 3 * block, block == 1 ? 300 : 6 * block};
    for (int kind = 0; kind < SPREADS; kind++) {
        product_case p = {type, 37, lengths[1], 1, BATCH_MAX, (spread)kind, (spread)kind, 0};
        run_case(products_of_batches, &p, "product %s %s batches", name, spread_names[kind]);
        p.weights = ORDINARY;
        p.last_batch = 5;
        run_case(products_of_batches, &p, "product %s %s activations", name, spread_names[kind]);
        run_case(quantisation, &p, "quantise for %s %s", name, spread_names[kind]);
        p.weights = (spread)kind;
        run_case(packing, &p, "pack %s %s", name, spread_names[kind]);
    }
    const int32_t rows[] = {1, 15, 16, 17, 64, 83};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (size_t j = 0; j < sizeof lengths / sizeof lengths[0]; j++) {
            product_case p = {type, rows[i], lengths[j], 3, 6, HOSTILE, ORDINARY, i % 2 == 0 ? 0 : 2};
            run_case(products_of_batches, &p, "product %s %d x %d", name, rows[i], lengths[j]);
        }
    }
    product_case p = {type, 50, lengths[1], 1, 7, ORDINARY, ORDINARY, 0};
    product_case many = {type, 18, 2 * lengths[0], LONG_BATCH, LONG_BATCH, HOSTILE, ORDINARY, 0};
    run_case(products_of_batches, &many, "product %s of %d columns", name, LONG_BATCH);
    run_case(products_in_one_run, &p, "product %s three in one run", name);
}

void run_product_cases(void) {
    for (int32_t type = 0; type < TYPES; type++) {
        const sk_tensor_format *format = sk_tensor_format_find(type);
        if (format != NULL) run_case(dequantisation, format, "dequantise %s", format->name);
        if (sk_type_is_supported((uint32_t)type)) run_type((sk_type)type);
    }
}
