// Paged attention over the pool. Work is cut into items: one KV head, a few rows of one span, all heads that read this KV head. An item
// walks its chunks in ascending order and merges as it goes. An item that is long beside a thread's fair share (few sequences, or one long
// one among short ones) is cut into pieces of a few chunks; their results wait in the workspace, and who finishes an item's last piece
// merges all of them, in the same ascending order.

#include "kernels.h"
#include "require.h"

#include <stdatomic.h>
#include <string.h>

// An item of more than 1 / (4 threads) of all work is cut into pieces of at most 1 / (8 threads). So fewer than four items a thread are
// ever cut, and what their pieces leave in the workspace is bounded by threads times context.
enum { ITEM_QUERIES_MAX = 32, ITEMS_PER_THREAD_MIN = 4, PIECES_PER_THREAD = 8 };

/// How one call is cut. Work is counted in chunks of one row on one KV head.
typedef struct attention_plan {
    int32_t rows_per_item;
    int64_t item_work_max;  // more is cut
    int64_t piece_work;
} attention_plan;

typedef struct attention_job {
    const sk_kernels *k;
    const sk_attention *attention;
    const sk_span *spans;
    int32_t count;
    attention_plan plan;
    const float *q;
    size_t ldq;
    float *out;
    size_t ldo;
    char *scratch;          // [threads][thread_scratch_floats]
    float *partials;        // of cut spans: [row][head][chunk][state_floats]
    atomic_int *finished;   // of cut spans: [item], pieces that are done
    atomic_llong next_task; // tasks are taken in order, so long ones do not pile up on one thread
} attention_job;

// What attention of one shape needs, derived once here.
static int32_t group_of(const sk_attention *a) { return a->heads / a->kv.kv_heads; }
static size_t state_floats(const sk_attention *a) { return (size_t)kv_value_stride(a->kv.head_dim) + 16; }  // V, then M and L
static int32_t at_least_one(int32_t n) { return n > 0 ? n : 1; }
static int32_t rows_per_item_max(const sk_attention *a) { return at_least_one(ITEM_QUERIES_MAX / group_of(a)); }

/// The first position that is visible from `position`.
static int32_t low_of(const sk_attention *a, int32_t position) {
    return a->window > 0 && position + 1 > a->window ? position + 1 - a->window : 0;
}

static int32_t first_chunk(const sk_attention *a, const sk_span *s) { return low_of(a, s->first_position) / SK_ATTENTION_CHUNK; }
static int32_t chunk_count(const sk_attention *a, const sk_span *s) {
    return (s->first_position + s->rows - 1) / SK_ATTENTION_CHUNK + 1 - first_chunk(a, s);
}

// Thread scratch, each part a multiple of 16 floats: scores of one chunk, its results, then of all queries of an item the states and the
// queries themselves, [head_dim][ATTENTION_QUERIES] a tile, so that a kernel reaches all of a tile's queries from one address.
static size_t scores_floats(void) { return (size_t)ATTENTION_QUERIES * SK_ATTENTION_CHUNK; }
static size_t results_floats(const sk_attention *a) { return (size_t)ATTENTION_QUERIES * state_floats(a); }
static size_t item_tiles(const sk_attention *a) {
    return (size_t)(rows_per_item_max(a) * group_of(a) + ATTENTION_QUERIES - 1) / ATTENTION_QUERIES;
}
static size_t packed_tile_floats(const sk_attention *a) { return (size_t)ATTENTION_QUERIES * (size_t)kv_value_stride(a->kv.head_dim); }
static size_t thread_scratch_floats(const sk_attention *a) {
    return scores_floats() + results_floats(a) + item_tiles(a) * (results_floats(a) + packed_tile_floats(a));
}

static int64_t item_count(const sk_attention *a, const sk_span *s, const attention_plan *plan) {
    return (int64_t)((s->rows + plan->rows_per_item - 1) / plan->rows_per_item) * a->kv.kv_heads;
}

static attention_plan plan_of(const sk_attention *a, const sk_span *spans, int32_t count, int32_t threads) {
    attention_plan plan = {.rows_per_item = rows_per_item_max(a), .item_work_max = INT64_MAX, .piece_work = INT64_MAX};
    if (threads == 1) return plan;
    int64_t work = 0;
    for (int32_t i = 0; i < count; i++) work += (int64_t)spans[i].rows * chunk_count(a, &spans[i]) * a->kv.kv_heads;
    plan.item_work_max = work / (ITEMS_PER_THREAD_MIN * threads);
    plan.piece_work = work / (PIECES_PER_THREAD * threads);
    for (; plan.rows_per_item > 1; plan.rows_per_item /= 2) {
        int64_t items = 0;
        for (int32_t i = 0; i < count; i++) items += item_count(a, &spans[i], &plan);
        if (items >= (int64_t)ITEMS_PER_THREAD_MIN * threads) break;
    }
    return plan;
}

