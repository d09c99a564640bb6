import ClusterCore
import Engine
import Foundation

/// What a worker says of its machine, measured when it starts.
package enum MachineProbe {
    /// Read per measurement; far more than caches hold.
    private static let probeBytes = 256 << 20
    private static let readRounds = 3
    private static let peakRounds = 3
    /// How long to wait for other workers of this machine that measure.
    private static let turnTimeoutMs = 5_000

    /// Takes about a fifth of a second, with threads on the processors where the stage's will be (nil: anywhere). Throws `EngineError`
    /// when threads or memory cannot be had.
    ///
    /// - Parameter streaming: where weights that are larger than so many bytes are streamed from; its disk is measured too.
    package static func capabilities(
        threads: Int, processors: [Int32]? = nil, memoryBytes: UInt64, instructionSet: InstructionSet,
        streaming: (memory: Int, cache: PackedCache)? = nil
    ) throws -> WorkerCapabilities {
        let pool = try ComputePool(threads: threads, processors: processors)
        let probe = try ReadProbe(bytes: probeBytes, instructionSet: instructionSet)
        let turn = takeTurn()
        defer { if turn >= 0 { close(turn) } }
        let read = (0..<readRounds).map { _ in probe.bytesPerSecond(pool) }.max()!
        var capabilities = WorkerCapabilities(
            memoryBytes: memoryBytes, threads: threads, isa: instructionSet.rawValue, readBytesPerSecond: max(1, read),
            opsPerSecond: max(1, try ComputeProbe.operationsPerSecond(pool, instructionSet: instructionSet)),
            floatOpsPerSecond: max(1, floatOperationsPerSecond(pool, instructionSet)), machine: MachineIdentity.current)
        if let streaming {
            capabilities.weightsMemoryBytes = UInt64(streaming.memory)
            capabilities.diskBytesPerSecond = max(1, try DiskProbe.rate(streaming.cache).bytesPerSecond)
        }
        return capabilities
    }

    /// The peak of f32 arithmetic: the best of some rounds of about two milliseconds.
    private static func floatOperationsPerSecond(_ pool: ComputePool, _ instructionSet: InstructionSet) -> Double {
        (0..<peakRounds).map { _ in
            var operations = 0.0
            let time = ContinuousClock().measure { operations = ComputeProbe.peakOperations(.float32, pool, instructionSet: instructionSet) }
            return operations / max(Double(time.components.attoseconds) * 1e-18 + Double(time.components.seconds), 1e-9)
        }.max()!
    }

    /// Workers that start together would measure each other, and equal ones get unequal shares of the model. Returns a locked descriptor, to
    /// be closed, or -1 when no lock could be had in time: then it measures all the same.
    private static func takeTurn() -> Int32 {
        let path = NSTemporaryDirectory() + "/staffel-probe-\(geteuid()).lock"
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { return -1 }
        for _ in 0..<turnTimeoutMs / 10 {
            if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { return descriptor }
            usleep(10_000)
        }
        close(descriptor)
        return -1
    }
}
