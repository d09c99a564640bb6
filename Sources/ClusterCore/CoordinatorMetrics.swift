import OrderedCollections

/// Counts since the coordinator's start, for `/metrics` and tests. The Node reads them; nothing here decides anything.
package struct CoordinatorMetrics: Hashable, Sendable {
    package var requestsAccepted: UInt64 = 0
    package var requestsFinished: UInt64 = 0
    package var requestsCancelled: UInt64 = 0
    /// Went on with the tokens of one under an earlier id.
    package var requestsContinued: UInt64 = 0
    /// By failure code, those refused at the door included.
    package var requestsFailed: OrderedDictionary<FailureCode, UInt64> = [:]

    package var promptTokens: UInt64 = 0
    package var generatedTokens: UInt64 = 0
    package var stepsSent: UInt64 = 0
    package var stepsDone: UInt64 = 0
    package var rowsSent: UInt64 = 0
    package var preemptions: UInt64 = 0
    /// Epochs that ended while they served.
    package var recoveries: UInt64 = 0
    /// Time in which nothing served, after the first time something did.
    package var recoveryNanoseconds: UInt64 = 0
    /// The last one of these pauses.
    package var lastRecoveryNanoseconds: UInt64 = 0
    package var handovers = HandoverCounts()
    package var dropped = DropCounts()
    package var faults = FaultCounts()

    package init() {}

    package mutating func sentFollowUp(rows: Int) {
        stepsSent += 1
        rowsSent += UInt64(rows)
    }

    package mutating func sent(_ step: Step) {
        stepsSent += 1
        rowsSent += UInt64(step.rowCount)
    }
}
