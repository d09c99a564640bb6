import CZeroMQ
import Glibc

/// Wakes one thread at a moment that others set, or at once. Setting it anew forgets the moment before, and that it had come.
package final class Alarm: Sendable {
    private let descriptor: Int32

    package init() throws(ZeroMQError) {
        descriptor = timerfd_create(CLOCK_MONOTONIC, Int32(TFD_CLOEXEC | TFD_NONBLOCK))
        guard descriptor >= 0 else { throw ZeroMQError(errorNumber: errno, "making a timer") }
    }

    /// May be called from any thread.
    package func set(afterNanoseconds nanoseconds: Int64) {
        precondition(nanoseconds > 0, "nothing after now would end the alarm")
        var time = itimerspec()
        time.it_value = timespec(tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
        timerfd_settime(descriptor, 0, &time, nil)
    }

    /// At once. May be called from any thread.
    package func ring() { set(afterNanoseconds: 1) }

    /// Whether the moment came before `milliseconds` had passed. Only one thread waits.
    package func wait(milliseconds: Int) -> Bool {
        precondition(milliseconds >= 0, "no wait without a deadline")
        var item = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        // Ending early for a signal is as good as a deadline: the caller's loop comes round again.
        _ = poll(&item, 1, Int32(clamping: milliseconds))
        var moments: UInt64 = 0
        return read(descriptor, &moments, 8) == 8
    }

    deinit { close(descriptor) }
}
