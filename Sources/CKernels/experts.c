// A feed-forward layer of experts: each row goes through a few of many small matrices. Rows are sorted by expert, so that each expert's
// matrices are read once for all rows that chose it; all experts' products are one run of the pool, in which every thread takes its
// part of every matrix.

#include "activation_row.h"
#include "matmul.h"
#include "require.h"

#include <math.h>
#include <string.h>

// ---- Router

/// The expert of the next rank: the largest logit that was not chosen yet, the lowest index among equals.
static int32_t next_choice(const float *logits, int32_t experts, const int32_t *chosen, int32_t count) {
    int32_t best = -1;
    for (int32_t e = 0; e < experts; e++) {
        bool taken = false;
        for (int32_t i = 0; i < count; i++) taken |= chosen[i] == e;
        if (!taken && (best < 0 || logits[e] > logits[best])) best = e;
    }
    return best;
}

static void route_row(const sk_kernels *k, const sk_router *router, const float *logits, int32_t *chosen, float *weights) {
    float all[SK_EXPERTS_MAX];
    const int32_t used = router->used;
    if (!k->all_finite(logits, (size_t)router->experts)) {
        for (int32_t i = 0; i < used; i++) {
            chosen[i] = i;
            weights[i] = NAN;
        }
        return;
    }
    for (int32_t i = 0; i < used; i++) chosen[i] = next_choice(logits, router->experts, chosen, i);
    if (router->kind == SK_ROUTER_TOP_SOFTMAX) {
        for (int32_t i = 0; i < used; i++) weights[i] = logits[chosen[i]];
        sk_softmax(k, weights, weights, used);
        return;
    }
    sk_softmax(k, logits, all, router->experts);
    for (int32_t i = 0; i < used; i++) weights[i] = all[chosen[i]];
    if (!router->renormalise) return;
    float sum = weights[0];
    for (int32_t i = 1; i < used; i++) sum = sum + weights[i];
    for (int32_t i = 0; i < used; i++) weights[i] = weights[i] / sum;
}

static void require_router(const sk_router *router) {
    SK_REQUIRE(router->experts >= 1 && router->experts <= SK_EXPERTS_MAX, "a layer has 1...SK_EXPERTS_MAX experts");
    SK_REQUIRE(router->used >= 1 && router->used <= router->experts, "a row uses 1...experts experts");
}

void sk_route(const sk_kernels *k, const sk_router *router, const float *logits, size_t ldl, int32_t rows, int32_t *chosen,
              float *weights) {
    require_router(router);
    for (int32_t row = 0; row < rows; row++) {
        size_t at = (size_t)row * (size_t)router->used;
        route_row(k, router, logits + (size_t)row * ldl, chosen + at, weights + at);
    }
}

// ---- Grouping

void sk_group_by_expert(const int32_t *chosen, int32_t rows, int32_t used, int32_t experts, int32_t *first, int32_t *row_of_slot,
                        int32_t *slot_of_choice) {
    memset(first, 0, (size_t)(experts + 1) * sizeof *first);
    const int32_t choices = rows * used;
    for (int32_t i = 0; i < choices; i++) {
        SK_REQUIRE(chosen[i] >= 0 && chosen[i] < experts, "no such expert");
        first[chosen[i] + 1]++;
    }
    for (int32_t e = 0; e < experts; e++) first[e + 1] += first[e];
    // Each expert's begin moves to its end while its rows are placed, and that is the next one's begin: moved back below.
    for (int32_t i = 0; i < choices; i++) {
        int32_t slot = first[chosen[i]]++;
        row_of_slot[slot] = i / used;
        slot_of_choice[i] = slot;
    }
    for (int32_t e = experts; e > 0; e--) first[e] = first[e - 1];
    first[0] = 0;
}

// ---- Grouped products

enum { PARTS_ON_STACK = 64 };

