// Pinning of threads, by Linux's own calls.

#if defined(__linux__)
#define _GNU_SOURCE
#include <sched.h>
#endif

#include "processors.h"
#include "staffel_kernels.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#if defined(__linux__)

struct cpu_places {
    pthread_t thread;
    cpu_set_t set;
};

cpu_places *sk_cpu_places(void) {
    cpu_places *places = malloc(sizeof *places);
    if (places == NULL) return NULL;
    places->thread = pthread_self();
    if (pthread_getaffinity_np(places->thread, sizeof places->set, &places->set) == 0) return places;
    free(places);
    return NULL;
}

void sk_cpu_return(const cpu_places *places) {
    if (places != NULL && pthread_equal(places->thread, pthread_self()))
        pthread_setaffinity_np(places->thread, sizeof places->set, &places->set);
}

void sk_cpu_pin(int32_t cpu) {
    if (cpu < 0 || cpu >= CPU_SETSIZE) return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

int32_t sk_processors_allowed(int32_t *cpus, int32_t count) {
    cpu_set_t set;
    int32_t found = 0;
    if (pthread_getaffinity_np(pthread_self(), sizeof set, &set) != 0) return 0;
    for (int32_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &set)) continue;
        if (found < count) cpus[found] = cpu;
        found++;
    }
    return found;
}

int32_t sk_processor_now(void) { return sched_getcpu(); }

void sk_processors_as_first_thread(void) {
    cpu_set_t set;
    if (sched_getaffinity(getpid(), sizeof set, &set) == 0) pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

#else

cpu_places *sk_cpu_places(void) { return NULL; }
void sk_cpu_return(const cpu_places *places) { (void)places; }
void sk_cpu_pin(int32_t cpu) { (void)cpu; }
int32_t sk_processor_now(void) { return -1; }
void sk_processors_as_first_thread(void) {}

int32_t sk_processors_allowed(int32_t *cpus, int32_t count) {
    (void)cpus;
    (void)count;
    return 0;
}

#endif
