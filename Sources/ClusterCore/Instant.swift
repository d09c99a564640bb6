/// A point on one process's monotonic clock, in nanoseconds since an arbitrary origin.
///
/// Machines never read a clock: time is an argument of every `handle`, so a simulator can own it.
package struct Instant: Hashable, Comparable, Sendable {
    package var nanoseconds: UInt64

    package init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

    package static func < (a: Instant, b: Instant) -> Bool { a.nanoseconds < b.nanoseconds }

    /// The instant `milliseconds` later; saturates instead of wrapping.
    package func advanced(milliseconds: UInt64) -> Instant {
        let (product, overflowed) = milliseconds.multipliedReportingOverflow(by: 1_000_000)
        let (sum, carried) = nanoseconds.addingReportingOverflow(overflowed ? .max : product)
        return Instant(nanoseconds: carried ? .max : sum)
    }

    /// Nanoseconds from `earlier` to here; zero when `earlier` is later.
    package func nanoseconds(since earlier: Instant) -> UInt64 {
        nanoseconds > earlier.nanoseconds ? nanoseconds - earlier.nanoseconds : 0
    }

    /// Whole milliseconds from `earlier` to here; zero when `earlier` is later.
    package func milliseconds(since earlier: Instant) -> UInt64 { nanoseconds(since: earlier) / 1_000_000 }
}
