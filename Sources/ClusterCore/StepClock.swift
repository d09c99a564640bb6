/// How long steps take, by their number of rows, and so when one is overdue.
///
/// A step's time counts from when the pipeline could begin to give its result: its own sending or the result before it, whichever is
/// later. Times are kept in classes of row counts (powers of two), because a step of 256 rows takes far longer than one of 1.
package struct StepClock: Hashable, Sendable {
    private let floorMs: UInt64
    private let linkFloorMs: UInt64
    private let unmeasuredMs: UInt64
    private let factor: UInt64
    /// By class: the longest of late, forgotten by an eighth with each shorter one.
    private var longest: [UInt64] = []
    private var lastResult = Instant(nanoseconds: 0)
    /// Of a step through the present stages, where a prediction knows better than what was measured of others; 0 for none.
    private var predictedNanoseconds: UInt64 = 0

    package init(floorMs: UInt64, linkFloorMs: UInt64 = .max, unmeasuredMs: UInt64, factor: UInt64) {
        self.floorMs = floorMs
        self.linkFloorMs = min(linkFloorMs, floorMs)
        self.unmeasuredMs = unmeasuredMs
        self.factor = factor
    }

    /// Stages that stream their weights from disk may take hundreds of times as long as the ones before them: nobody is late before a step has taken
    /// as long as that is predicted to.
    package mutating func expect(seconds: Double) {
        predictedNanoseconds = seconds > 0 ? UInt64(min(seconds * 1e9, 1e18)) : 0
    }

    package mutating func finished(_ step: StepInFlight, at now: Instant) {
        let taken = now.nanoseconds(since: max(step.sentAt, lastResult))
        lastResult = now
        let index = Self.rowClass(step.rowCount)
        while longest.count <= index { longest.append(0) }
        longest[index] = max(taken, longest[index] - longest[index] / 8)
    }

    /// When `step`, the oldest in flight, is overdue.
    ///
    /// - Parameter isLost: whether it is known not to be computed anywhere.
    package func deadline(of step: StepInFlight, isLost: Bool = false) -> Instant {
        let floorMs = isLost ? linkFloorMs : floorMs
        let begin = max(step.sentAt, lastResult)
        let known = expectedNanoseconds(rows: step.rowCount)
        // A step that nobody has is not for want of time.
        let (patience, overflowed) = max(known ?? 0, isLost ? 0 : predictedNanoseconds).multipliedReportingOverflow(by: factor)
        let atLeastMs = known == nil ? max(floorMs, unmeasuredMs) : floorMs
        return begin.advanced(milliseconds: max(atLeastMs, overflowed ? .max : patience / 1_000_000))
    }

    /// From its own class, else scaled up from the next smaller one, else as long as the next larger one. `nil` before any was measured.
    private func expectedNanoseconds(rows: Int) -> UInt64? {
        let index = Self.rowClass(rows)
        for smaller in stride(from: min(index, longest.count - 1), through: 0, by: -1) where longest[smaller] > 0 {
            let (scaled, overflowed) = longest[smaller].multipliedReportingOverflow(by: 1 << UInt64(index - smaller))
            return overflowed ? .max : scaled
        }
        return longest.dropFirst(index).first { $0 > 0 }
    }

    private static func rowClass(_ rows: Int) -> Int { Int.bitWidth - max(1, rows).leadingZeroBitCount - 1 }
}
