// Paged attention over the pool. Work is cut into items: one KV head, a few rows of one span, all heads that read this KV head. An item
// walks its chunks in ascending order and merges as it goes. Where items are fewer than threads (decode of few sequences over long
// contexts) chunks are items too, their results wait in the workspace, and a second run merges them, in the same order.

#include "kernels.h"
#include "require.h"

#include <stdatomic.h>

enum { ITEM_QUERIES_MAX = 32, ITEMS_PER_THREAD_MIN = 2 };

typedef struct attention_job {
    const sk_kernels *k;
    const sk_attention *attention;
    const sk_span *spans;
    int32_t count;
    const float *q;
    size_t ldq;
    float *out;
    size_t ldo;
    char *scratch;         // [threads][thread_scratch_bytes]
    float *partials;       // split only: [query][chunk][partial_floats]
    bool split;
    atomic_int next_item;  // items are taken in order, so long ones do not pile up on one thread
} attention_job;

// What attention of one shape needs, derived once here.
static int32_t group_of(const sk_attention *a) { return a->heads / a->kv.kv_heads; }
static size_t state_floats(const sk_attention *a) { return (size_t)kv_value_stride(a->kv.head_dim) + 16; }  // V, then M and L

static int32_t rows_per_item(const sk_attention *a) {
    int32_t rows = ITEM_QUERIES_MAX / group_of(a);
    return rows > 0 ? rows : 1;
}

/// Scores of one chunk, results of one chunk, and the states of an item's queries.
static size_t thread_scratch_floats(const sk_attention *a) {
    size_t queries = (size_t)rows_per_item(a) * (size_t)group_of(a);
    return (size_t)ATTENTION_QUERIES * (SK_ATTENTION_CHUNK + state_floats(a)) + queries * state_floats(a);
}

static int32_t low_of(const sk_attention *a, int32_t position) {
    return a->window > 0 && position + 1 > a->window ? position + 1 - a->window : 0;
}

static int32_t items_of_span(const sk_attention *a, const sk_span *s) {
    return (s->rows + rows_per_item(a) - 1) / rows_per_item(a) * a->kv.kv_heads;
}

static int32_t chunks_of_span(const sk_span *s) {
    return (s->first_position + s->rows + SK_ATTENTION_CHUNK - 1) / SK_ATTENTION_CHUNK;
}

/// Whether chunks become items of their own: where there would be too few items for the threads, and more than one chunk.
static bool is_split(const sk_attention *a, const sk_span *spans, int32_t count, int32_t threads) {
    int64_t items = 0;
    int32_t most_chunks = 0;
    for (int32_t i = 0; i < count; i++) {
        items += items_of_span(a, &spans[i]);
        if (chunks_of_span(&spans[i]) > most_chunks) most_chunks = chunks_of_span(&spans[i]);
    }
    return threads > 1 && most_chunks > 1 && items < (int64_t)ITEMS_PER_THREAD_MIN * threads;
}

static size_t partial_floats(const sk_attention *a, const sk_span *spans, int32_t count) {
    size_t floats = 0;
    for (int32_t i = 0; i < count; i++)
        floats += (size_t)spans[i].rows * (size_t)a->heads * (size_t)chunks_of_span(&spans[i]) * state_floats(a);
    return floats;
}

size_t sk_attention_workspace_bytes(const sk_attention *a, const sk_span *spans, int32_t count, int32_t threads) {
    size_t floats = (size_t)threads * thread_scratch_floats(a);
    if (is_split(a, spans, count, threads)) floats += partial_floats(a, spans, count);
    return floats * sizeof(float);
}

size_t sk_kv_block_bytes(sk_kv_type type, int32_t kv_heads, int32_t head_dim) {
    SK_REQUIRE(type == SK_KV_F32 || type == SK_KV_F16, "no such KV type");
    SK_REQUIRE(kv_heads > 0 && head_dim > 0, "sizes must be positive");
    return (size_t)kv_heads * kv_head_bytes(type, head_dim);
}

