// What a pool is made of. Each memory node has a sub-pool of its own: a line that its workers wait on, a line for each share, a place to
// sleep, all in memory of that node. Nodes meet only where their leaders do. pool.c runs it, pool_life.c makes and ends it.

#ifndef SK_POOL_NODES_H
#define SK_POOL_NODES_H

#include "pool.h"

#include <pthread.h>

typedef struct pool_node pool_node;

typedef struct pool_worker {
    _Alignas(CACHE_LINE_BYTES) atomic_uint turn;  // of its share
    pool_node *home;
    pthread_t handle;
    int32_t thread;
    int32_t cpu;
} pool_worker;

struct pool_node {
    // One line: what its workers read when a run begins. `calls` counts runs; the newest one's number is calls - 1.
    _Alignas(CACHE_LINE_BYTES) atomic_uint calls;
    int32_t threads;  // of the whole pool
    sk_pool_fn fn;
    _Atomic(void *) arg;  // atomic because a late worker may look at it while the next run is written
    pool_node *root;  // node 0
    int32_t first, count;  // its threads
    bool each_on_its_thread;
    atomic_bool ending;

    // One line that the owner reads: 2n + 2 when all shares of this node are done in run n. Not used in node 0, whose leader is the owner.
    _Alignas(CACHE_LINE_BYTES) atomic_uint turn;
    bool is_owners;  // in this run the owner is the leader of this node; only it reads and writes this

    // Written only by who goes to sleep, so the line stays shared while all are awake.
    _Alignas(CACHE_LINE_BYTES) atomic_int workers_asleep;
    atomic_bool leader_asleep;
    pthread_mutex_t lock;
    pthread_cond_t called;
    pthread_cond_t finished;

    pool_worker workers[];  // [count]; the first one's is the leader's. In node 0 that is the owner, and has no thread
};

struct sk_pool {
    int32_t threads, nodes;
    pool_node **node;      // [nodes]
    int32_t *node_of;      // [threads]
    work_queue *queues;    // [threads]
    struct cpu_places *owner;  // where the owner might run before it was pinned; null: it was not
};

/// The life of each thread but the owner. argument: pool_worker
void *sk_pool_work(void *argument);
/// Wakes the workers of a node that sleep, after `calls` has grown.
void sk_pool_wake(pool_node *node);

#endif
