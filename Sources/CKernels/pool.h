// What a run of the pool hands out in portions: each share's units, taken from the front by the thread whose share it is and from the
// back by threads that are done with theirs. By default a thread meets the same units in every run (its cache, its NUMA node); what is
// stolen is the end of what a slower thread has left. Who takes a unit changes nothing in its result.

#ifndef SK_POOL_H
#define SK_POOL_H

#include "staffel_kernels.h"

#include <stdatomic.h>

enum {
    CACHE_LINE_BYTES = 64,
    // A thread that is done looks at so many others. All of them would be a walk over as many cache lines as there are threads.
    STEAL_FROM_MAX = 8,
};

/// Units next ..< end of one share that nobody has taken: end << 32 | next. Zero, so empty, until its share begins, and empty when a run ends.
typedef struct work_queue {
    _Alignas(CACHE_LINE_BYTES) _Atomic uint64_t units;
    sk_pool_units taken;  // by this share, of its own and of others; written by whoever computes the share
} work_queue;

/// A queue for each thread of the pool, all empty. Of use to one run at a time.
work_queue *sk_pool_queues(sk_pool *pool);

static inline void work_queue_fill(work_queue *queue, int32_t units) {
    atomic_store_explicit(&queue->units, (uint64_t)(uint32_t)units << 32, memory_order_relaxed);
}

/// Takes three quarters of what is left, in portions of `least` units, from the front: large portions while there is much to do, because
/// each begins a new stream from memory, and small ones when the others begin to wait. False when nothing is left.
static inline bool work_queue_take(work_queue *queue, int32_t least, int32_t *first, int32_t *last) {
    uint64_t seen = atomic_load_explicit(&queue->units, memory_order_relaxed);
    for (;;) {
        int32_t next = (int32_t)(uint32_t)seen, end = (int32_t)(seen >> 32), left = end - next;
        if (left <= 0) return false;
        int32_t count = (left - left / 4) / least * least;
        if (count < least) count = left < least ? left : least;
        if (!atomic_compare_exchange_weak_explicit(&queue->units, &seen, seen + (uint32_t)count, memory_order_relaxed,
                                                   memory_order_relaxed)) continue;
        *first = next;
        *last = next + count;
        return true;
    }
}

/// The same from the back, where its thread will come last: a quarter of what is left.
static inline bool work_queue_steal(work_queue *queue, int32_t least, int32_t *first, int32_t *last) {
    uint64_t seen = atomic_load_explicit(&queue->units, memory_order_relaxed);
    for (;;) {
        int32_t next = (int32_t)(uint32_t)seen, end = (int32_t)(seen >> 32), left = end - next;
        if (left <= 0) return false;
        int32_t count = left / 4 / least * least;
        if (count < least) count = left < least ? left : least;
        if (!atomic_compare_exchange_weak_explicit(&queue->units, &seen, seen - ((uint64_t)(uint32_t)count << 32), memory_order_relaxed,
                                                   memory_order_relaxed)) continue;
        *first = end - count;
        *last = end;
        return true;
    }
}

#endif
