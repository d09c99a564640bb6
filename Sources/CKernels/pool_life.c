// How a pool begins and ends.

#if defined(__linux__)
#define _GNU_SOURCE
#endif

#include "pool_nodes.h"
#include "processors.h"
#include "require.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { THREADS_MAX = 1024 };

static size_t node_bytes(int32_t threads) { return sizeof(pool_node) + (size_t)threads * sizeof(pool_worker); }

/// Of fresh pages, which lie on the memory node of who writes to them first.
static pool_node *make_node(int32_t first, int32_t count, int32_t threads, const int32_t *cpus) {
    void *memory = mmap(NULL, node_bytes(count), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return NULL;
    memset(memory, 0, node_bytes(count));
    pool_node *node = memory;
    node->first = first;
    node->count = count;
    node->threads = threads;
    for (int32_t i = 0; i < count; i++) {
        node->workers[i].home = node;
        node->workers[i].thread = first + i;
        node->workers[i].cpu = cpus == NULL ? -1 : cpus[first + i];
    }
    pthread_mutex_init(&node->lock, NULL);
    pthread_cond_init(&node->called, NULL);
    pthread_cond_init(&node->finished, NULL);
    return node;
}

static void free_node(pool_node *node) {
    pthread_cond_destroy(&node->finished);
    pthread_cond_destroy(&node->called);
    pthread_mutex_destroy(&node->lock);
    munmap(node, node_bytes(node->count));
}

static void free_pool(sk_pool *pool) {
    for (int32_t k = 0; k < pool->nodes; k++)
        if (pool->node[k] != NULL) free_node(pool->node[k]);
    free(pool->owner);
    free(pool->queues);
    free(pool->node_of);
    free(pool->node);
    free(pool);
}

/// All of a pool but its threads; null when memory is short.
static sk_pool *make_pool(int32_t nodes, const int32_t *counts, int32_t threads, const int32_t *cpus) {
    sk_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL) return NULL;
    pool->threads = threads;
    pool->node = calloc((size_t)nodes, sizeof *pool->node);
    pool->node_of = calloc((size_t)threads, sizeof *pool->node_of);
    pool->queues = aligned_alloc(CACHE_LINE_BYTES, (size_t)threads * sizeof *pool->queues);
    bool complete = pool->node != NULL && pool->node_of != NULL && pool->queues != NULL;
    if (complete) memset(pool->queues, 0, (size_t)threads * sizeof *pool->queues);
    for (int32_t first = 0; complete && pool->nodes < nodes; first += counts[pool->nodes++]) {
        const int32_t k = pool->nodes;
        // The caller stands for a moment where the node's threads will be, and so writes to memory there.
        if (nodes > 1 && cpus != NULL) sk_cpu_pin(cpus[first]);
        pool->node[k] = make_node(first, counts[k], threads, cpus);
        if (pool->node[k] == NULL) {
            complete = false;
            break;
        }
        pool->node[k]->root = pool->node[0];
        for (int32_t i = 0; i < counts[k]; i++) pool->node_of[first + i] = k;
    }
    if (complete) return pool;
    free_pool(pool);
    return NULL;
}

static void *begin(void *argument) {
    pool_worker *self = argument;
    sk_cpu_pin(self->cpu);
    return sk_pool_work(self);
}

/// Ends and joins threads 1 ..< started.
static void end_threads(sk_pool *pool, int32_t started) {
    for (int32_t k = 0; k < pool->nodes; k++) {
        atomic_store(&pool->node[k]->ending, true);
        atomic_fetch_add(&pool->node[k]->calls, 1);
        sk_pool_wake(pool->node[k]);
    }
    for (int32_t i = 1; i < started; i++) {
        pool_node *node = pool->node[pool->node_of[i]];
        pthread_join(node->workers[i - node->first].handle, NULL);
    }
}

sk_pool *sk_pool_create_nodes(int32_t nodes, const int32_t *counts, const int32_t *cpus) {
    SK_REQUIRE(nodes >= 1 && nodes <= THREADS_MAX, "nodes must be 1...1024");
    int32_t threads = 0;
    for (int32_t k = 0; k < nodes; k++) {
        SK_REQUIRE(counts[k] >= 1 && counts[k] <= THREADS_MAX - threads, "threads must be 1...1024, at least one a node");
        threads += counts[k];
    }
    cpu_places *places = sk_cpu_places();
    sk_pool *pool = make_pool(nodes, counts, threads, cpus);
    // Threads start on the processors of the one that starts them.
    sk_cpu_return(places);
    if (pool == NULL) {
        free(places);
        return NULL;
    }
    pool->owner = places;
    for (int32_t i = 1; i < threads; i++) {
        pool_node *node = pool->node[pool->node_of[i]];
        pool_worker *worker = &node->workers[i - node->first];
        if (pthread_create(&worker->handle, NULL, begin, worker) == 0) continue;
        end_threads(pool, i);
        free_pool(pool);
        return NULL;
    }
    if (cpus != NULL) sk_cpu_pin(cpus[0]);
    return pool;
}

sk_pool *sk_pool_create(int32_t threads, const int32_t *cpus) { return sk_pool_create_nodes(1, &threads, cpus); }

void sk_pool_destroy(sk_pool *pool) {
    if (pool == NULL) return;
    end_threads(pool, pool->threads);
    // Threads that the owner starts later would otherwise inherit its one processor.
    if (pool->node[0]->workers[0].cpu >= 0) sk_cpu_return(pool->owner);
    free_pool(pool);
}
