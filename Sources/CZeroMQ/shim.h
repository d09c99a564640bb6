#pragma once
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

// glibc shows this call to C that asks for GNU's extensions, and Swift can't ask.
extern int ppoll(struct pollfd *descriptors, nfds_t count, const struct timespec *wait, const sigset_t *signals);

/// poll(2), to the nanosecond.
static inline int poll_nanoseconds(struct pollfd *descriptors, nfds_t count, int64_t nanoseconds) {
    const struct timespec wait = {.tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000};
    return ppoll(descriptors, count, &wait, NULL);
}