void sk_matmul_grouped(const sk_kernels *k, sk_pool *pool, const sk_grouped_product *products, int32_t count) {
    product_part parts[PARTS_ON_STACK];
    for (int32_t next = 0; next < count;) {
        int32_t some = 0;
        for (; next < count && some < PARTS_ON_STACK; next++) {
            const sk_grouped_product *p = &products[next];
            SK_REQUIRE(p->ldo >= (size_t)p->matrix.rows || p->batch <= 1, "ldo is less than the matrix has rows");
            SK_REQUIRE(((uintptr_t)p->matrix.packed | (uintptr_t)p->activations) % SK_ALIGNMENT == 0,
                       "packed matrices and activations must be aligned to SK_ALIGNMENT");
            if (p->batch <= 0) continue;
            parts[some++] = (product_part){
                .matrix = p->matrix, .activations = p->activations, .batch = p->batch, .out = p->out, .ldo = p->ldo};
        }
        matmul_job job = {.k = k, .parts = parts, .count = some};
        if (some > 0) matmul_run(&job, pool);
    }
}

// ---- The layer

/// What a layer keeps while it runs. Slots are the rows in the order of their experts, `used` for each row.
typedef struct experts_run {
    const sk_kernels *k;
    const sk_experts *layer;
    int32_t rows, slots, width;  // width: of an expert's gate
    float *logits, *weights;     // [rows][experts], [rows][used]
    int32_t *chosen;             // [rows][used]
    int32_t *first;              // [experts + 1]
    int32_t *row_of_slot;        // [slots]
    int32_t *slot_of_choice;     // [rows][used]
    float *normed;               // [rows][columns]
    char *router_input;          // [rows]: activations
    char *inputs;                // [rows]: activations of gates and ups
    char *grouped;               // [slots]: the same in the order of slots
    float *gate_up;              // [slots][2 width]
    char *gated;                 // [slots]: activations of downs
    float *delta;                // [slots][columns]
    float *sum;                  // [rows][columns]
    product_part *parts;         // [2 experts]
} experts_run;

static sk_activation_kind input_kind(const experts_run *run) { return sk_type_activation(run->layer->gates[0].type); }
static sk_activation_kind gated_kind(const experts_run *run) { return sk_type_activation(run->layer->downs[0].type); }
static size_t input_bytes(const experts_run *run) { return sk_activation_bytes(input_kind(run), run->layer->columns); }
static size_t gated_bytes(const experts_run *run) { return sk_activation_bytes(gated_kind(run), run->width); }

/// Lays the run's memory out from `base` on; returns its size.
static size_t place(experts_run *run, char *base) {
    const sk_experts *layer = run->layer;
    const size_t rows = (size_t)run->rows, slots = (size_t)run->slots, experts = (size_t)layer->router.experts;
    const size_t columns = (size_t)layer->columns, width = (size_t)run->width;
    size_t bytes = 0;
#define PLACE(field, size)                                    \
    do {                                                      \
        run->field = base == NULL ? NULL : (void *)(base + bytes); \
        bytes += sk_align64(size);                            \
    } while (0)
    PLACE(logits, rows * experts * sizeof(float));
    PLACE(weights, slots * sizeof(float));
    PLACE(chosen, slots * sizeof(int32_t));
    PLACE(first, (experts + 1) * sizeof(int32_t));
    PLACE(row_of_slot, slots * sizeof(int32_t));
    PLACE(slot_of_choice, slots * sizeof(int32_t));
    PLACE(normed, rows * columns * sizeof(float));
    PLACE(router_input, rows * sk_activation_bytes(sk_type_activation(layer->router_matrix.type), layer->columns));
    PLACE(inputs, rows * input_bytes(run));
    PLACE(grouped, rows > 1 ? slots * input_bytes(run) : 0);
    PLACE(gate_up, slots * 2 * width * sizeof(float));
    PLACE(gated, slots * gated_bytes(run));
    PLACE(delta, slots * columns * sizeof(float));
    PLACE(sum, rows * columns * sizeof(float));
    PLACE(parts, 2 * experts * sizeof(product_part));
#undef PLACE
    return bytes;
}

static experts_run begin_run(const sk_kernels *k, const sk_experts *layer, int32_t rows) {
    return (experts_run){.k = k, .layer = layer, .rows = rows, .slots = rows * layer->router.used, .width = layer->gates[0].rows};
}

size_t sk_experts_workspace_bytes(const sk_experts *layer, int32_t rows) {
    experts_run run = begin_run(NULL, layer, rows);
    return place(&run, NULL);
}

static void share_of(int32_t count, int32_t share, int32_t shares, int32_t *first, int32_t *last) {
    *first = (int32_t)((int64_t)count * share / shares);
    *last = (int32_t)((int64_t)count * (share + 1) / shares);
}

