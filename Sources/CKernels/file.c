#ifdef __linux__
    #define _GNU_SOURCE
#endif
#include "staffel_file.h"

#include <errno.h>
#include <fcntl.h>

#ifdef __linux__

int sk_file_reserve(int descriptor, int64_t bytes) {
    while (fallocate(descriptor, 0, 0, bytes) != 0) {
        if (errno != EINTR) return errno;
    }
    return 0;
}

int sk_file_begin_writing(int descriptor, int64_t offset, int64_t bytes) {
    return sync_file_range(descriptor, offset, bytes, SYNC_FILE_RANGE_WRITE) == 0 ? 0 : errno;
}

int sk_file_finish_writing(int descriptor, int64_t offset, int64_t bytes) {
    unsigned flags = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    return sync_file_range(descriptor, offset, bytes, flags) == 0 ? 0 : errno;
}

#else

int sk_file_reserve(int descriptor, int64_t bytes) { return ENOSYS; }
int sk_file_begin_writing(int descriptor, int64_t offset, int64_t bytes) { return ENOSYS; }
int sk_file_finish_writing(int descriptor, int64_t offset, int64_t bytes) { return ENOSYS; }

#endif
