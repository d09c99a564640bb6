/// Counts since the worker's start, for `/metrics` and tests.
package struct WorkerMetrics: Hashable, Sendable {
    package var steps: UInt64 = 0
    package var rows: UInt64 = 0
    package var computeNanoseconds: UInt64 = 0
    package var queueNanoseconds: UInt64 = 0
    package var idleNanoseconds: UInt64 = 0
    package var handOverNanoseconds: UInt64 = 0
    /// See `StageTiming.readBytes`.
    package var readBytes: UInt64 = 0
    /// See `StageTiming`.
    package var streamedBytes: UInt64 = 0
    package var streamWaitNanoseconds: UInt64 = 0
    package var streamReadNanoseconds: UInt64 = 0
    /// Follow-up steps that it sent to the first stage.
    package var followUps: UInt64 = 0
    /// Of these, those that it foretold the first stage, and those of them that it foretold right.
    package var foretold: UInt64 = 0
    package var foretoldRight: UInt64 = 0
    /// Layers of steps that it had computed when the steps came, because they were foretold it.
    package var layersBegun: UInt64 = 0
    /// Steps that came before a follow-up which they had to wait for.
    package var stepsEarly: UInt64 = 0
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
        readBytes &+= timing.readBytes
        streamedBytes &+= timing.streamedBytes
        streamWaitNanoseconds &+= timing.streamWaitNanoseconds
        streamReadNanoseconds &+= timing.streamReadNanoseconds
    }

    /// While it computed. With many rows the arithmetic is the limit, and this is far below what memory gives.
    package var readBytesPerSecond: Double { computeNanoseconds == 0 ? 0 : Double(readBytes) * 1e9 / Double(computeNanoseconds) }
}

/// Weights that a worker fetched from others and handed on to others, since its start.
package struct WeightTransfer: Hashable, Sendable {
    package var fetched: SliceFetchCounts
    package var servedChunks: UInt64
    package var servedBytes: UInt64
    /// Requests that were not answered with what was asked.
    package var refused: UInt64

    package init(fetched: SliceFetchCounts = SliceFetchCounts(), servedChunks: UInt64 = 0, servedBytes: UInt64 = 0, refused: UInt64 = 0) {
        self.fetched = fetched
        self.servedChunks = servedChunks
        self.servedBytes = servedBytes
        self.refused = refused
    }
}

/// What one worker says of itself.
package struct WorkerReport: Hashable, Sendable {
    package var name: String
    package var capabilities: WorkerCapabilities
    /// Whether the coordinator knows it.
    package var isJoined: Bool
    /// Its stage, loading or loaded; `nil` for none.
    package var assignment: StageAssignment?
    package var isServing: Bool
    package var stepsQueued: Int
    package var metrics: WorkerMetrics
    package var weights = WeightTransfer()
    /// Steps that it sent itself while it waited for the next one, and took apart.
    package var rehearsals: UInt64 = 0

    package init(
        name: String, capabilities: WorkerCapabilities, isJoined: Bool, assignment: StageAssignment?, isServing: Bool, stepsQueued: Int,
        metrics: WorkerMetrics
    ) {
        self.name = name
        self.capabilities = capabilities
        self.isJoined = isJoined
        self.assignment = assignment
        self.isServing = isServing
        self.stepsQueued = stepsQueued
        self.metrics = metrics
    }
}
