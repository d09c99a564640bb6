import CKernels

/// The threads that compute: a fixed set, of which the owner's own thread is number 0. Where they are pinned to processors of several memory
/// nodes, those of one node are a sub-pool, with consecutive numbers and lines of its own to wait on, and own one part of every matrix.
///
/// Not `Sendable`: the thread that makes a pool is the only one to use it, because it takes part in every run and may
/// be pinned to a processor.
package final class ComputePool {
    let pool: OpaquePointer
    package let threads: Int
    /// How many threads each memory node has, in the order of the threads' numbers. One node where threads are not pinned.
    package let threadsOfNodes: [Int]
    /// Told of each product and each attention that is done; `nil`: nobody wants to know.
    package var workDone: WorkDone?

    package static let threadsMax = 1024

    /// `threads` in 1...`threadsMax` counts the calling thread. `processors`: one number for each thread, -1 for not
    /// pinned, or nil to pin none; the first pins the calling thread itself, until the pool is dropped on that thread. They are taken node
    /// by node, as `topology` says (nil: this machine's), in which the first one's node comes first.
    package convenience init(threads: Int, processors: [Int32]? = nil, topology: ProcessorTopology? = nil) throws(EngineError) {
        if let processors, processors.count != threads {
            throw EngineError(.threadsUnavailable, "\(processors.count) processors were named for \(threads) threads; name one for each.")
        }
        let nodes = processors.map { (topology ?? .current()).byNode($0) }
        try self.init(threadsOfNodes: nodes?.map(\.count) ?? [threads], processors: nodes?.flatMap { $0 })
    }

    /// A sub-pool of so many threads for each node, whatever nodes this machine has.
    package init(threadsOfNodes: [Int], processors: [Int32]? = nil) throws(EngineError) {
        let threads = threadsOfNodes.reduce(0, +)
        guard (1...Self.threadsMax).contains(threads), threadsOfNodes.allSatisfy({ $0 > 0 }), processors?.count ?? threads == threads else {
            throw EngineError(.threadsUnavailable, "\(threads) threads were asked for; 1 to \(Self.threadsMax) are possible.")
        }
        guard let pool = sk_pool_create_nodes(Int32(threadsOfNodes.count), threadsOfNodes.map { Int32($0) }, processors) else {
            throw EngineError(.threadsUnavailable, "The system would not give \(threads) threads. Ask for fewer with --threads, or raise the limit.")
        }
        self.pool = pool
        self.threads = threads
        self.threadsOfNodes = threadsOfNodes
    }

    deinit { sk_pool_destroy(pool) }

    /// Threads whose processors are chosen as `choice` says.
    package convenience init(threads: Int, choice: ProcessorChoice) throws(EngineError) {
        let topology = ProcessorTopology.current()
        try self.init(threads: threads, processors: choice.processors(threads: threads, topology: topology), topology: topology)
    }

    /// Runs `body(thread, threads)` once for each thread and returns when all have returned. The share of a thread that is
    /// late is done by the calling one.
    func run(_ body: (_ thread: Int, _ threads: Int) -> Void) { run(body, by: sk_pool_run) }

    /// As `run`, but each share is surely done by its own thread: for what belongs to a processor or to its memory.
    func runEach(_ body: (_ thread: Int, _ threads: Int) -> Void) { run(body, by: sk_pool_run_each) }

    /// Row groups that products have handed out since the last call: to the thread whose part they are, to another of its node, to one
    /// of another node.
    package func unitsTaken() -> (own: UInt64, ofNode: UInt64, ofOthers: UInt64) {
        let units = sk_pool_units_taken(pool)
        return (units.own, units.of_node, units.of_others)
    }

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
