// The thread pool: one run at a time, the owner works as thread 0. Workers that find no work spin for some tens of microseconds,
// because in a forward pass the next run follows at once, then yield, then sleep until they are called.
//
// A run is cut into as many shares as there are threads. Each share is claimed once, by its own thread or, when that one does not run
// because another process has its processor, by its node's leader or the owner, which have nothing else to do by then. So a run waits
// only for threads that are in the middle of something, and a late thread finds its share gone and the next run open.
//
// Share i's `turn` is the whole protocol. In run number n it is 2n before anybody has claimed it, 2n + 1 while it is computed, 2n + 2
// when it is done, which is the free state of the next run. The owner ends run n only when all turns are 2n + 2, and a claim is a
// compare-and-swap from exactly 2n: whoever succeeds knows that run n is still open, so `fn` and `arg` are its.
//
// Turns of one memory node are waited for inside it: who has claimed the node's first share leads it in this run, waits for the others,
// and then tells the owner by the node's own `turn`. So what crosses from node to node in a run is one line there and one back. The owner
// leads node 0, and each node whose first thread is late. With one node all that is left is the owner's wait for each turn.

#include "pool_nodes.h"
#include "require.h"
#include "spin_pause.h"

#include <sched.h>
#include <time.h>

enum {
    // Longer than the gaps inside a step, shorter than anybody would miss a processor.
    WORKER_SPIN_MICROSECONDS = 60,
    // Longer than the end of an uneven run; past it, the thread that is waited for has lost its processor and may want this one.
    LEADER_SPIN_MICROSECONDS = 100,
    SPINS_BETWEEN_LOOKS_AT_THE_CLOCK = 64,
    YIELDS_BEFORE_SLEEP = 16,
    // What a run's argument and what it points to take, where they lie together.
    ARGUMENT_LINES = 10,
};

// ---- Waiting

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
            sk_spin_pause();
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
static unsigned wait_for_call(pool_node *node, unsigned seen) {
    if (spin(&node->calls, seen, false, WORKER_SPIN_MICROSECONDS)) return atomic_load_explicit(&node->calls, memory_order_acquire);
    pthread_mutex_lock(&node->lock);
    // Sequentially consistent on both sides: either the owner sees the sleeper or the sleeper sees the new call.
    atomic_fetch_add(&node->workers_asleep, 1);
    unsigned now;
    while ((now = atomic_load(&node->calls)) == seen) pthread_cond_wait(&node->called, &node->lock);
    atomic_fetch_sub(&node->workers_asleep, 1);
    pthread_mutex_unlock(&node->lock);
    return now;
}

void sk_pool_wake(pool_node *node) {
    if (atomic_load(&node->workers_asleep) == 0) return;
    pthread_mutex_lock(&node->lock);
    pthread_cond_broadcast(&node->called);
    pthread_mutex_unlock(&node->lock);
}

/// The leader of `node` waits until `turn` is `done`.
static void wait_for_turn(pool_node *node, const atomic_uint *turn, unsigned done) {
    if (spin(turn, done, true, LEADER_SPIN_MICROSECONDS)) return;
    pthread_mutex_lock(&node->lock);
    atomic_exchange(&node->leader_asleep, true);
    while (atomic_load(turn) != done) pthread_cond_wait(&node->finished, &node->lock);
    atomic_store(&node->leader_asleep, false);
    pthread_mutex_unlock(&node->lock);
}

/// A share or a node is done; the leader of `node` waits for it. Exchanges and no stores where each side writes its own and then reads the
/// other's variable: they are the same instruction on x86-64, and an emulated AArch64 keeps their order, which it does not of a store.
static void end_turn(pool_node *node, atomic_uint *turn, unsigned done) {
    atomic_exchange(turn, done);
    if (!atomic_load(&node->leader_asleep)) return;
    pthread_mutex_lock(&node->lock);
    pthread_cond_signal(&node->finished);
    pthread_mutex_unlock(&node->lock);
}

// ---- Shares

/// The caller has just written what `arg` points to, so each line of it must come from the caller's cache: better all at once than one
/// after the other. A line of a run that is over, or of anything else, does no harm.
static void fetch_argument(const pool_node *node) {
    const char *arg = atomic_load_explicit(&node->arg, memory_order_relaxed);
    for (int line = 0; line < ARGUMENT_LINES; line++) __builtin_prefetch(arg + (size_t)line * CACHE_LINE_BYTES);
}

static bool claim(atomic_uint *turn, unsigned free_turn) {
    return atomic_compare_exchange_strong_explicit(turn, &free_turn, free_turn + 1, memory_order_acquire, memory_order_relaxed);
}

