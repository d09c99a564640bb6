import ClusterCore

/// A machine's monotonic clock: it starts anywhere, runs a little too fast or too slow, stands while the machine is suspended, and may leap
/// ahead; it never goes back.
struct LocalClock {
    private var begin: Agenda.Time
    private var origin: UInt64
    /// Local nanoseconds for a million true ones.
    private var rate: UInt64

    init(origin: UInt64, rate: UInt64 = 1_000_000, at time: Agenda.Time) {
        begin = time
        self.origin = origin
        self.rate = rate
    }

    func now(_ time: Agenda.Time) -> Instant {
        let (high, low) = (time > begin ? time - begin : 0).multipliedFullWidth(by: rate)
        return Instant(nanoseconds: origin + UInt64(1_000_000).dividingFullWidth((high, low)).quotient)
    }

    /// The first time at which the clock shows `instant` or more; `time` when it does already.
    func time(of instant: Instant, notBefore time: Agenda.Time) -> Agenda.Time {
        guard instant.nanoseconds > now(time).nanoseconds else { return time }
        let ahead = instant.nanoseconds - origin
        // What is so far away is as good as never.
        guard ahead < 1 << 62 else { return .max }
        let (high, low) = ahead.multipliedFullWidth(by: UInt64(1_000_000))
        return begin + rate.dividingFullWidth((high, low)).quotient + 1
    }

    mutating func run(at rate: UInt64, from time: Agenda.Time) {
        origin = now(time).nanoseconds
        begin = time
        self.rate = rate
    }

    mutating func leap(nanoseconds: UInt64) { origin += nanoseconds }

    /// It stands from `time` on for so long: its user sees no time pass.
    mutating func stand(nanoseconds: UInt64, from time: Agenda.Time) {
        origin = now(time).nanoseconds
        begin = time + nanoseconds
    }
}