/// A run of rows of one span on one KV head.
typedef struct attention_item {
    const sk_span *span;
    int32_t kv_head;
    int32_t first, rows;  // relative to the span
    int32_t chunk;        // split only
    float *partials;      // split only: of the span, [row][head][chunk][state]
} attention_item;

static float *state_of(float *states, const sk_attention *a, int32_t query) { return states + (size_t)query * state_floats(a); }
static float *partial_of(const sk_attention *a, const attention_item *item, int32_t row, int32_t head, int32_t chunk) {
    size_t index = ((size_t)row * (size_t)a->heads + (size_t)head) * (size_t)chunks_of_span(item->span) + (size_t)chunk;
    return item->partials + index * state_floats(a);
}

/// Adds one chunk's result to a query's state; the first one becomes the state.
static void merge_into(const attention_job *job, float *state, bool is_first, float m, float l, const float *v) {
    const int32_t dim = job->attention->kv.head_dim, stride = kv_value_stride(dim);
    float *value = state, *highest = state + stride, *sum = state + stride + 1;
    if (is_first) {
        for (int32_t d = 0; d < stride; d++) value[d] = v[d];
        *highest = m;
        *sum = l;
    } else {
        job->k->attend_merge(highest, sum, value, m, l, v, dim);
    }
}

/// Up to ATTENTION_QUERIES queries of an item over one chunk. Each result goes to the query's state, or to its partial.
static void attend_some(const attention_job *job, const attention_item *item, int32_t chunk, const int32_t *queries, int32_t count,
                        float *scratch, float *states) {
    const sk_attention *a = job->attention;
    const int32_t group = group_of(a), dim = a->kv.head_dim;
    attention_chunk c = {.kv = &a->kv, .blocks = item->span->blocks, .kv_head = item->kv_head, .chunk = chunk, .queries = count,
                         .scale = a->scale, .scores = scratch};
    for (int32_t i = 0; i < count; i++) {
        int32_t row = item->first + queries[i] / group, head = item->kv_head * group + queries[i] % group;
        int32_t position = item->span->first_position + row, low = low_of(a, position);
        int32_t start = chunk * SK_ATTENTION_CHUNK, end = start + SK_ATTENTION_CHUNK;
        c.q[i] = job->q + (size_t)(item->span->first_row + row) * job->ldq + (size_t)head * (size_t)dim;
        c.low[i] = low > start ? low : start;
        c.high[i] = position + 1 < end ? position + 1 : end;
        c.value[i] = job->split ? partial_of(a, item, row, head, chunk)
                                : scratch + ATTENTION_QUERIES * SK_ATTENTION_CHUNK + (size_t)i * state_floats(a);
    }
    job->k->attend_chunk(&c);
    for (int32_t i = 0; i < count; i++) {
        if (job->split) {
            c.value[i][kv_value_stride(dim)] = c.maximum[i];
            c.value[i][kv_value_stride(dim) + 1] = c.sum[i];
            continue;
        }
        int32_t position = item->span->first_position + item->first + queries[i] / group;
        bool is_first = chunk == low_of(a, position) / SK_ATTENTION_CHUNK;
        merge_into(job, state_of(states, a, queries[i]), is_first, c.maximum[i], c.sum[i], c.value[i]);
    }
}

/// All queries of an item that see something of a chunk, a few at a time.
static void attend_item_chunk(const attention_job *job, const attention_item *item, int32_t chunk, float *scratch, float *states) {
    const sk_attention *a = job->attention;
    const int32_t group = group_of(a), start = chunk * SK_ATTENTION_CHUNK, end = start + SK_ATTENTION_CHUNK;
    int32_t queries[ATTENTION_QUERIES], count = 0;
    for (int32_t query = 0; query < item->rows * group; query++) {
        int32_t position = item->span->first_position + item->first + query / group;
        if (position < start || low_of(a, position) >= end) continue;
        queries[count++] = query;
        if (count < ATTENTION_QUERIES) continue;
        attend_some(job, item, chunk, queries, count, scratch, states);
        count = 0;
    }
    if (count > 0) attend_some(job, item, chunk, queries, count, scratch, states);
}

