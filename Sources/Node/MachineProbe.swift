import ClusterCore
import Engine

/// What a worker says of its machine, measured when it starts.
package enum MachineProbe {
    /// Read per measurement; far more than caches hold.
    private static let probeBytes = 256 << 20
    private static let readRounds = 3

    /// Takes about a fifth of a second. Throws `EngineError` when threads or memory cannot be had.
    package static func capabilities(threads: Int, memoryBytes: UInt64, instructionSet: InstructionSet) throws -> WorkerCapabilities {
        let pool = try ComputePool(threads: threads)
        let probe = try ReadProbe(bytes: probeBytes, instructionSet: instructionSet)
        let read = (0..<readRounds).map { _ in probe.bytesPerSecond(pool) }.max()!
        return WorkerCapabilities(
            memoryBytes: memoryBytes, threads: threads, isa: instructionSet.rawValue, readBytesPerSecond: max(1, read),
            opsPerSecond: max(1, try ComputeProbe.operationsPerSecond(pool, instructionSet: instructionSet)))
    }
}