/// Work over rows or slots: small work stays on the calling thread, because waking others costs more.
static void over(int32_t count, int32_t columns, sk_pool *pool, sk_pool_fn fn, experts_run *run) {
    if (pool == NULL || count < 2 || (int64_t)count * columns < 16384) fn(run, 0, 1);
    else sk_pool_run(pool, fn, run);
}

static void prepare_share(void *argument, int32_t share, int32_t shares) {
    const experts_run *run = argument;
    const sk_experts *layer = run->layer;
    const sk_activation_kind router_kind = sk_type_activation(layer->router_matrix.type);
    int32_t first, last;
    share_of(run->rows, share, shares, &first, &last);
    for (int32_t row = first; row < last; row++) {
        const float *x = layer->x + (size_t)row * layer->ldx;
        if (layer->norm != NULL) {
            float *normed = run->normed + (size_t)row * (size_t)layer->columns;
            sk_normalise(run->k, NULL, layer->norm, x, layer->ldx, 1, layer->columns, normed, (size_t)layer->columns);
            x = normed;
        }
        sk_quantise(run->k, NULL, router_kind, x, layer->ldx, 1, layer->columns,
                    run->router_input + (size_t)row * sk_activation_bytes(router_kind, layer->columns));
        sk_quantise(run->k, NULL, input_kind(run), x, layer->ldx, 1, layer->columns, run->inputs + (size_t)row * input_bytes(run));
    }
}

static void gather_share(void *argument, int32_t share, int32_t shares) {
    const experts_run *run = argument;
    int32_t first, last;
    share_of(run->slots, share, shares, &first, &last);
    for (int32_t slot = first; slot < last; slot++)
        memcpy(run->grouped + (size_t)slot * input_bytes(run), run->inputs + (size_t)run->row_of_slot[slot] * input_bytes(run),
               input_bytes(run));
}

static void quantise_share(void *argument, int32_t share, int32_t shares) {
    const experts_run *run = argument;
    const size_t ld = 2 * (size_t)run->width;
    int32_t first, last;
    share_of(run->slots, share, shares, &first, &last);
    for (int32_t slot = first; slot < last; slot++)
        sk_quantise(run->k, NULL, gated_kind(run), run->gate_up + (size_t)slot * ld, ld, 1, run->width,
                    run->gated + (size_t)slot * gated_bytes(run));
}

static void gate_rows(const matmul_job *job, int32_t part, int32_t first, int32_t rows) {
    const experts_run *run = job->context;
    const product_part *p = &job->parts[part];
    for (int32_t c = 0; c < p->batch; c++) {
        float *out = p->out + (size_t)c * p->ldo + first;
        run->k->gate(run->layer->function, out, out + run->width, out, (size_t)rows);
    }
}

/// The choice of a row whose expert comes next in ascending order after `expert`, -1 past the last.
static int32_t next_in_order(const experts_run *run, const int32_t *chosen, int32_t expert) {
    int32_t best = -1;
    for (int32_t i = 0; i < run->layer->router.used; i++)
        if (chosen[i] > expert && (best < 0 || chosen[i] < chosen[best])) best = i;
    return best;
}

static void sum_share(void *argument, int32_t share, int32_t shares) {
    const experts_run *run = argument;
    const sk_experts *layer = run->layer;
    const size_t columns = (size_t)layer->columns, used = (size_t)layer->router.used;
    int32_t first, last;
    share_of(run->rows, share, shares, &first, &last);
    for (int32_t row = first; row < last; row++) {
        const int32_t *chosen = run->chosen + (size_t)row * used;
        float *sum = run->sum + (size_t)row * columns, *residual = layer->residual + (size_t)row * layer->ldr;
        memset(sum, 0, columns * sizeof(float));
        for (int32_t i = next_in_order(run, chosen, -1); i >= 0; i = next_in_order(run, chosen, chosen[i])) {
            size_t choice = (size_t)row * used + (size_t)i;
            run->k->add_scaled(sum, run->delta + (size_t)run->slot_of_choice[choice] * columns, run->weights[choice], columns);
        }
        if (layer->residual_scale == 1.0f) run->k->add(residual, sum, columns);
        else run->k->add_scaled(residual, sum, layer->residual_scale, columns);
    }
}

