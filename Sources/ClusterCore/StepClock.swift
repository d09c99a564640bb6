/// How long steps take, by their number of rows, and so when one takes too long whatever the reason.
///
/// A step's time counts from when the pipeline could begin to give its result: its own sending or the result before it, whichever is
/// later. What is known better, because workers say how far they are, is judged by `StepPlace` and `StepPatience`.
package struct StepClock: Hashable, Sendable {
    private let floorMs: UInt64
    private let unmeasuredMs: UInt64
    private let factor: UInt64
    private var times = LongestTimes()
    private var lastResult = Instant(nanoseconds: 0)

    package init(floorMs: UInt64, unmeasuredMs: UInt64, factor: UInt64) {
        self.floorMs = floorMs
        self.unmeasuredMs = unmeasuredMs
        self.factor = factor
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
        guard let patience = times.milliseconds(rows: step.rowCount, times: factor) else {
            return begin(of: step).advanced(milliseconds: max(floorMs, unmeasuredMs))
        }
        return begin(of: step).advanced(milliseconds: max(floorMs, patience))
    }

    /// From when on `step`, the oldest in flight, is so late that a person should hear of it.
    ///
    /// - Parameter floorMs: but not before.
    package func isLate(_ step: StepInFlight, floorMs: UInt64, at now: Instant) -> Bool {
        guard let patience = times.milliseconds(rows: step.rowCount, times: factor) else { return false }
        return begin(of: step).advanced(milliseconds: max(floorMs, patience)) <= now
    }

    private func begin(of step: StepInFlight) -> Instant { max(step.sentAt, lastResult) }
}