/// Shares of a node, from its `from`-th on, that nobody has begun: done by the caller. True where the node's first was among them.
static bool take_unbegun(pool_node *node, int32_t from, unsigned free_turn) {
    bool leads = false;
    for (int32_t i = from; i < node->count; i++) {
        pool_worker *late = &node->workers[i];
        if (atomic_load_explicit(&late->turn, memory_order_relaxed) != free_turn || !claim(&late->turn, free_turn)) continue;
        node->fn(atomic_load_explicit(&node->arg, memory_order_relaxed), late->thread, node->threads);
        end_turn(node, &late->turn, free_turn + 2);
        leads |= i == 0;
    }
    return leads;
}

static void wait_for_others(pool_node *node, unsigned free_turn) {
    for (int32_t i = 1; i < node->count; i++) wait_for_turn(node, &node->workers[i].turn, free_turn + 2);
}

void *sk_pool_work(void *argument) {
    pool_worker *self = argument;
    pool_node *home = self->home;
    unsigned seen = 0;
    for (;;) {
        seen = wait_for_call(home, seen);
        if (atomic_load(&home->ending)) return NULL;
        const unsigned free_turn = 2 * (seen - 1);
        fetch_argument(home);
        if (!claim(&self->turn, free_turn)) continue;
        home->fn(atomic_load_explicit(&home->arg, memory_order_relaxed), self->thread, home->threads);
        if (self->thread != home->first) {
            end_turn(home, &self->turn, free_turn + 2);
            continue;
        }
        if (!home->each_on_its_thread) take_unbegun(home, 1, free_turn);
        wait_for_others(home, free_turn);
        atomic_store_explicit(&self->turn, free_turn + 2, memory_order_relaxed);  // read after the node's turn
        end_turn(home->root, &home->turn, free_turn + 2);
    }
}

// ---- Runs

static void call(sk_pool *pool, sk_pool_fn fn, void *arg, bool each_on_its_thread) {
    // The way to other nodes is longest, so they are called first; their lines travel together, and one fence is for all.
    const bool several = pool->nodes > 1;
    for (int32_t k = pool->nodes - 1; k >= 0; k--) {
        pool_node *node = pool->node[k];
        node->fn = fn;
        atomic_store_explicit(&node->arg, arg, memory_order_relaxed);
        node->each_on_its_thread = each_on_its_thread;
        const unsigned calls = atomic_load_explicit(&node->calls, memory_order_relaxed) + 1;
        if (several) atomic_store_explicit(&node->calls, calls, memory_order_release);
        else atomic_exchange(&node->calls, calls);
    }
    if (several) atomic_thread_fence(memory_order_seq_cst);
    for (int32_t k = pool->nodes - 1; k >= 0; k--) sk_pool_wake(pool->node[k]);
}

/// The owner's part of a run: its own share, then those that nobody has begun where it may, then waiting.
static void run(sk_pool *pool, sk_pool_fn fn, void *arg, bool each_on_its_thread) {
    pool_node *root = pool->node[0];
    const unsigned free_turn = 2 * atomic_load_explicit(&root->calls, memory_order_relaxed);
    call(pool, fn, arg, each_on_its_thread);
    fn(arg, 0, pool->threads);
    if (!each_on_its_thread) {
        take_unbegun(root, 1, free_turn);
        for (int32_t k = 1; k < pool->nodes; k++) pool->node[k]->is_owners = take_unbegun(pool->node[k], 0, free_turn);
    }
    wait_for_others(root, free_turn);
    for (int32_t k = 1; k < pool->nodes; k++) {
        pool_node *node = pool->node[k];
        if (node->is_owners) wait_for_others(node, free_turn);
        else wait_for_turn(root, &node->turn, free_turn + 2);
        node->is_owners = false;
    }
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
int32_t sk_pool_nodes(const sk_pool *pool) { return pool->nodes; }

int32_t sk_pool_node_of(const sk_pool *pool, int32_t thread) {
    SK_REQUIRE(thread >= 0 && thread < pool->threads, "no such thread");
    return pool->node_of[thread];
}

// ---- Whose work is taken

work_queue *sk_pool_queues(sk_pool *pool) { return pool->queues; }

int32_t sk_pool_victim(const sk_pool *pool, int32_t thread, int32_t step) {
    SK_REQUIRE(thread >= 0 && thread < pool->threads && step >= 0 && step < pool->threads, "no such thread");
    const pool_node *node = pool->node[pool->node_of[thread]];
    const int32_t place = thread - node->first;
    if (step < node->count) return node->first + (place + step) % node->count;
    // Threads of one node begin at different ones of the others.
    const int32_t others = pool->threads - node->count;
    return (node->first + node->count + (place + step - node->count) % others) % pool->threads;
}

sk_pool_units sk_pool_units_taken(sk_pool *pool) {
    sk_pool_units all = {0};
    for (int32_t i = 0; i < pool->threads; i++) {
        all.own += pool->queues[i].taken.own;
        all.of_node += pool->queues[i].taken.of_node;
        all.of_others += pool->queues[i].taken.of_others;
        pool->queues[i].taken = (sk_pool_units){0};
    }
    return all;
}
