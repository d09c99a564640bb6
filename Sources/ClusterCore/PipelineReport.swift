/// What a pipeline's steps cost and where, for `staffel status`, `staffel top` and `/metrics`.
///
/// Shares and means are of a window that slides: the last `PipelineAccount.windowSeconds`, less while the epoch is younger. What counts for ever is
/// for Prometheus, which makes rates of its own.
package struct PipelineReport: Hashable, Sendable {
    /// How much of the window has passed.
    package var windowNanoseconds: UInt64 = 0
    /// In the window: steps that came back, their rows, those of them that were of prompts, and the tokens that they gave.
    package var steps: UInt64 = 0
    package var rows: UInt64 = 0
    package var prefillRows: UInt64 = 0
    package var tokens: UInt64 = 0
    /// Sums over those steps: from sending to result, and of that the time between machines. See `StepTimeline`.
    package var roundTripNanoseconds: UInt64 = 0
    package var wireNanoseconds: UInt64 = 0
    /// Quantiles over those steps of `StepTimeline.overheadNanoseconds`.
    package var overheadMedianNanoseconds: UInt64 = 0
    package var overhead95Nanoseconds: UInt64 = 0
    /// In the pipeline's order.
    package var stages: [StageReport] = []

    /// Since the coordinator's start. Entry `i` counts steps of at most 2^i rows that no entry before it counts.
    package var stepsByRows: [UInt64] = []
    package var rowsTotal: UInt64 = 0
    /// `DurationHistogram.countsByOctave` of the overhead, and its sum.
    package var stepsByOverhead: [UInt64] = []
    package var overheadNanosecondsTotal: UInt64 = 0
    package var wireNanosecondsTotal: UInt64 = 0

    package init() {}

    package var promptTokensPerSecond: Double { perSecond(prefillRows) }
    package var tokensPerSecond: Double { perSecond(tokens) }
    package var stepsPerSecond: Double { perSecond(steps) }
    package var rowsPerStep: Double { steps == 0 ? 0 : Double(rows) / Double(steps) }
    package var roundTripMilliseconds: Double { StageSums.mean(roundTripNanoseconds, steps) }
    package var wireMilliseconds: Double { StageSums.mean(wireNanoseconds, steps) }
    /// The mean of a hop; a pipeline has one more than stages, and begins with layer 0.
    package var wireMillisecondsPerHop: Double {
        let pipelines = max(1, stages.count { $0.layers.lowerBound == 0 })
        return wireMilliseconds / (Double(stages.count) / Double(pipelines) + 1)
    }

    /// Another pipeline beside this one: what both did, its stages behind these. The quantiles become those of the slower one.
    package mutating func add(_ other: PipelineReport) {
        windowNanoseconds = max(windowNanoseconds, other.windowNanoseconds)
        steps += other.steps
        rows += other.rows
        prefillRows += other.prefillRows
        tokens += other.tokens
        roundTripNanoseconds = saturatingSum(roundTripNanoseconds, other.roundTripNanoseconds)
        wireNanoseconds = saturatingSum(wireNanoseconds, other.wireNanoseconds)
        overheadMedianNanoseconds = max(overheadMedianNanoseconds, other.overheadMedianNanoseconds)
        overhead95Nanoseconds = max(overhead95Nanoseconds, other.overhead95Nanoseconds)
        stages += other.stages
        stepsByRows = Self.sums(stepsByRows, other.stepsByRows)
        rowsTotal += other.rowsTotal
        stepsByOverhead = Self.sums(stepsByOverhead, other.stepsByOverhead)
        overheadNanosecondsTotal = saturatingSum(overheadNanosecondsTotal, other.overheadNanosecondsTotal)
        wireNanosecondsTotal = saturatingSum(wireNanosecondsTotal, other.wireNanosecondsTotal)
    }

    private static func sums(_ a: [UInt64], _ b: [UInt64]) -> [UInt64] {
        (0..<max(a.count, b.count)).map { ($0 < a.count ? a[$0] : 0) + ($0 < b.count ? b[$0] : 0) }
    }

    private func perSecond(_ count: UInt64) -> Double { windowNanoseconds == 0 ? 0 : Double(count) * 1e9 / Double(windowNanoseconds) }
}