static void finish_row(const attention_job *job, const sk_span *span, int32_t row, int32_t head, const float *state) {
    const int32_t dim = job->attention->kv.head_dim;
    float *out = job->out + (size_t)(span->first_row + row) * job->ldo + (size_t)head * (size_t)dim;
    job->k->attend_finish(state, state[kv_value_stride(dim) + 1], out, dim);
}

static void attend_item(const attention_job *job, const attention_item *item, float *scratch) {
    const sk_attention *a = job->attention;
    const int32_t group = group_of(a), first_position = item->span->first_position + item->first;
    float *states = scratch + ATTENTION_QUERIES * (SK_ATTENTION_CHUNK + state_floats(a));
    const int32_t first_chunk = low_of(a, first_position) / SK_ATTENTION_CHUNK;
    const int32_t last_chunk = (first_position + item->rows - 1) / SK_ATTENTION_CHUNK;
    for (int32_t chunk = first_chunk; chunk <= last_chunk; chunk++) attend_item_chunk(job, item, chunk, scratch, states);
    for (int32_t query = 0; query < item->rows * group; query++)
        finish_row(job, item->span, item->first + query / group, item->kv_head * group + query % group, state_of(states, a, query));
}

/// The item with this number, false past the last. Items of late rows come first: they see most.
static bool item_at(const attention_job *job, int64_t index, attention_item *item) {
    const sk_attention *a = job->attention;
    float *partials = job->partials;
    for (int32_t i = 0; i < job->count; i++) {
        const sk_span *span = &job->spans[i];
        int64_t base_items = items_of_span(a, span), items = base_items * (job->split ? chunks_of_span(span) : 1);
        if (index < items) {
            int64_t tiles = base_items / a->kv.kv_heads, base = index % base_items, tile = tiles - 1 - base / a->kv.kv_heads;
            int32_t first = (int32_t)tile * rows_per_item(a), rows = span->rows - first;
            *item = (attention_item){.span = span, .kv_head = (int32_t)(base % a->kv.kv_heads), .first = first,
                                     .rows = rows < rows_per_item(a) ? rows : rows_per_item(a), .chunk = (int32_t)(index / base_items),
                                     .partials = partials};
            return true;
        }
        index -= items;
        if (job->split) partials += (size_t)span->rows * (size_t)a->heads * (size_t)chunks_of_span(span) * state_floats(a);
    }
    return false;
}

static void attend_share(void *argument, int32_t thread, int32_t threads) {
    (void)threads;
    attention_job *job = argument;
    float *scratch = (float *)(void *)job->scratch + (size_t)thread * thread_scratch_floats(job->attention);
    attention_item item;
    while (item_at(job, atomic_fetch_add_explicit(&job->next_item, 1, memory_order_relaxed), &item)) {
        if (job->split) attend_item_chunk(job, &item, item.chunk, scratch, NULL);
        else attend_item(job, &item, scratch);
    }
}

