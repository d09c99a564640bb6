#ifndef STAFFEL_FILE_H
#define STAFFEL_FILE_H

// What Linux does with files beyond POSIX, which its headers show to GNU programs only. Each call gives 0 or the number of an error; elsewhere than
// on Linux, ENOSYS.

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// Gives the file `bytes` bytes, and disk for all of them; those that were never written read as zeros. ENOSPC: the disk has not so much.
/// EOPNOTSUPP: this file system gives disk with the writing only.
int sk_file_reserve(int descriptor, int64_t bytes);

/// Begins to write what of this range waits in the system's cache, and does not wait for it unless the disk's queue is full.
int sk_file_begin_writing(int descriptor, int64_t offset, int64_t bytes);

/// Waits until what of this range was being written is on its way out of the cache. No promise that a disk keeps it when the power fails: that is
/// fsync's.
int sk_file_finish_writing(int descriptor, int64_t offset, int64_t bytes);

#ifdef __cplusplus
}
#endif

#endif
