import CKernels
import Glibc
import Testing

/// What one run of the tests below touches: a cell for each thread, far enough apart not to matter.
private struct Tally {
    var cells: UnsafeMutablePointer<Int>
    var weight: Int
    var pool: OpaquePointer?
}

@Suite struct PoolTests {
    /// Threads of each memory node, none of which this machine needs to have.
    static let divisions: [[Int32]] = [[1], [2], [3], [4], [1, 1], [2, 1], [1, 2], [2, 2, 1], [1, 1, 1, 1]]

    @Test(arguments: divisions)
    func everyThreadRunsOncePerCall(division: [Int32]) throws {
        let pool = try #require(sk_pool_create_nodes(Int32(division.count), division, nil))
        let threads = Int(division.reduce(0, +))
        defer { sk_pool_destroy(pool) }
        #expect(sk_pool_threads(pool) == Int32(threads) && sk_pool_nodes(pool) == Int32(division.count))
        let nodes = division.enumerated().flatMap { node, count in [Int32](repeating: Int32(node), count: Int(count)) }
        #expect((0..<threads).map { sk_pool_node_of(pool, Int32($0)) } == nodes)
        let cells = Aligned<Int>(threads * 8, fill: 0)
        var tally = Tally(cells: cells.pointer, weight: 0, pool: nil)
        for run in 1...3_000 {
            sk_pool_run(pool, { argument, thread, _ in
                argument!.assumingMemoryBound(to: Tally.self).pointee.cells[Int(thread) * 8] += 1
            }, &tally)
            // Seen by the caller at once, not only at the end.
            let done = (0..<threads).allSatisfy { cells.pointer[$0 * 8] == run }
            guard done else {
                Issue.record("run \(run)")
                return
            }
        }
    }

    @Test(arguments: [[3], [2, 1], [1, 2], [1, 1, 1]] as [[Int32]])
    func unevenWorkIsAwaited(division: [Int32]) throws {
        let pool = try #require(sk_pool_create_nodes(Int32(division.count), division, nil))
        defer { sk_pool_destroy(pool) }
        let cells = Aligned<Int>(24, fill: 0)
        var generator = SeededGenerator(seed: 71)
        for _ in 0..<150 {
            // Long enough at times that both the owner and the workers go to sleep.
            var tally = Tally(cells: cells.pointer, weight: Int.random(in: 0..<40_000, using: &generator), pool: nil)
            sk_pool_run(pool, { argument, thread, threads in
                let tally = argument!.assumingMemoryBound(to: Tally.self).pointee
                var sum = 0
                for i in 0..<tally.weight * Int(thread) { sum &+= i }
                tally.cells[Int(thread) * 8] = sum
                tally.cells[Int(thread) * 8 + 1] = Int(threads)
            }, &tally)
            for thread in 0..<3 {
                let n = tally.weight * thread
                #expect(cells.pointer[thread * 8] == n * (n - 1) / 2 && cells.pointer[thread * 8 + 1] == 3)
            }
        }
    }

    @Test func poolsInsidePools() throws {
        let outer = try #require(sk_pool_create(2, nil)), inner = try #require(sk_pool_create(2, nil))
        defer { sk_pool_destroy(outer) }
        let cells = Aligned<Int>(16, fill: 0)
        var tally = Tally(cells: cells.pointer, weight: 0, pool: inner)
        for _ in 0..<200 {
            sk_pool_run(outer, { argument, thread, _ in
                guard thread == 1 else { return }  // a pool has one owner at a time
                sk_pool_run(argument!.assumingMemoryBound(to: Tally.self).pointee.pool, { argument, thread, _ in
                    argument!.assumingMemoryBound(to: Tally.self).pointee.cells[Int(thread) * 8] += 1
                }, argument)
            }, &tally)
        }
        sk_pool_destroy(inner)
        #expect(cells.pointer[0] == 200 && cells.pointer[8] == 200)
    }

    @Test(arguments: [[16], [5, 11], [4, 4, 4, 4]] as [[Int32]])
    func moreThreadsThanProcessorsEndEveryRun(division: [Int32]) throws {
        let pool = try #require(sk_pool_create_nodes(Int32(division.count), division, nil))
        defer { sk_pool_destroy(pool) }
        let cells = Aligned<Int>(16 * 8, fill: 0)
        var generator = SeededGenerator(seed: 72)
        for run in 1...1_000 {
            // Now and then the workers have time to fall asleep.
            if run % 100 == 0 { usleep(UInt32.random(in: 0..<2_000, using: &generator)) }
            var tally = Tally(cells: cells.pointer, weight: Int.random(in: 0..<300, using: &generator), pool: nil)
            sk_pool_run(pool, { argument, thread, _ in
                let tally = argument!.assumingMemoryBound(to: Tally.self).pointee
                var sum = 0
                for i in 0..<tally.weight * Int(thread) { sum &+= i }
                tally.cells[Int(thread) * 8 + 1] = sum
                tally.cells[Int(thread) * 8] += 1
            }, &tally)
            guard (0..<16).allSatisfy({ cells.pointer[$0 * 8] == run }) else {
                Issue.record("run \(run)")
                return
            }
        }
    }

