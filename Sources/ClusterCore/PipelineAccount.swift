/// Where the steps of one pipeline spend their time: what each step adds costs O(stages), and a report sums up a window of the last seconds.
///
/// The window is a ring of slices of a second. Compute and idle time are laid into the slices in which they passed (as `StepTimeline` places
/// them), so that a long step or a long silence weighs where it was; everything else counts when the result comes.
package struct PipelineAccount: Hashable, Sendable {
    package static let windowSeconds = 10
    private static let sliceNanoseconds: UInt64 = 1_000_000_000
    /// Steps have at most 512 rows: 2^0, 2^1, … 2^9.
    private static let rowClasses = 10

    private struct Slice: Hashable, Sendable {
        /// Which second of the clock it holds.
        var second = none
        static let none = UInt64.max
        var steps: UInt64 = 0
        var rows: UInt64 = 0
        var prefillRows: UInt64 = 0
        var tokens: UInt64 = 0
        var roundTripNanoseconds: UInt64 = 0
        var wireNanoseconds: UInt64 = 0
        var overhead = DurationHistogram()
        var stages: [StageSums] = []

        mutating func clear(second: UInt64) {
            self.second = second
            (steps, rows, prefillRows, tokens, roundTripNanoseconds, wireNanoseconds) = (0, 0, 0, 0, 0, 0)
            overhead.clear()
            for index in stages.indices { stages[index] = StageSums() }
        }
    }

    private var plan: [StagePlan] = []
    /// Bytes of a row between two stages.
    private var rowBytes: UInt64 = 0
    private var beganAt = Instant(nanoseconds: 0)
    private var lastReturn = Instant(nanoseconds: 0)
    private var slices = [Slice](repeating: Slice(), count: windowSeconds)
    private var totals: [StageSums] = []
    // Since the coordinator's start.
    private var stepsByRows = [UInt64](repeating: 0, count: rowClasses)
    private var rows: UInt64 = 0
    private var overhead = DurationHistogram()
    private var wireNanoseconds: UInt64 = 0

    package init() {}

    /// An epoch serves: the window and the stages' sums begin anew.
    package mutating func begin(_ stages: [StagePlan], rowBytes: Int, at now: Instant) {
        plan = stages
        self.rowBytes = UInt64(rowBytes)
        (beganAt, lastReturn) = (now, now)
        totals = [StageSums](repeating: StageSums(), count: stages.count)
        for index in slices.indices {
            slices[index].clear(second: Slice.none)
            slices[index].stages = totals
        }
    }

    /// The epoch is over; what counts since the coordinator's start stays.
    package mutating func end() { begin([], rowBytes: 0, at: lastReturn) }

    /// A step came back with so many tokens. Timings of another number of stages say nothing of the stages.
    package mutating func note(_ step: StepInFlight, _ timings: [StageTiming], _ timeline: StepTimeline, tokens: Int) {
        let now = timeline.returnedAt
        lastReturn = now
        let rows = step.rowCount
        stepsByRows[min(Self.rowClasses - 1, rows <= 1 ? 0 : Int.bitWidth - (rows - 1).leadingZeroBitCount)] += 1
        self.rows += UInt64(rows)
        let slice = slice(of: now, latest: now)!
        slices[slice].steps += 1
        slices[slice].rows += UInt64(rows)
        slices[slice].prefillRows += UInt64(max(0, rows - step.decodeRows))
        slices[slice].tokens += UInt64(tokens)
        guard timings.count == plan.count, !plan.isEmpty else { return }
        slices[slice].roundTripNanoseconds += now.nanoseconds(since: timeline.sentAt)
        slices[slice].wireNanoseconds += timeline.wireNanoseconds
        slices[slice].overhead.note(nanoseconds: timeline.overheadNanoseconds)
        overhead.note(nanoseconds: timeline.overheadNanoseconds)
        wireNanoseconds = saturatingSum(wireNanoseconds, timeline.wireNanoseconds)
        for index in plan.indices { note(index, timings[index], timeline, bytes: index + 1 < plan.count ? UInt64(rows) * rowBytes : 0, in: slice) }
    }

    private mutating func note(_ index: Int, _ timing: StageTiming, _ timeline: StepTimeline, bytes: UInt64, in slice: Int) {
        let place = timeline.stages[index]
        slices[slice].stages[index].add(timing, sentBytes: bytes)
        totals[index].add(timing, sentBytes: bytes)
        slices[slice].stages[index].addRead(timing.readBytes)
        totals[index].addRead(timing.readBytes)
        slices[slice].stages[index].addStreamed(timing.streamedBytes, waitNanoseconds: timing.streamWaitNanoseconds)
        totals[index].addStreamed(timing.streamedBytes, waitNanoseconds: timing.streamWaitNanoseconds)
        totals[index].addCompute(place.endedAt.nanoseconds(since: place.begunAt))
        // A stage was idle since it was loaded; what lies before the epoch serves is no part of it.
        let started = place.begunAt.nanoseconds
        let idleFrom = Instant(nanoseconds: max(beganAt.nanoseconds, started - min(started, timing.idleNanoseconds)))
        totals[index].addIdle(place.begunAt.nanoseconds(since: idleFrom))
        spread(from: place.begunAt, to: place.endedAt, latest: timeline.returnedAt) { $0.stages[index].addCompute($1) }
        spread(from: idleFrom, to: place.begunAt, latest: timeline.returnedAt) { $0.stages[index].addIdle($1) }
    }

    /// Gives every slice its part of a time; what lies before the window is dropped.
    private mutating func spread(from: Instant, to: Instant, latest: Instant, _ add: (inout Slice, UInt64) -> Void) {
        var begin = max(from.nanoseconds, Self.windowStart(latest))
        while begin < to.nanoseconds {
            let next = (begin / Self.sliceNanoseconds + 1) * Self.sliceNanoseconds
            if let slice = slice(of: Instant(nanoseconds: begin), latest: latest) { add(&slices[slice], min(next, to.nanoseconds) - begin) }
            begin = next
        }
    }

    /// The slice that holds this instant, made anew where it held an older one; `nil` for one that the window has left.
    private mutating func slice(of instant: Instant, latest: Instant) -> Int? {
        guard instant.nanoseconds >= Self.windowStart(latest) else { return nil }
        let second = instant.nanoseconds / Self.sliceNanoseconds
        let index = Int(second % UInt64(Self.windowSeconds))
        if slices[index].second != second { slices[index].clear(second: second) }
        return index
    }

    private static func windowStart(_ now: Instant) -> UInt64 {
        let second = now.nanoseconds / sliceNanoseconds
        return (second - min(second, UInt64(windowSeconds - 1))) * sliceNanoseconds
    }

    // MARK: - Report

    /// Of a stage's worker since the epoch began; `nil` where it has no stage.
    package func computeNanoseconds(of worker: PeerKey) -> UInt64? {
        plan.firstIndex { $0.worker == worker }.map { totals[$0].computeNanoseconds }
    }

    /// - Parameter isIdle: whether no step is in flight: then all stages are idle since the last result.
    package func report(at now: Instant, isIdle: Bool) -> PipelineReport {
        var report = PipelineReport()
        report.stepsByRows = stepsByRows
        report.rowsTotal = rows
        report.stepsByOverhead = overhead.countsByOctave
        report.overheadNanosecondsTotal = overhead.sumNanoseconds
        report.wireNanosecondsTotal = wireNanoseconds
        guard !plan.isEmpty else { return report }
        let start = Self.windowStart(now)
        report.windowNanoseconds = now.nanoseconds(since: Instant(nanoseconds: max(start, beganAt.nanoseconds)))
        report.stages = zip(plan, totals).map { StageReport(worker: $0.worker, layers: $0.layers, total: $1) }
        var overhead = DurationHistogram()
        for slice in slices where slice.second != Slice.none && slice.second * Self.sliceNanoseconds >= start {
            report.steps += slice.steps
            report.rows += slice.rows
            report.prefillRows += slice.prefillRows
            report.tokens += slice.tokens
            report.roundTripNanoseconds += slice.roundTripNanoseconds
            report.wireNanoseconds += slice.wireNanoseconds
            overhead.add(slice.overhead)
            for index in plan.indices { report.stages[index].window.add(slice.stages[index]) }
        }
        report.overheadMedianNanoseconds = overhead.quantile(0.5)
        report.overhead95Nanoseconds = overhead.quantile(0.95)
        if isIdle {
            let since = Instant(nanoseconds: max(start, lastReturn.nanoseconds))
            for index in plan.indices {
                // Not to the total: with the next step the stage says it itself, and what counts for ever must never fall.
                report.stages[index].window.addIdle(now.nanoseconds(since: since))
            }
        }
        return report
    }
}
