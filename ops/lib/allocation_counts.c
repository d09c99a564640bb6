// Counts what each thread of a program asks of the heap, for a benchmark that looks from outside. Preloaded; ALLOCATION_COUNTS names a file of
// zeros that the benchmark has made: threes of thread id, count and turns' count, claimed one after the other by threads that allocate.
//
// What a thread does with a lock that it took because it was free, and would not have waited for, is a turn in another thread's work: a stage
// thread's turn at the worker's sockets (Sources/Node/WorkerTurns.swift). So is what it does when it has come back from its sleep there and has
// waited for the same lock. That is counted apart.

#define _GNU_SOURCE

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SLOTS = 4095 };

struct slot {
    atomic_llong thread;
    atomic_llong count;
    atomic_llong in_turns;
};

// The first three hold how many of the others are taken.
struct table {
    atomic_llong taken;
    atomic_llong unused[2];
    struct slot slots[SLOTS];
};

static _Atomic(struct table *) table;
static _Thread_local struct slot *mine __attribute__((tls_model("initial-exec")));
static _Thread_local pthread_mutex_t *turn __attribute__((tls_model("initial-exec")));
static _Thread_local pthread_mutex_t *turns_lock __attribute__((tls_model("initial-exec")));

__attribute__((constructor)) static void open_table(void) {
    const char *path = getenv("ALLOCATION_COUNTS");
    int file = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return;
    void *memory = mmap(NULL, sizeof(struct table), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (memory != MAP_FAILED) atomic_store(&table, memory);
}

static void count(void) {
    struct table *all = atomic_load_explicit(&table, memory_order_acquire);
    if (all == NULL) return;
    if (mine == NULL) {
        long long index = atomic_fetch_add(&all->taken, 1);
        if (index >= SLOTS) return;
        mine = &all->slots[index];
        atomic_store(&mine->thread, syscall(SYS_gettid));
    }
    atomic_fetch_add_explicit(turn == NULL ? &mine->count : &mine->in_turns, 1, memory_order_relaxed);
}

typedef int mutex_call(pthread_mutex_t *);

static mutex_call *glibc(_Atomic(mutex_call *) *known, const char *name) {
    mutex_call *call = atomic_load_explicit(known, memory_order_relaxed);
    if (call == NULL) atomic_store(known, call = (mutex_call *)dlsym(RTLD_NEXT, name));
    return call;
}

int pthread_mutex_trylock(pthread_mutex_t *lock) {
    static _Atomic(mutex_call *) known;
    int failed = glibc(&known, "pthread_mutex_trylock")(lock);
    if (!failed && turn == NULL) turn = turns_lock = lock;
    return failed;
}

int pthread_mutex_lock(pthread_mutex_t *lock) {
    static _Atomic(mutex_call *) known;
    int failed = glibc(&known, "pthread_mutex_lock")(lock);
    if (!failed && lock == turns_lock) turn = lock;
    return failed;
}

int pthread_mutex_unlock(pthread_mutex_t *lock) {
    static _Atomic(mutex_call *) known;
    if (turn == lock) turn = NULL;
    return glibc(&known, "pthread_mutex_unlock")(lock);
}

#include "../../Tests/AllocationCounter/heap_hooks.h"
