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
    /// pinned, or nil to pin none; entry 0 pins the calling thread itself, until the pool is dropped on that thread.
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

    /// Threads whose processors are chosen as `choice` says.
    package convenience init(threads: Int, choice: ProcessorChoice) throws(EngineError) {
        try self.init(threads: threads, processors: choice.processors(threads: threads, topology: .current()))
    }

    /// Runs `body(thread, threads)` once for each thread and returns when all have returned. The share of a thread that is
    /// late is done by the calling one.
    func run(_ body: (_ thread: Int, _ threads: Int) -> Void) { run(body, by: sk_pool_run) }

    /// As `run`, but each share is surely done by its own thread: for what belongs to a processor or to its memory.
    func runEach(_ body: (_ thread: Int, _ threads: Int) -> Void) { run(body, by: sk_pool_run_each) }

    private func run(_ body: (Int, Int) -> Void, by start: (OpaquePointer?, sk_pool_fn?, UnsafeMutableRawPointer?) -> Void) {
        withoutActuallyEscaping(body) { escapable in
            var work = Work(body: escapable)
            withUnsafeMutablePointer(to: &work) { pointer in
                start(pool, { argument, thread, threads in
                    argument!.assumingMemoryBound(to: Work.self).pointee.body(Int(thread), Int(threads))
                }, pointer)
            }
        }
    }

    private struct Work {
        let body: (Int, Int) -> Void
    }
}
