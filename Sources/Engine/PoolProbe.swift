import CKernels

/// Measures what a run of a pool costs that has nothing to do: every layer of a step pays it about five times.
package enum PoolProbe {
    private static let runs = 200
    private static let rounds = 50

    /// Nanoseconds of one empty run, the mean of a round, in the best of some rounds, since others wake threads or lose a
    /// processor to another process. Takes some milliseconds.
    package static func nanosecondsPerRun(_ pool: ComputePool) -> Double {
        var best = Double.infinity
        for _ in 0..<rounds {
            let time = ContinuousClock().measure {
                for _ in 0..<runs { sk_pool_run_each(pool.pool, { _, _, _ in }, nil) }
            }
            best = min(best, time / .nanoseconds(1) / Double(runs))
        }
        return best
    }
}
