import ClusterCore
import Glibc

/// Lets libzmq's thread, where it has to share a processor with this one, send at once what it was just given, and not when this thread sleeps.
///
/// Where a stage computes on the same processor it would get a whole slice of time instead, and whoever waits for what this thread does next
/// would wait for that; so after a turn that took long there is none for a while.
struct GivingWay {
    static let longNanoseconds: UInt64 = 150_000
    /// Turns left out after a long one.
    static let leftOut = 64

    private var toLeaveOut = 0

    mutating func giveWay() {
        guard toLeaveOut == 0 else { return toLeaveOut -= 1 }
        let before = MonotonicClock.now
        sched_yield()
        if MonotonicClock.now.nanoseconds(since: before) > Self.longNanoseconds { toLeaveOut = Self.leftOut }
    }
}
