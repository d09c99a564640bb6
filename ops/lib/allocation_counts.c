// Counts what each thread of a program asks of the heap, for a benchmark that looks from outside. Preloaded; ALLOCATION_COUNTS names a file of
// zeros that the benchmark has made: pairs of thread id and count, claimed one after the other by threads that allocate.

#include <fcntl.h>
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
};

// The first pair holds how many of the others are taken.
struct table {
    atomic_llong taken;
    atomic_llong unused;
    struct slot slots[SLOTS];
};

static _Atomic(struct table *) table;
static _Thread_local struct slot *mine __attribute__((tls_model("initial-exec")));

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
    atomic_fetch_add_explicit(&mine->count, 1, memory_order_relaxed);
}

#include "../../Tests/AllocationCounter/heap_hooks.h"