/// Into how many pieces the chunks of a span's items are cut, and how many chunks a piece has.
static int32_t piece_count(const sk_attention *a, const sk_span *s, const attention_plan *plan, int32_t *chunks) {
    int32_t all = chunk_count(a, s), rows = s->rows < plan->rows_per_item ? s->rows : plan->rows_per_item;
    *chunks = all;
    if ((int64_t)rows * all <= plan->item_work_max) return 1;
    int64_t most = plan->piece_work / rows;
    *chunks = most < 1 ? 1 : most < all ? (int32_t)most : all;
    return (all + *chunks - 1) / *chunks;
}

static size_t partial_floats(const sk_attention *a, const sk_span *s) {
    return (size_t)s->rows * (size_t)a->heads * (size_t)chunk_count(a, s) * state_floats(a);
}

/// Floats and counters of all spans that are cut.
static void cut_sizes(const sk_attention *a, const sk_span *spans, int32_t count, const attention_plan *plan, size_t *floats, size_t *items) {
    *floats = *items = 0;
    for (int32_t i = 0; i < count; i++) {
        int32_t chunks;
        if (spans[i].rows == 0 || piece_count(a, &spans[i], plan, &chunks) == 1) continue;
        *floats += partial_floats(a, &spans[i]);
        *items += (size_t)item_count(a, &spans[i], plan);
    }
}

size_t sk_attention_workspace_bytes(const sk_attention *a, const sk_span *spans, int32_t count, int32_t threads) {
    attention_plan plan = plan_of(a, spans, count, threads);
    size_t floats, items;
    cut_sizes(a, spans, count, &plan, &floats, &items);
    return ((size_t)threads * thread_scratch_floats(a) + floats) * sizeof(float) + items * sizeof(atomic_int);
}

size_t sk_kv_block_bytes(sk_kv_type type, int32_t kv_heads, int32_t head_dim) {
    SK_REQUIRE(type == SK_KV_F32 || type == SK_KV_F16 || type == SK_KV_Q8, "no such KV type");
    SK_REQUIRE(kv_heads > 0 && head_dim > 0, "sizes must be positive");
    return (size_t)kv_heads * kv_head_bytes(type, head_dim);
}

/// A run of rows of one span on one KV head, and the chunks of it that one task does.
typedef struct attention_item {
    const sk_span *span;
    int32_t kv_head;
    int32_t first, rows;           // relative to the span
    int32_t chunk_first, chunks;
    int32_t pieces;                // 1: whole
    float *partials;               // of the span, where it is cut
    atomic_int *finished;          // of the item, where it is cut
} attention_item;

static float *partial_of(const sk_attention *a, const attention_item *item, int32_t row, int32_t head, int32_t chunk) {
    size_t index = (size_t)row * (size_t)a->heads + (size_t)head;
    index = index * (size_t)chunk_count(a, item->span) + (size_t)(chunk - first_chunk(a, item->span));
    return item->partials + index * state_floats(a);
}

/// Adds one chunk's result to a query's state; the first one becomes the state.
static void merge_into(const attention_job *job, float *state, bool is_first, float m, float l, const float *v) {
    const int32_t dim = job->attention->kv.head_dim, stride = kv_value_stride(dim);
    float *value = state, *highest = state + stride, *sum = state + stride + 1;
    if (is_first) {
        memcpy(value, v, sizeof(float) * (size_t)stride);
        *highest = m;
        *sum = l;
    } else {
        job->k->attend_merge(highest, sum, value, m, l, v, dim);
    }
}

static int32_t position_of(const attention_job *job, const attention_item *item, int32_t query) {
    return item->span->first_position + item->first + query / group_of(job->attention);
}

