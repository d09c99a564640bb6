// Counts what a thread asks of the heap, for tests that promise to ask for nothing. Links its own malloc in front of glibc's.

#ifndef ALLOCATION_COUNTER_H
#define ALLOCATION_COUNTER_H

#include <stdint.h>

/// Calls of malloc, calloc, realloc and their aligned kin on this thread, since it began.
int64_t allocations_of_this_thread(void);
/// The same on all threads of the process.
int64_t allocations_of_all_threads(void);

#endif
