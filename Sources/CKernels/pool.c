// The thread pool: one run at a time, the owner works as thread 0. Workers that find no work spin for a few tens of microseconds,
// because in a forward pass the next run follows at once, and then sleep until they are called.

#if defined(__linux__)
#define _GNU_SOURCE
#include <sched.h>
#endif

#include "require.h"
#include "staffel_kernels.h"

#include <pthread.h>
#include <stdatomic.h>

enum { THREADS_MAX = 1024, SPINS_BEFORE_SLEEP = 4096, CACHE_LINE_BYTES = 64 };

typedef struct worker {
    sk_pool *pool;
    pthread_t handle;
    int32_t index;
    int32_t cpu;
} worker;

struct sk_pool {
    int32_t threads;
    worker *workers;  // [threads - 1]

    // Written by the owner before `generation` grows, read by workers after they have seen it grow.
    sk_pool_fn fn;
    void *arg;

    // What one side spins on lies apart from what the other side writes.
    _Alignas(CACHE_LINE_BYTES) atomic_uint generation;
    atomic_bool ending;
    _Alignas(CACHE_LINE_BYTES) atomic_int running;
    _Alignas(CACHE_LINE_BYTES) atomic_int workers_asleep;
    atomic_bool owner_asleep;
    pthread_mutex_t lock;
    pthread_cond_t called;
    pthread_cond_t finished;
};

static inline void spin_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void pin_to(int32_t cpu) {
#if defined(__linux__)
    if (cpu < 0 || cpu >= CPU_SETSIZE) return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    // A processor that is offline or outside the container's set leaves the thread unpinned: slower, never wrong.
    pthread_setaffinity_np(pthread_self(), sizeof set, &set);
#else
    (void)cpu;
#endif
}

/// Returns the new generation once it differs from `seen`.
static unsigned wait_for_call(sk_pool *pool, unsigned seen) {
    for (int spin = 0; spin < SPINS_BEFORE_SLEEP; spin++) {
        unsigned now = atomic_load_explicit(&pool->generation, memory_order_acquire);
        if (now != seen) return now;
        spin_pause();
    }
    pthread_mutex_lock(&pool->lock);
    // Sequentially consistent on both sides: either the owner sees the sleeper or the sleeper sees the new generation.
    atomic_fetch_add(&pool->workers_asleep, 1);
    unsigned now;
    while ((now = atomic_load(&pool->generation)) == seen) pthread_cond_wait(&pool->called, &pool->lock);
    atomic_fetch_sub(&pool->workers_asleep, 1);
    pthread_mutex_unlock(&pool->lock);
    return now;
}

static void finish_one(sk_pool *pool) {
    if (atomic_fetch_sub(&pool->running, 1) != 1) return;
    if (!atomic_load(&pool->owner_asleep)) return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_signal(&pool->finished);
    pthread_mutex_unlock(&pool->lock);
}

static void *work(void *argument) {
    worker *self = argument;
    sk_pool *pool = self->pool;
    pin_to(self->cpu);
    unsigned seen = 0;
    for (;;) {
        seen = wait_for_call(pool, seen);
        if (atomic_load(&pool->ending)) return NULL;
        pool->fn(pool->arg, self->index, pool->threads);
        finish_one(pool);
    }
}

static void call_workers(sk_pool *pool) {
    atomic_fetch_add(&pool->generation, 1);
    if (atomic_load(&pool->workers_asleep) == 0) return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->called);
    pthread_mutex_unlock(&pool->lock);
}

static void wait_for_workers(sk_pool *pool) {
    for (int spin = 0; spin < SPINS_BEFORE_SLEEP; spin++) {
        if (atomic_load_explicit(&pool->running, memory_order_acquire) == 0) return;
        spin_pause();
    }
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->owner_asleep, true);
    while (atomic_load(&pool->running) != 0) pthread_cond_wait(&pool->finished, &pool->lock);
    atomic_store(&pool->owner_asleep, false);
    pthread_mutex_unlock(&pool->lock);
}

void sk_pool_run(sk_pool *pool, sk_pool_fn fn, void *arg) {
    if (pool->threads > 1) {
        pool->fn = fn;
        pool->arg = arg;
        atomic_store_explicit(&pool->running, pool->threads - 1, memory_order_relaxed);
        call_workers(pool);
    }
    fn(arg, 0, pool->threads);
    if (pool->threads > 1) wait_for_workers(pool);
}

int32_t sk_pool_threads(const sk_pool *pool) { return pool->threads; }

sk_pool *sk_pool_create(int32_t threads, const int32_t *cpus) {
    SK_REQUIRE(threads >= 1 && threads <= THREADS_MAX, "threads must be 1...1024");
    sk_pool *pool = aligned_alloc(CACHE_LINE_BYTES, sizeof *pool);
    if (pool == NULL) return NULL;
    *pool = (sk_pool){.threads = 1};
    pool->workers = calloc((size_t)threads, sizeof *pool->workers);
    if (pool->workers == NULL) {
        free(pool);
        return NULL;
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->called, NULL);
    pthread_cond_init(&pool->finished, NULL);
    for (int32_t i = 1; i < threads; i++) {
        worker *w = &pool->workers[i - 1];
        *w = (worker){.pool = pool, .index = i, .cpu = cpus == NULL ? -1 : cpus[i]};
        if (pthread_create(&w->handle, NULL, work, w) != 0) {
            sk_pool_destroy(pool);
            return NULL;
        }
        pool->threads = i + 1;
    }
    if (cpus != NULL) pin_to(cpus[0]);
    return pool;
}

void sk_pool_destroy(sk_pool *pool) {
    if (pool == NULL) return;
    atomic_store(&pool->ending, true);
    call_workers(pool);
    for (int32_t i = 1; i < pool->threads; i++) pthread_join(pool->workers[i - 1].handle, NULL);
    pthread_cond_destroy(&pool->finished);
    pthread_cond_destroy(&pool->called);
    pthread_mutex_destroy(&pool->lock);
    free(pool->workers);
    free(pool);
}
