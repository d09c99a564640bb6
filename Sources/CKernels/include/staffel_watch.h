// A thread that keeps a processor awake for another one: no arithmetic, and the pool knows nothing of it.

#ifndef STAFFEL_WATCH_H
#define STAFFEL_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// A processor that has nothing to do halts, and waking it, a virtual one above all, takes longer than what a step between two stages is
/// waiting for. A watch spins there meanwhile, with the policy that gives way to every other thread at once (SCHED_IDLE; where that is refused,
/// niceness 19), for times that its owner names.
typedef struct sk_watch sk_watch;

/// `cpu`: the processor that is kept awake, -1 for wherever the system puts the thread. The thread sleeps until `sk_watch_keep`. Null where a
/// thread or memory cannot be had.
sk_watch *sk_watch_create(int32_t cpu);
/// Ends and joins the thread. Null is allowed.
void sk_watch_destroy(sk_watch *watch);

/// Keeps the processor awake from now on for `nanoseconds` at most. Asks the system for something only where the watch has fallen asleep.
void sk_watch_keep(sk_watch *watch, int64_t nanoseconds);
/// What was awaited has come: the watch sleeps when it next gets the processor, if it is not asked to keep it before.
void sk_watch_rest(sk_watch *watch);

/// How often the thread began to spin after a sleep, and whether it is asleep: for tests.
uint64_t sk_watch_turns(const sk_watch *watch);
bool sk_watch_is_asleep(const sk_watch *watch);

#ifdef __cplusplus
}
#endif

#endif
