import ClusterCore

/// When a stage that has nothing to do will get its next step, from how long it waited for those before.
///
/// One stream alone has a step on its way all the time, so each stage waits as long for it as the others take, and a processor that sleeps in the
/// meantime takes some 30 µs to wake, in a virtual machine more; so does every other one on the step's way. A socket thread that looks for the
/// step all through a short window saves that. Steps that come irregularly, or seldom, are not waited for so.
struct ArrivalForecast: Sendable {
    /// The window's begin before the instant that is expected: the coordinator's turn lies in it, when it shares the processor.
    static let leadNanoseconds: UInt64 = 250_000
    static let trailNanoseconds: UInt64 = 150_000
    /// Waits vary by less than this, on average, or there is no window.
    static let deviationMaxNanoseconds = 150_000.0
    /// Whoever waits longer may as well sleep.
    static let waitMaxNanoseconds: UInt64 = 50_000_000
    static let waitsMin = 8
    /// The weight of the newest wait.
    private static let share = 1.0 / 8

    private var idleSince: Instant?
    private var waits = 0
    private var mean = 0.0
    private var deviation = 0.0

    /// The stage has computed all it had.
    mutating func becameIdle(at now: Instant) { idleSince = now }

    /// A step came for an idle stage.
    mutating func stepCame(at now: Instant) {
        guard let since = idleSince else { return }
        idleSince = nil
        let wait = now.nanoseconds(since: since)
        // A pause of the streams, and not their pace.
        guard wait <= Self.waitMaxNanoseconds else { return waits = 0 }
        let difference = Double(wait) - mean
        if waits == 0 {
            (mean, deviation) = (Double(wait), 0)
        } else {
            mean += difference * Self.share
            deviation += (abs(difference) - deviation) * Self.share
        }
        waits += 1
    }

    /// When to look for the next step without sleeping; `nil` while none is expected.
    var window: Range<Instant>? {
        guard let since = idleSince, waits >= Self.waitsMin, deviation <= Self.deviationMaxNanoseconds else { return nil }
        let expected = since.nanoseconds + UInt64(mean)
        return Instant(nanoseconds: max(since.nanoseconds, expected - min(expected, Self.leadNanoseconds)))
            ..< Instant(nanoseconds: expected + Self.trailNanoseconds)
    }
}
