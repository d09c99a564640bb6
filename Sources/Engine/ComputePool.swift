import CKernels

/// The threads that compute: a fixed set, of which the owner's own thread is number 0.
///
/// Not `Sendable`: the thread that makes a pool is the only one to use it, because it takes part in every run and may
/// be pinned to a processor.
package final class ComputePool {
    let pool: OpaquePointer
    package let threads: Int

    package static let threadsMax = 1024

    /// `threads` in 1...`threadsMax` counts the calling thread. `processors`: one number for each thread, -1 for not
    /// pinned, or nil to pin none; entry 0 pins the calling thread itself.
    package init(threads: Int, processors: [Int32]? = nil) throws(EngineError) {
        guard (1...Self.threadsMax).contains(threads) else {
            throw EngineError(.threadsUnavailable, "\(threads) threads were asked for; 1 to \(Self.threadsMax) are possible.")
        }
        if let processors, processors.count != threads {
            throw EngineError(.threadsUnavailable, "\(processors.count) processors were named for \(threads) threads; name one for each.")
        }
        guard let pool = sk_pool_create(Int32(threads), processors) else {
            throw EngineError(.threadsUnavailable, "The system would not give \(threads) threads. Ask for fewer with --threads, or raise the limit.")
        }
        self.pool = pool
        self.threads = threads
    }

    deinit { sk_pool_destroy(pool) }

    /// Runs `body(thread, threads)` once on each thread and returns when all have returned.
    func run(_ body: (_ thread: Int, _ threads: Int) -> Void) {
        withoutActuallyEscaping(body) { escapable in
            var work = Work(body: escapable)
            withUnsafeMutablePointer(to: &work) { pointer in
                sk_pool_run(pool, { argument, thread, threads in
                    argument!.assumingMemoryBound(to: Work.self).pointee.body(Int(thread), Int(threads))
                }, pointer)
            }
        }
    }

    private struct Work {
        let body: (Int, Int) -> Void
    }
}