    @Test(arguments: [[2], [1, 1]] as [[Int32]])
    func aLateThreadsShareIsTaken(division: [Int32]) throws {
        let pool = try #require(sk_pool_create_nodes(Int32(division.count), division, nil))
        defer { sk_pool_destroy(pool) }
        let cells = Aligned<Int>(16, fill: 0)
        var owner = pthread_self()
        for _ in 0..<200 {
            usleep(500)  // the worker sleeps, and takes longer to wake than an empty run takes
            withUnsafeMutablePointer(to: &owner) { owner in
                var tally = Tally(cells: cells.pointer, weight: 0, pool: OpaquePointer(owner))
                sk_pool_run(pool, { argument, thread, _ in
                    let tally = argument!.assumingMemoryBound(to: Tally.self).pointee
                    let owner = UnsafePointer<pthread_t>(tally.pool!).pointee
                    tally.cells[Int(thread) * 8] += 1
                    if thread == 1, pthread_equal(owner, pthread_self()) != 0 { tally.cells[9] += 1 }
                }, &tally)
            }
        }
        #expect(cells.pointer[0] == 200 && cells.pointer[8] == 200)
        #expect(cells.pointer[9] > 0, "a sleeping worker is never faster than the owner 200 times in a row")
    }

    @Test(arguments: [[3], [2, 1], [1, 2]] as [[Int32]])
    func whereItMattersEachShareRunsOnItsThread(division: [Int32]) throws {
        let pool = try #require(sk_pool_create_nodes(Int32(division.count), division, nil))
        defer { sk_pool_destroy(pool) }
        let threads = Aligned<UInt>(3 * 8, fill: 0)
        var first: [UInt] = []
        for run in 0..<200 {
            if run % 20 == 0 { usleep(1_000) }
            sk_pool_run_each(pool, { argument, thread, _ in
                argument!.assumingMemoryBound(to: UInt.self)[Int(thread) * 8] = UInt(pthread_self())
            }, threads.pointer)
            let seen = (0..<3).map { threads.pointer[$0 * 8] }
            if run == 0 { first = seen }
            #expect(seen == first && Set(seen).count == 3)
        }
    }

    @Test func theOwnerIsUnpinnedAtTheEnd() throws {
        func allowed() -> [Int32] {
            var cpus = [Int32](repeating: -1, count: 1024)
            return Array(cpus[..<Int(sk_processors_allowed(&cpus, 1024))])
        }
        let before = allowed()
        let pool = try #require(sk_pool_create(2, [before.last ?? -1, -1]))
        let during = allowed()
        sk_pool_destroy(pool)
        #expect(during == before.suffix(1))
        #expect(allowed() == before)
    }

    @Test(arguments: divisions)
    func aNodesOwnWorkIsTakenFirst(division: [Int32]) throws {
        let pool = try #require(sk_pool_create_nodes(Int32(division.count), division, nil))
        defer { sk_pool_destroy(pool) }
        let threads = sk_pool_threads(pool)
        for thread in 0..<threads {
            let order = (0..<threads).map { sk_pool_victim(pool, thread, $0) }
            #expect(order[0] == thread && order.sorted() == Array(0..<threads))
            let node = sk_pool_node_of(pool, thread)
            let isOwn = order.map { sk_pool_node_of(pool, $0) == node }
            #expect(isOwn == isOwn.sorted { $0 && !$1 }, "thread \(thread) takes \(order)")
        }
    }

    @Test func createAndDestroyManyTimes() throws {
        for i in 0..<200 {
            let cpus: [Int32] = [-1, 0, Int32(i), 100_000]  // processors that may not exist leave a thread unpinned
            let division: [Int32] = [[4], [1, 3], [2, 2]][i / 2 % 3]
            let pool = try #require(sk_pool_create_nodes(Int32(division.count), division, i % 2 == 0 ? nil : cpus))
            if i % 3 == 0 { sk_pool_run(pool, { _, _, _ in }, nil) }
            sk_pool_destroy(pool)
        }
        sk_pool_destroy(nil)
    }
}