/// The item's queries from `first` on, ATTENTION_QUERIES at most, over one chunk. Each result goes to the query's state, or to its partial.
static void attend_tile(const attention_job *job, const attention_item *item, int32_t chunk, int32_t first, float *scratch, float *states,
                        const float *packed) {
    const sk_attention *a = job->attention;
    const int32_t group = group_of(a), stride = kv_value_stride(a->kv.head_dim), left = item->rows * group - first;
    const int32_t start = chunk * SK_ATTENTION_CHUNK, end = start + SK_ATTENTION_CHUNK;
    const int32_t last_position = item->span->first_position + item->first + item->rows - 1;
    attention_chunk c = {.kv = &a->kv, .blocks = item->span->blocks, .block_end = last_position / SK_KV_BLOCK + 1, .kv_head = item->kv_head,
                         .chunk = chunk, .queries = left < ATTENTION_QUERIES ? left : ATTENTION_QUERIES, .scale = a->scale,
                         .q = packed + (size_t)(first / ATTENTION_QUERIES) * packed_tile_floats(a), .scores = scratch};
    bool any = false;
    for (int32_t i = 0; i < c.queries; i++) {
        int32_t query = first + i, position = position_of(job, item, query), low = low_of(a, position);
        c.low[i] = low > start ? low : start;
        c.high[i] = position + 1 < end ? position + 1 : end;
        any |= c.low[i] < c.high[i];
        c.value[i] = item->pieces > 1 && c.low[i] < c.high[i]
                         ? partial_of(a, item, item->first + query / group, item->kv_head * group + query % group, chunk)
                         : scratch + scores_floats() + (size_t)i * state_floats(a);
    }
    if (!any) return;
    job->k->attend_chunk(&c);
    for (int32_t i = 0; i < c.queries; i++) {
        if (c.low[i] >= c.high[i]) continue;
        if (item->pieces > 1) {
            c.value[i][stride] = c.maximum[i];
            c.value[i][stride + 1] = c.sum[i];
        } else {
            bool is_first = chunk == low_of(a, position_of(job, item, first + i)) / SK_ATTENTION_CHUNK;
            merge_into(job, states + (size_t)(first + i) * state_floats(a), is_first, c.maximum[i], c.sum[i], c.value[i]);
        }
    }
}

/// The item's queries as kernels take them.
static void pack_queries(const attention_job *job, const attention_item *item, float *packed) {
    const sk_attention *a = job->attention;
    const int32_t group = group_of(a), dim = a->kv.head_dim;
    for (int32_t query = 0; query < item->rows * group; query++) {
        size_t row = (size_t)(item->span->first_row + item->first + query / group);
        const float *q = job->q + row * job->ldq + (size_t)(item->kv_head * group + query % group) * (size_t)dim;
        float *to = packed + (size_t)(query / ATTENTION_QUERIES) * packed_tile_floats(a) + query % ATTENTION_QUERIES;
        for (int32_t d = 0; d < dim; d++) to[d * ATTENTION_QUERIES] = q[d];
    }
}

static void finish_query(const attention_job *job, const attention_item *item, int32_t query, const float *state) {
    const int32_t group = group_of(job->attention), dim = job->attention->kv.head_dim;
    const int32_t row = item->span->first_row + item->first + query / group, head = item->kv_head * group + query % group;
    job->k->attend_finish(state, state[kv_value_stride(dim) + 1], job->out + (size_t)row * job->ldo + (size_t)head * (size_t)dim, dim);
}

/// All pieces of an item are done: merges the chunks of each of its queries.
static void merge_pieces(const attention_job *job, const attention_item *item, float *state) {
    const sk_attention *a = job->attention;
    const int32_t group = group_of(a), stride = kv_value_stride(a->kv.head_dim);
    for (int32_t query = 0; query < item->rows * group; query++) {
        int32_t position = position_of(job, item, query), first = low_of(a, position) / SK_ATTENTION_CHUNK;
        for (int32_t chunk = first; chunk <= position / SK_ATTENTION_CHUNK; chunk++) {
            const float *partial = partial_of(a, item, item->first + query / group, item->kv_head * group + query % group, chunk);
            merge_into(job, state, chunk == first, partial[stride], partial[stride + 1], partial);
        }
        finish_query(job, item, query, state);
    }
}

static void attend_item(const attention_job *job, const attention_item *item, float *scratch) {
    const sk_attention *a = job->attention;
    const int32_t queries = item->rows * group_of(a);
    float *states = scratch + scores_floats() + results_floats(a), *packed = states + item_tiles(a) * results_floats(a);
    pack_queries(job, item, packed);
    for (int32_t chunk = item->chunk_first; chunk < item->chunk_first + item->chunks; chunk++)
        for (int32_t first = 0; first < queries; first += ATTENTION_QUERIES) attend_tile(job, item, chunk, first, scratch, states, packed);
    if (item->pieces == 1) {
        for (int32_t query = 0; query < queries; query++) finish_query(job, item, query, states + (size_t)query * state_floats(a));
    } else if (atomic_fetch_add_explicit(item->finished, 1, memory_order_acq_rel) == item->pieces - 1) {
        merge_pieces(job, item, states);
    }
}

