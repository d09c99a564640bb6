// The thread pool: one run at a time, the owner works as thread 0. Workers that find no work spin for some tens of microseconds,
// because in a forward pass the next run follows at once, then yield, then sleep until they are called.
//
// A run is cut into as many shares as there are threads. Each share is claimed once, by its own thread or, when that one does not run
// because another process has its processor, by the owner, which has nothing else to do by then. So a run waits only for threads that
// are in the middle of something, and a late thread finds its share gone and the next run open.
//
// Share i's `turn` is the whole protocol. In run number n it is 2n before anybody has claimed it, 2n + 1 while it is computed, 2n + 2
// when it is done, which is the free state of the next run. The owner ends run n only when all turns are 2n + 2, and a claim is a
// compare-and-swap from exactly 2n: whoever succeeds knows that run n is still open, so `fn` and `arg` are its.

#if defined(__linux__)
#define _GNU_SOURCE
#include <sched.h>
#endif

#include "pool.h"
#include "require.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    THREADS_MAX = 1024,
    // Longer than the gaps inside a step, shorter than anybody would miss a processor.
    WORKER_SPIN_MICROSECONDS = 60,
    // Longer than the end of an uneven run; past it, the thread that is waited for has lost its processor and may want this one.
    OWNER_SPIN_MICROSECONDS = 100,
    SPINS_BETWEEN_LOOKS_AT_THE_CLOCK = 64,
    YIELDS_BEFORE_SLEEP = 16,
    // What a run's argument and what it points to take, where they lie together.
    ARGUMENT_LINES = 10,
};

typedef struct worker {
    _Alignas(CACHE_LINE_BYTES) atomic_uint turn;  // of its share
    sk_pool *pool;
    pthread_t handle;
    int32_t index;
    int32_t cpu;
} worker;

struct sk_pool {
    // One line: what workers read when a run begins. `calls` counts runs; the newest one's number is calls - 1.
    _Alignas(CACHE_LINE_BYTES) atomic_uint calls;
    int32_t threads;
    sk_pool_fn fn;
    void *arg;
    worker *workers;  // [threads]; entry 0 is the owner's and has no thread
    atomic_bool ending;

    // Written only by who goes to sleep, so the line stays shared while all are awake.
    _Alignas(CACHE_LINE_BYTES) atomic_int workers_asleep;
    atomic_bool owner_asleep;
    pthread_mutex_t lock;
    pthread_cond_t called;
    pthread_cond_t finished;

    work_queue *queues;  // [threads]
#if defined(__linux__)
    bool owner_pinned;
    pthread_t owner;
    cpu_set_t owner_cpus;  // where the owner might run before it was pinned
#endif
};

// ---- Waiting

static inline void spin_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");  // `yield` is nothing on most cores
#endif
}

static int64_t microseconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/// Whether `value` became (`until_equal`) or ceased to be (otherwise) `mark` within the time of spinning and yielding.
static bool spin(const atomic_uint *value, unsigned mark, bool until_equal, int64_t limit_microseconds) {
    int64_t end = 0;
    for (;;) {
        for (int i = 0; i < SPINS_BETWEEN_LOOKS_AT_THE_CLOCK; i++) {
            if ((atomic_load_explicit(value, memory_order_acquire) == mark) == until_equal) return true;
            spin_pause();
        }
        int64_t now = microseconds_now();
        if (end == 0) end = now + limit_microseconds;
        if (now >= end) break;
    }
    // Who else wants this processor gets it now, and not only when the scheduler takes it in the middle of the next share.
    for (int i = 0; i < YIELDS_BEFORE_SLEEP; i++) {
        sched_yield();
        if ((atomic_load_explicit(value, memory_order_acquire) == mark) == until_equal) return true;
    }
    return false;
}

