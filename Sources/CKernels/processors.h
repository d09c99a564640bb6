// Which processors a thread may run on. On systems that have no such thing all of this does nothing.

#ifndef SK_PROCESSORS_H
#define SK_PROCESSORS_H

#include <stdint.h>

/// The processors that a thread may run on.
typedef struct cpu_places cpu_places;

/// The calling thread's, null where the system or memory does not give them. To be freed with `free`.
cpu_places *sk_cpu_places(void);
/// Lets the calling thread run there, where it is the thread that asked for them. Null is allowed.
void sk_cpu_return(const cpu_places *places);
/// -1: no change. A processor that is offline or outside the container's set leaves the thread where it was: slower, never wrong.
void sk_cpu_pin(int32_t cpu);

#endif
