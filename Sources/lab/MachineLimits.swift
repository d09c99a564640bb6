import Engine

/// The machine's limits at this moment, for one pool: what measurements stand beside.
final class MachineLimits {
    /// Read by one probe: short, and still several times a cache.
    static let probeBytes = 128 << 20
    /// Tries of the arithmetic's peak, of which the best counts. Memory's speed changes, so its probe is one try; that of registers does
    /// not, and what falls short of it was disturbed.
    private static let peakTries = 4

    private let pool: ComputePool
    private let instructionSet: InstructionSet
    private let clock: Stopwatch
    private let probe: ReadProbe

    init(pool: ComputePool, instructionSet: InstructionSet, clock: Stopwatch = .wall) throws {
        self.pool = pool
        self.instructionSet = instructionSet
        self.clock = clock
        probe = try ReadProbe(bytes: Self.probeBytes, instructionSet: instructionSet)
    }

    func readBytesPerSecond() -> Double {
        wake()
        var bytes = 0
        let time = clock.seconds(threads: pool.threads) { bytes = probe.read(pool, bytes: Self.probeBytes) }
        return Double(bytes) / time
    }

    func peakOperationsPerSecond(_ peak: ComputeProbe.Peak) -> Double {
        wake()
        return (0..<Self.peakTries).reduce(0) { best, _ in
            var operations = 0.0
            let time = clock.seconds(threads: pool.threads) {
                operations = ComputeProbe.peakOperations(peak, pool, instructionSet: instructionSet)
            }
            return max(best, operations / time)
        }
    }

    /// Threads that went to sleep take longer to come than a probe takes.
    private func wake() { _ = probe.read(pool, bytes: 1 << 20) }
}