/// Returns the number of calls once it differs from `seen`.
static unsigned wait_for_call(sk_pool *pool, unsigned seen) {
    if (spin(&pool->calls, seen, false, WORKER_SPIN_MICROSECONDS)) return atomic_load_explicit(&pool->calls, memory_order_acquire);
    pthread_mutex_lock(&pool->lock);
    // Sequentially consistent on both sides: either the owner sees the sleeper or the sleeper sees the new call.
    atomic_fetch_add(&pool->workers_asleep, 1);
    unsigned now;
    while ((now = atomic_load(&pool->calls)) == seen) pthread_cond_wait(&pool->called, &pool->lock);
    atomic_fetch_sub(&pool->workers_asleep, 1);
    pthread_mutex_unlock(&pool->lock);
    return now;
}

static void wait_for_share(sk_pool *pool, const atomic_uint *turn, unsigned done) {
    if (spin(turn, done, true, OWNER_SPIN_MICROSECONDS)) return;
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->owner_asleep, true);
    while (atomic_load(turn) != done) pthread_cond_wait(&pool->finished, &pool->lock);
    atomic_store(&pool->owner_asleep, false);
    pthread_mutex_unlock(&pool->lock);
}

static void wake_workers(sk_pool *pool) {
    if (atomic_load(&pool->workers_asleep) == 0) return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->called);
    pthread_mutex_unlock(&pool->lock);
}

static void wake_owner(sk_pool *pool) {
    if (!atomic_load(&pool->owner_asleep)) return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_signal(&pool->finished);
    pthread_mutex_unlock(&pool->lock);
}

// ---- Runs

/// The caller has just written what `arg` points to, so each line of it must come from the caller's cache: better all at once than one
/// after the other. A line of a run that is over, or of anything else, does no harm.
static void fetch_argument(const sk_pool *pool) {
    const char *arg = pool->arg;
    for (int line = 0; line < ARGUMENT_LINES; line++) __builtin_prefetch(arg + (size_t)line * CACHE_LINE_BYTES);
}

static bool claim(atomic_uint *turn, unsigned free_turn) {
    return atomic_compare_exchange_strong_explicit(turn, &free_turn, free_turn + 1, memory_order_acquire, memory_order_relaxed);
}

static void pin_to(int32_t cpu);

static void *work(void *argument) {
    worker *self = argument;
    sk_pool *pool = self->pool;
    pin_to(self->cpu);
    unsigned seen = 0;
    for (;;) {
        seen = wait_for_call(pool, seen);
        if (atomic_load(&pool->ending)) return NULL;
        unsigned free_turn = 2 * (seen - 1);
        fetch_argument(pool);
        if (!claim(&self->turn, free_turn)) continue;
        pool->fn(pool->arg, self->index, pool->threads);
        atomic_store(&self->turn, free_turn + 2);
        wake_owner(pool);
    }
}

/// The owner's part of a run: its own share, then those that nobody has begun where it may, then waiting.
static void run(sk_pool *pool, sk_pool_fn fn, void *arg, bool each_on_its_thread) {
    const unsigned free_turn = 2 * atomic_load_explicit(&pool->calls, memory_order_relaxed);
    pool->fn = fn;
    pool->arg = arg;
    atomic_fetch_add(&pool->calls, 1);
    wake_workers(pool);
    fn(arg, 0, pool->threads);
    for (int32_t i = 1; i < pool->threads && !each_on_its_thread; i++) {
        atomic_uint *turn = &pool->workers[i].turn;
        if (atomic_load_explicit(turn, memory_order_relaxed) != free_turn || !claim(turn, free_turn)) continue;
        fn(arg, i, pool->threads);
        atomic_store_explicit(turn, free_turn + 2, memory_order_relaxed);
    }
    for (int32_t i = 1; i < pool->threads; i++) wait_for_share(pool, &pool->workers[i].turn, free_turn + 2);
}

void sk_pool_run(sk_pool *pool, sk_pool_fn fn, void *arg) {
    if (pool->threads == 1) fn(arg, 0, 1);
    else run(pool, fn, arg, false);
}

