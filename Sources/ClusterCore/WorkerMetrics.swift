/// Counts since the worker's start, for `/metrics` and tests.
package struct WorkerMetrics: Hashable, Sendable {
    package var steps: UInt64 = 0
    package var rows: UInt64 = 0
    package var computeNanoseconds: UInt64 = 0
    package var queueNanoseconds: UInt64 = 0
    package var reconnects: UInt64 = 0
    package var dropped = DropCounts()

    package init() {}

    mutating func computed(_ step: Step, _ outcome: StepOutcome, queueNanoseconds queued: UInt64) {
        steps += 1
        rows += UInt64(step.rowCount)
        computeNanoseconds &+= outcome.computeNanoseconds
        queueNanoseconds &+= queued
    }
}
