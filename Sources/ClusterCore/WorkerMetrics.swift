/// Counts since the worker's start, for `/metrics` and tests.
package struct WorkerMetrics: Hashable, Sendable {
    package var steps: UInt64 = 0
    package var rows: UInt64 = 0
    package var computeNanoseconds: UInt64 = 0
    package var queueNanoseconds: UInt64 = 0
    package var idleNanoseconds: UInt64 = 0
    package var handOverNanoseconds: UInt64 = 0
    package var reconnects: UInt64 = 0
    package var dropped = DropCounts()

    package init() {}

    mutating func computed(_ step: Step, _ timing: StageTiming) {
        steps += 1
        rows += UInt64(step.rowCount)
        computeNanoseconds &+= timing.computeNanoseconds
        queueNanoseconds &+= timing.queueNanoseconds
        idleNanoseconds &+= timing.idleNanoseconds
        handOverNanoseconds &+= timing.handOverNanoseconds
    }
}