/// Split only: merges the chunks of each row and head.
static void merge_share(void *argument, int32_t thread, int32_t threads) {
    attention_job *job = argument;
    const sk_attention *a = job->attention;
    const int32_t stride = kv_value_stride(a->kv.head_dim);
    float *state = (float *)(void *)job->scratch + (size_t)thread * thread_scratch_floats(a);
    attention_item item = {.partials = job->partials};
    int64_t number = 0;
    for (int32_t i = 0; i < job->count; i++) {
        item.span = &job->spans[i];
        for (int32_t query = 0; query < item.span->rows * a->heads; query++, number++) {
            if (number % threads != thread) continue;
            int32_t row = query / a->heads, head = query % a->heads, position = item.span->first_position + row;
            int32_t first = low_of(a, position) / SK_ATTENTION_CHUNK;
            for (int32_t chunk = first; chunk <= position / SK_ATTENTION_CHUNK; chunk++) {
                const float *partial = partial_of(a, &item, row, head, chunk);
                merge_into(job, state, chunk == first, partial[stride], partial[stride + 1], partial);
            }
            finish_row(job, item.span, row, head, state);
        }
        item.partials += (size_t)item.span->rows * (size_t)a->heads * (size_t)chunks_of_span(item.span) * state_floats(a);
    }
}

static void require_shape(const sk_kv *kv) {
    SK_REQUIRE(((uintptr_t)kv->base | kv->stride) % SK_ALIGNMENT == 0, "KV memory must be aligned to SK_ALIGNMENT");
    SK_REQUIRE(kv->stride >= sk_kv_block_bytes(kv->type, kv->kv_heads, kv->head_dim), "blocks overlap: stride is less than a block");
}

void sk_attend(const sk_kernels *k, sk_pool *pool, const sk_attention *attention, const sk_span *spans, int32_t count,
               const float *q, size_t ldq, float *out, size_t ldo, void *workspace) {
    require_shape(&attention->kv);
    SK_REQUIRE(attention->heads > 0 && attention->heads % attention->kv.kv_heads == 0, "heads must be a multiple of kv_heads");
    SK_REQUIRE((uintptr_t)workspace % SK_ALIGNMENT == 0, "workspace must be aligned to SK_ALIGNMENT");
    int32_t threads = pool == NULL ? 1 : sk_pool_threads(pool);
    attention_job job = {.k = k, .attention = attention, .spans = spans, .count = count, .q = q, .ldq = ldq, .out = out, .ldo = ldo,
                         .scratch = workspace, .split = is_split(attention, spans, count, threads)};
    job.partials = (float *)workspace + (size_t)threads * thread_scratch_floats(attention);
    if (threads == 1) {
        attend_share(&job, 0, 1);
        return;
    }
    sk_pool_run(pool, attend_share, &job);
    if (job.split) sk_pool_run(pool, merge_share, &job);
}

typedef struct kv_write_job {
    const sk_kernels *k;
    const sk_kv *kv;
    const sk_span *spans;
    int32_t count;
    const float *keys, *values;
    size_t ldk, ldv;
} kv_write_job;

static void kv_write_share(void *argument, int32_t thread, int32_t threads) {
    const kv_write_job *job = argument;
    for (int32_t i = 0; i < job->count; i++) {
        const sk_span *span = &job->spans[i];
        int32_t first = (int32_t)((int64_t)span->rows * thread / threads), last = (int32_t)((int64_t)span->rows * (thread + 1) / threads);
        for (int32_t row = first; row < last; row++) {
            int32_t position = span->first_position + row;
            size_t index = (size_t)(span->first_row + row);
            job->k->kv_write(job->kv, span->blocks[position / SK_KV_BLOCK], position % SK_KV_BLOCK, job->keys + index * job->ldk,
                             job->values + index * job->ldv);
        }
    }
}

void sk_kv_write(const sk_kernels *k, sk_pool *pool, const sk_kv *kv, const sk_span *spans, int32_t count, const float *keys,
                 size_t ldk, const float *values, size_t ldv) {
    require_shape(kv);
    kv_write_job job = {.k = k, .kv = kv, .spans = spans, .count = count, .keys = keys, .values = values, .ldk = ldk, .ldv = ldv};
    int64_t rows = 0;
    for (int32_t i = 0; i < count; i++) rows += spans[i].rows;
    if (pool == NULL || rows < 16) kv_write_share(&job, 0, 1);
    else sk_pool_run(pool, kv_write_share, &job);
}
