// The watch: one number says until when it spins. The owner writes it, the thread reads it; only falling asleep and waking take the lock.

#if defined(__linux__)
#define _GNU_SOURCE
#endif

#include "staffel_watch.h"

#include "processors.h"
#include "spin_pause.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#if defined(__linux__)
#include <sys/resource.h>
#endif

enum {
    // They take a fraction of a microsecond.
    PAUSES_BETWEEN_LOOKS = 4,
    LOWEST_PRIORITY = 19,
};

static const int64_t RESTING = 0;
static const int64_t ENDING = -1;

struct sk_watch {
    // On the clock, in nanoseconds; or one of the words above.
    atomic_llong until;
    atomic_bool is_asleep;
    atomic_ullong turns;
    pthread_mutex_t lock;
    pthread_cond_t called;
    pthread_t thread;
    int32_t cpu;
};

static int64_t nanoseconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/// For `top -H`.
static void name_thread(void) {
#if defined(__linux__)
    pthread_setname_np(pthread_self(), "watch");
#endif
}

/// Whether every other thread takes the processor from this one when it wakes.
static bool give_way_to_all(void) {
#if defined(__linux__)
    const struct sched_param none = {0};
    // Linux takes 0 for the calling thread, in both calls.
    if (sched_setscheduler(0, SCHED_IDLE, &none) == 0) return true;
    (void)setpriority(PRIO_PROCESS, 0, LOWEST_PRIORITY);
#endif
    return false;
}

/// Returns when there is something to watch for again, or the end has come.
static void sleep_until_called(sk_watch *watch) {
    pthread_mutex_lock(&watch->lock);
    // Sequentially consistent on both sides: either the owner sees the sleeper or the sleeper sees the new time.
    atomic_store(&watch->is_asleep, true);
    int64_t until;
    while ((until = atomic_load(&watch->until)) != ENDING && until <= nanoseconds_now()) pthread_cond_wait(&watch->called, &watch->lock);
    atomic_store(&watch->is_asleep, false);
    pthread_mutex_unlock(&watch->lock);
}

static void *keep_watch(void *argument) {
    sk_watch *watch = argument;
    name_thread();
    sk_cpu_pin(watch->cpu);
    const bool is_idle_class = give_way_to_all();
    for (;;) {
        sleep_until_called(watch);
        atomic_fetch_add_explicit(&watch->turns, 1, memory_order_relaxed);
        int64_t until;
        while ((until = atomic_load_explicit(&watch->until, memory_order_acquire)) > nanoseconds_now()) {
            for (int i = 0; i < PAUSES_BETWEEN_LOOKS; i++) sk_spin_pause();
            // Not where it is not needed: whoever wakes a thread for this processor then finds its queue locked by a yield more often than not.
            if (!is_idle_class) sched_yield();
        }
        if (until == ENDING) return NULL;
    }
}

static void say(sk_watch *watch, int64_t until) {
    atomic_store(&watch->until, until);
    if (!atomic_load(&watch->is_asleep)) return;
    pthread_mutex_lock(&watch->lock);
    pthread_cond_signal(&watch->called);
    pthread_mutex_unlock(&watch->lock);
}

sk_watch *sk_watch_create(int32_t cpu) {
    sk_watch *watch = calloc(1, sizeof *watch);
    if (watch == NULL) return NULL;
    watch->cpu = cpu;
    pthread_mutex_init(&watch->lock, NULL);
    pthread_cond_init(&watch->called, NULL);
    if (pthread_create(&watch->thread, NULL, keep_watch, watch) == 0) return watch;
    pthread_cond_destroy(&watch->called);
    pthread_mutex_destroy(&watch->lock);
    free(watch);
    return NULL;
}

void sk_watch_destroy(sk_watch *watch) {
    if (watch == NULL) return;
    say(watch, ENDING);
    pthread_join(watch->thread, NULL);
    pthread_cond_destroy(&watch->called);
    pthread_mutex_destroy(&watch->lock);
    free(watch);
}

void sk_watch_keep(sk_watch *watch, int64_t nanoseconds) {
    if (nanoseconds > 0) say(watch, nanoseconds_now() + nanoseconds);
}

void sk_watch_rest(sk_watch *watch) { atomic_store_explicit(&watch->until, RESTING, memory_order_release); }

uint64_t sk_watch_turns(const sk_watch *watch) { return atomic_load_explicit(&watch->turns, memory_order_relaxed); }
bool sk_watch_is_asleep(const sk_watch *watch) { return atomic_load(&watch->is_asleep); }