/// Where a thread stands in the list of tasks. Task numbers only grow, so the spans are walked once.
typedef struct attention_cursor {
    int32_t span;
    int64_t first_task;  // of the span
    float *partials;     // of the span
    atomic_int *finished;
} attention_cursor;

/// The task with this number, false past the last. Items of late rows come first: they see most.
static bool find_task(const attention_job *job, int64_t task, attention_cursor *at, attention_item *item) {
    const sk_attention *a = job->attention;
    for (; at->span < job->count; at->span++) {
        const sk_span *span = &job->spans[at->span];
        if (span->rows == 0) continue;
        int32_t chunks, pieces = piece_count(a, span, &job->plan, &chunks);
        int64_t items = item_count(a, span, &job->plan), index = task - at->first_task;
        if (index < items * pieces) {
            int64_t number = index / pieces;
            int32_t rows_max = job->plan.rows_per_item, tile = (int32_t)((items - 1 - number) / a->kv.kv_heads), piece = (int32_t)(index % pieces);
            int32_t first = tile * rows_max, rows = span->rows - first < rows_max ? span->rows - first : rows_max;
            int32_t begin = first_chunk(a, span) + piece * chunks, end = begin + chunks;
            int32_t visible_end = (span->first_position + first + rows - 1) / SK_ATTENTION_CHUNK + 1;
            if (end > visible_end) end = visible_end;
            *item = (attention_item){.span = span, .kv_head = (int32_t)(number % a->kv.kv_heads), .first = first, .rows = rows,
                                     .chunk_first = begin, .chunks = end > begin ? end - begin : 0, .pieces = pieces,
                                     .partials = at->partials, .finished = at->finished + number};
            return true;
        }
        at->first_task += items * pieces;
        if (pieces == 1) continue;
        at->partials += partial_floats(a, span);
        at->finished += items;
    }
    return false;
}

static void attend_share(void *argument, int32_t thread, int32_t threads) {
    (void)threads;
    attention_job *job = argument;
    float *scratch = (float *)(void *)job->scratch + (size_t)thread * thread_scratch_floats(job->attention);
    attention_cursor cursor = {.partials = job->partials, .finished = job->finished};
    attention_item item;
    while (find_task(job, atomic_fetch_add_explicit(&job->next_task, 1, memory_order_relaxed), &cursor, &item))
        attend_item(job, &item, scratch);
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
                         .scratch = workspace, .plan = plan_of(attention, spans, count, threads)};
    size_t floats, items;
    cut_sizes(attention, spans, count, &job.plan, &floats, &items);
    job.partials = (float *)workspace + (size_t)threads * thread_scratch_floats(attention);
    job.finished = (atomic_int *)(void *)(job.partials + floats);
    for (size_t i = 0; i < items; i++) atomic_init(&job.finished[i], 0);
    if (threads == 1) attend_share(&job, 0, 1);
    else sk_pool_run(pool, attend_share, &job);
}

typedef struct kv_write_job {
    const sk_kernels *k;
    const sk_kv *kv;
    const sk_span *spans;
    int32_t count;
    int64_t rows;  // of all spans
    const float *keys, *values;
    size_t ldk, ldv;
} kv_write_job;

/// Rows are shared out over all spans together: those of a decode batch have one each.
static void kv_write_share(void *argument, int32_t thread, int32_t threads) {
    const kv_write_job *job = argument;
    const int64_t first = job->rows * thread / threads, last = job->rows * (thread + 1) / threads;
    int64_t number = 0;
    for (int32_t i = 0; i < job->count && number < last; number += job->spans[i].rows, i++) {
        const sk_span *span = &job->spans[i];
        int64_t from = first > number ? first - number : 0, to = last - number < span->rows ? last - number : span->rows;
        for (int64_t row = from; row < to; row++) {
            int32_t position = span->first_position + (int32_t)row;
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
    for (int32_t i = 0; i < count; i++) job.rows += spans[i].rows;
    if (pool == NULL || job.rows < 16) kv_write_share(&job, 0, 1);
    else sk_pool_run(pool, kv_write_share, &job);
}
