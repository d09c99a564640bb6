import OrderedCollections

/// Counts since the coordinator's start, for `/metrics` and tests. The Node reads them; nothing here decides anything.
package struct CoordinatorMetrics: Hashable, Sendable {
    package var requestsAccepted: UInt64 = 0
    package var requestsFinished: UInt64 = 0
    package var requestsCancelled: UInt64 = 0
    /// By failure code, those refused at the door included.
    package var requestsFailed: OrderedDictionary<FailureCode, UInt64> = [:]

    package var promptTokens: UInt64 = 0
    package var generatedTokens: UInt64 = 0
    package var stepsSent: UInt64 = 0
    package var stepsDone: UInt64 = 0
    package var rowsSent: UInt64 = 0
    /// `rowsPerStep[i]`: steps of 2^i ..< 2^(i+1) rows.
    package var rowsPerStep = [UInt64](repeating: 0, count: 11)
    package var preemptions: UInt64 = 0
    /// Epochs that ended while they served.
    package var recoveries: UInt64 = 0
    /// Time in which nothing served, after the first time something did.
    package var recoveryNanoseconds: UInt64 = 0
    package var stages: OrderedDictionary<PeerKey, StageMetrics> = [:]
    package var dropped = DropCounts()

    package init() {}

    package struct StageMetrics: Hashable, Sendable {
        package var steps: UInt64 = 0
        package var computeNanoseconds: UInt64 = 0
        package var queueNanoseconds: UInt64 = 0
        package init() {}
    }

    package mutating func sent(_ step: Step) {
        let rows = step.rowCount
        stepsSent += 1
        rowsSent += UInt64(rows)
        rowsPerStep[min(rowsPerStep.count - 1, Int.bitWidth - 1 - max(1, rows).leadingZeroBitCount)] += 1
    }

    /// A peer's figures: they may be absurd, so they wrap instead of trapping.
    package mutating func done(_ plan: Plan, _ timings: [StageTiming]) {
        stepsDone += 1
        guard timings.count == plan.stages.count else { return }
        for (stage, timing) in zip(plan.stages, timings) {
            stages[stage.worker, default: StageMetrics()].steps += 1
            stages[stage.worker]!.computeNanoseconds &+= timing.computeNanoseconds
            stages[stage.worker]!.queueNanoseconds &+= timing.queueNanoseconds
        }
    }
}
