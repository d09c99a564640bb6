/// How long steps take, by their number of rows, and so when one takes too long whatever the reason.
///
/// A step's time counts from when the pipeline could begin to give its result: its own sending or the result before it, whichever is
/// later. What is known better, because workers say how far they are, is judged by `StepPlace` and `StepPatience`.
package struct StepClock: Hashable, Sendable {
    /// A day: no prediction is worth more, and no product with it overflows.
    private static let predictedMsMax = 86_400_000.0

    private let floorMs: UInt64
    private let unmeasuredMs: UInt64
    private let factor: UInt64
    private var times = LongestTimes()
    private var lastResult = Instant(nanoseconds: 0)
    /// Of a step through the present stages, where a prediction knows better than what was measured of others; 0 for none.
    private(set) var predictedMs: UInt64 = 0

    package init(floorMs: UInt64, unmeasuredMs: UInt64, factor: UInt64) {
        self.floorMs = floorMs
        self.unmeasuredMs = unmeasuredMs
        self.factor = factor
    }

    /// Stages that stream their weights from disk may take hundreds of times as long as the ones before them: nobody is late before a step has taken
    /// as long as that is predicted to.
    package mutating func expect(seconds: Double) {
        predictedMs = seconds > 0 ? UInt64(min(seconds * 1e3, Self.predictedMsMax)) : 0
    }

    package mutating func finished(_ step: StepInFlight, at now: Instant) {
        times.note(rows: step.rowCount, nanoseconds: now.nanoseconds(since: max(step.sentAt, lastResult)))
        lastResult = now
    }

    /// When `step`, the oldest in flight, is overdue.
    ///
    /// - Parameter isGettingOn: its worker is known to compute it. That takes what it takes, but not for ever.
    package func deadline(of step: StepInFlight, isGettingOn: Bool = false) -> Instant {
        let floorMs = isGettingOn ? max(floorMs, unmeasuredMs) : floorMs
        guard let patience = patienceMs(with: step) else {
            return begin(of: step).advanced(milliseconds: max(floorMs, unmeasuredMs))
        }
        return begin(of: step).advanced(milliseconds: max(floorMs, patience))
    }

    /// From when on `step`, the oldest in flight, is so late that a person should hear of it.
    ///
    /// - Parameter floorMs: but not before.
    package func isLate(_ step: StepInFlight, floorMs: UInt64, at now: Instant) -> Bool {
        guard let patience = patienceMs(with: step) else { return false }
        return begin(of: step).advanced(milliseconds: max(floorMs, patience)) <= now
    }

    /// `nil` where nothing like it was measured and nothing is predicted.
    private func patienceMs(with step: StepInFlight) -> UInt64? {
        let measured = times.milliseconds(rows: step.rowCount, times: factor)
        return predictedMs > 0 ? max(measured ?? unmeasuredMs, predictedMs * factor) : measured
    }

    private func begin(of step: StepInFlight) -> Instant { max(step.sentAt, lastResult) }
}