/// One stage's part of it.
package struct StageReport: Hashable, Sendable {
    package var worker: PeerKey
    package var layers: Range<Int>
    package var window: StageSums
    /// Since the epoch began.
    package var total: StageSums

    package init(worker: PeerKey, layers: Range<Int>, window: StageSums = StageSums(), total: StageSums = StageSums()) {
        self.worker = worker
        self.layers = layers
        self.window = window
        self.total = total
    }
}

/// Sums over the steps of one stage. What a peer says may be absurd, so they saturate.
package struct StageSums: Hashable, Sendable {
    package var steps: UInt64 = 0
    package var computeNanoseconds: UInt64 = 0
    package var idleNanoseconds: UInt64 = 0
    package var queueNanoseconds: UInt64 = 0
    package var handOverNanoseconds: UInt64 = 0
    /// Rows handed to the next stage; headers and frames not counted.
    package var sentBytes: UInt64 = 0
    /// See `StageTiming.readBytes`.
    package var readBytes: UInt64 = 0
    /// See `StageTiming`.
    package var streamedBytes: UInt64 = 0
    package var streamWaitNanoseconds: UInt64 = 0

    package init() {}

    /// While the stage computed: what decoding is bound by.
    package var readBytesPerSecond: Double { computeNanoseconds == 0 ? 0 : Double(readBytes) * 1e9 / Double(computeNanoseconds) }

    /// Of the stage thread's time; 0 when nothing is known of it.
    package var busyShare: Double { share(computeNanoseconds) }
    package var idleShare: Double { share(idleNanoseconds) }
    /// Steps that stood at the stage and were not yet computed, on average over its time.
    package var stepsQueued: Double { share(queueNanoseconds) }

    package var computeMilliseconds: Double { Self.mean(computeNanoseconds, steps) }
    package var queueMilliseconds: Double { Self.mean(queueNanoseconds, steps) }
    package var handOverMilliseconds: Double { Self.mean(handOverNanoseconds, steps) }

    /// The stage thread computes or is idle; there is nothing else.
    private func share(_ nanoseconds: UInt64) -> Double {
        let time = Double(computeNanoseconds) + Double(idleNanoseconds)
        return time == 0 ? 0 : Double(nanoseconds) / time
    }

    static func mean(_ nanoseconds: UInt64, _ steps: UInt64) -> Double { steps == 0 ? 0 : Double(nanoseconds) / Double(steps) / 1e6 }

    mutating func add(_ timing: StageTiming, sentBytes bytes: UInt64) {
        steps += 1
        queueNanoseconds = saturatingSum(queueNanoseconds, timing.queueNanoseconds)
        handOverNanoseconds = saturatingSum(handOverNanoseconds, timing.handOverNanoseconds)
        sentBytes = saturatingSum(sentBytes, bytes)
    }

    mutating func addRead(_ bytes: UInt64) { readBytes = saturatingSum(readBytes, bytes) }

    mutating func addStreamed(_ bytes: UInt64, waitNanoseconds: UInt64) {
        streamedBytes = saturatingSum(streamedBytes, bytes)
        streamWaitNanoseconds = saturatingSum(streamWaitNanoseconds, waitNanoseconds)
    }

    mutating func addCompute(_ nanoseconds: UInt64) { computeNanoseconds = saturatingSum(computeNanoseconds, nanoseconds) }
    mutating func addIdle(_ nanoseconds: UInt64) { idleNanoseconds = saturatingSum(idleNanoseconds, nanoseconds) }

    mutating func add(_ other: StageSums) {
        steps += other.steps
        addCompute(other.computeNanoseconds)
        addIdle(other.idleNanoseconds)
        queueNanoseconds = saturatingSum(queueNanoseconds, other.queueNanoseconds)
        handOverNanoseconds = saturatingSum(handOverNanoseconds, other.handOverNanoseconds)
        sentBytes = saturatingSum(sentBytes, other.sentBytes)
        addRead(other.readBytes)
        addStreamed(other.streamedBytes, waitNanoseconds: other.streamWaitNanoseconds)
    }
}