/// One product for each expert that was chosen: gates with ups (`paired`), or downs. Returns how many parts.
static int32_t list_parts(const experts_run *run, bool paired) {
    const sk_experts *layer = run->layer;
    const size_t columns = (size_t)layer->columns, width = (size_t)run->width;
    int32_t count = 0;
    for (int32_t e = 0; e < layer->router.experts; e++) {
        const int32_t batch = run->first[e + 1] - run->first[e];
        const size_t slot = (size_t)run->first[e];
        if (batch == 0) continue;
        if (!paired) {
            run->parts[count++] = (product_part){.matrix = layer->downs[e], .activations = run->gated + slot * gated_bytes(run),
                                                 .batch = batch, .out = run->delta + slot * columns, .ldo = columns};
            continue;
        }
        // The only row is every expert's.
        const char *inputs = run->rows == 1 ? run->inputs : run->grouped + slot * input_bytes(run);
        float *out = run->gate_up + slot * 2 * width;
        run->parts[count++] =
            (product_part){.matrix = layer->gates[e], .activations = inputs, .batch = batch, .out = out, .ldo = 2 * width};
        run->parts[count++] =
            (product_part){.matrix = layer->ups[e], .activations = inputs, .batch = batch, .out = out + width, .ldo = 2 * width};
    }
    return count;
}

static void require_layer(const sk_experts *layer, const void *workspace) {
    require_router(&layer->router);
    SK_REQUIRE((uintptr_t)workspace % SK_ALIGNMENT == 0, "workspace must be aligned to SK_ALIGNMENT");
    SK_REQUIRE(layer->router_matrix.rows == layer->router.experts && layer->router_matrix.columns == layer->columns,
               "the router's matrix is [experts, columns]");
    for (int32_t e = 0; e < layer->router.experts; e++) {
        const sk_matrix *gate = &layer->gates[e], *up = &layer->ups[e], *down = &layer->downs[e];
        SK_REQUIRE(gate->rows == layer->gates[0].rows && up->rows == gate->rows && down->columns == gate->rows &&
                       gate->columns == layer->columns && up->columns == layer->columns && down->rows == layer->columns,
                   "all experts have the same shape");
        SK_REQUIRE(sk_type_activation(gate->type) == sk_type_activation(layer->gates[0].type) &&
                       sk_type_activation(up->type) == sk_type_activation(layer->gates[0].type) &&
                       sk_type_activation(down->type) == sk_type_activation(layer->downs[0].type),
                   "all experts take the same kind of activations");
    }
}

void sk_feed_experts(const sk_kernels *k, sk_pool *pool, const sk_experts *layer, int32_t rows, void *workspace) {
    require_layer(layer, workspace);
    if (rows == 0) return;
    experts_run run = begin_run(k, layer, rows);
    place(&run, workspace);

    over(rows, layer->columns, pool, prepare_share, &run);
    product_part router = {.matrix = layer->router_matrix, .activations = run.router_input, .batch = rows, .out = run.logits,
                           .ldo = (size_t)layer->router.experts};
    matmul_run(&(matmul_job){.k = k, .parts = &router, .count = 1}, pool);
    sk_route(k, &layer->router, run.logits, (size_t)layer->router.experts, rows, run.chosen, run.weights);
    sk_group_by_expert(run.chosen, rows, layer->router.used, layer->router.experts, run.first, run.row_of_slot, run.slot_of_choice);

    if (rows > 1) over(run.slots, layer->columns, pool, gather_share, &run);
    matmul_job gates = {.k = k, .parts = run.parts, .count = list_parts(&run, true), .paired = true, .finish = gate_rows, .context = &run};
    matmul_run(&gates, pool);
    over(run.slots, run.width, pool, quantise_share, &run);
    matmul_job downs = {.k = k, .parts = run.parts, .count = list_parts(&run, false)};
    matmul_run(&downs, pool);
    over(rows, layer->columns * layer->router.used, pool, sum_share, &run);
}

sk_experts_inputs sk_experts_see(const sk_experts *layer, int32_t rows, void *workspace) {
    require_layer(layer, workspace);
    SK_REQUIRE(layer->norm != NULL, "a layer without a norm keeps no copy of its input");
    experts_run run = begin_run(NULL, layer, rows);
    place(&run, workspace);
    return (sk_experts_inputs){.first = run.first, .row_of_slot = run.row_of_slot, .rows = run.normed, .slots = run.gate_up,
                               .lds = 2 * (size_t)run.width};
}