void sk_pool_run_each(sk_pool *pool, sk_pool_fn fn, void *arg) {
    if (pool->threads == 1) fn(arg, 0, 1);
    else run(pool, fn, arg, true);
}

int32_t sk_pool_threads(const sk_pool *pool) { return pool->threads; }
work_queue *sk_pool_queues(sk_pool *pool) { return pool->queues; }

// ---- Life

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

int32_t sk_processors_allowed(int32_t *cpus, int32_t count) {
    int32_t found = 0;
#if defined(__linux__)
    cpu_set_t set;
    if (pthread_getaffinity_np(pthread_self(), sizeof set, &set) != 0) return 0;
    for (int32_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &set)) continue;
        if (found < count) cpus[found] = cpu;
        found++;
    }
#else
    (void)cpus;
    (void)count;
#endif
    return found;
}

static void pin_owner(sk_pool *pool, int32_t cpu) {
#if defined(__linux__)
    pool->owner = pthread_self();
    pool->owner_pinned = cpu >= 0 && pthread_getaffinity_np(pool->owner, sizeof pool->owner_cpus, &pool->owner_cpus) == 0;
#endif
    pin_to(cpu);
}

/// Threads that the owner starts later would otherwise inherit its one processor.
static void unpin_owner(sk_pool *pool) {
#if defined(__linux__)
    if (pool->owner_pinned && pthread_equal(pool->owner, pthread_self()))
        pthread_setaffinity_np(pool->owner, sizeof pool->owner_cpus, &pool->owner_cpus);
#else
    (void)pool;
#endif
}

static void *zeroed_lines(size_t bytes) {
    bytes = (bytes + CACHE_LINE_BYTES - 1) / CACHE_LINE_BYTES * CACHE_LINE_BYTES;
    void *memory = aligned_alloc(CACHE_LINE_BYTES, bytes);
    if (memory != NULL) memset(memory, 0, bytes);
    return memory;
}

static void free_pool(sk_pool *pool) {
    if (pool == NULL) return;
    free(pool->queues);
    free(pool->workers);
    free(pool);
}

sk_pool *sk_pool_create(int32_t threads, const int32_t *cpus) {
    SK_REQUIRE(threads >= 1 && threads <= THREADS_MAX, "threads must be 1...1024");
    sk_pool *pool = zeroed_lines(sizeof *pool);
    if (pool == NULL) return NULL;
    pool->threads = threads;
    pool->workers = zeroed_lines((size_t)threads * sizeof *pool->workers);
    pool->queues = zeroed_lines((size_t)threads * sizeof *pool->queues);
    if (pool->workers == NULL || pool->queues == NULL) {
        free_pool(pool);
        return NULL;
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->called, NULL);
    pthread_cond_init(&pool->finished, NULL);
    for (int32_t i = 1; i < threads; i++) {
        worker *w = &pool->workers[i];
        w->pool = pool;
        w->index = i;
        w->cpu = cpus == NULL ? -1 : cpus[i];
        if (pthread_create(&w->handle, NULL, work, w) != 0) {
            pool->threads = i;
            sk_pool_destroy(pool);
            return NULL;
        }
    }
    // Last, because threads start on the processors of the one that starts them.
    pin_owner(pool, cpus == NULL ? -1 : cpus[0]);
    return pool;
}

void sk_pool_destroy(sk_pool *pool) {
    if (pool == NULL) return;
    atomic_store(&pool->ending, true);
    atomic_fetch_add(&pool->calls, 1);
    wake_workers(pool);
    for (int32_t i = 1; i < pool->threads; i++) pthread_join(pool->workers[i].handle, NULL);
    unpin_owner(pool);
    pthread_cond_destroy(&pool->finished);
    pthread_cond_destroy(&pool->called);
    pthread_mutex_destroy(&pool->lock);
    free_pool(pool);
}
