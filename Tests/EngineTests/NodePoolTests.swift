import CKernels
import ModelFiles
import Testing

@testable import Engine

#if canImport(Glibc)
    import Glibc
#endif

/// Pools of several memory nodes, on a machine that may have one: the topology is handed in, the threads, their processors and all that runs on
/// them are real.
@Suite struct NodePoolTests {
    /// Two processors of this machine as if each stood on a node of its own; nil where it has only one.
    private static let pair: (topology: ProcessorTopology, processors: [Int32])? = {
        let here = ProcessorTopology.current().processors.map(\.number)
        guard here.count > 1 else { return nil }
        let files = ["node/online": "0-1", "node/node0/cpulist": "\(here[0])", "node/node1/cpulist": "\(here[1])"]
        return (ProcessorTopology(allowed: here) { files[$0] }, [here[0], here[1]])
    }()

    @Test(.enabled(if: pair != nil)) func eachThreadStaysOnItsNode() throws {
        let (topology, processors) = try #require(Self.pair)
        #expect(topology.nodes == 2)
        for choice in [processors, processors.reversed()] {
            let pool = try ComputePool(threads: 2, processors: choice, topology: topology)
            #expect(pool.threadsOfNodes == [1, 1])
            let seen = UnsafeMutableBufferPointer<Int32>.allocate(capacity: 2)
            defer { seen.deallocate() }
            for _ in 0..<50 {
                pool.runEach { thread, _ in seen[thread] = sk_processor_now() }
                #expect(Array(seen) == choice)
            }
        }
    }

    /// First touch by the code that loads weights: every page once, by the thread that multiplies the row group at its beginning, whose node's
    /// processor it runs on.
    @Test(.enabled(if: pair != nil)) func aNodeTouchesItsPartOfEveryMatrix() throws {
        let (topology, processors) = try #require(Self.pair)
        let pool = try ComputePool(threads: 2, processors: processors, topology: topology)
        #expect(WeightPlacement.suiting(pool) == .nearTheirThreads)
        let rows = 1_000, columns = 512
        var writer = GGUFWriter()
        for name in ["one", "two"] {
            let bytes = [UInt8](repeating: 0, count: rows * TensorType.q8_0.rowBytes(columns: columns))
            writer.add(name, type: .q8_0, shape: [columns, rows], bytes: bytes)
        }
        let file = try GGUFFile(parts: [try writer.bytes()])
        var layout = WeightLayout(.layer(0), source: file)
        let places = [try layout.matrix(.init("one", columns: columns, rows: rows)), try layout.matrix(.init("two", columns: columns, rows: rows))]
        let memory = try AlignedMemory(byteCount: layout.byteCount, for: "a test")

        let pages = (layout.byteCount + WeightPlacement.pageBytes - 1) / WeightPlacement.pageBytes
        let touched = UnsafeMutableBufferPointer<(count: Int, thread: Int, processor: Int32)>.allocate(capacity: pages)
        touched.initialize(repeating: (0, -1, -1))
        defer { touched.deallocate() }
        WeightPlacement.eachPage([(layout, memory.base)], pool: pool) { thread, page in
            let number = (page - memory.base) / WeightPlacement.pageBytes
            touched[number] = (touched[number].count + 1, thread, sk_processor_now())
        }
        for page in 0..<pages {
            let place = try #require(places.last { $0.offset <= page * WeightPlacement.pageBytes })
            let owner = try #require((0..<2).first { thread in
                page * WeightPlacement.pageBytes < place.offset(ofRow: WeightPlacement.rows(place, thread: thread, threads: 2).upperBound)
            })
            #expect(touched[page] == (1, owner, processors[owner]), "page \(page)")
        }
        #expect(Set(touched.map(\.thread)) == [0, 1])
    }

    @Test func nodesChangeNoBit() throws {
        let tiny = try TinyModel(.q4_0)
        let tokens = tiny.tokens(40, seed: 31)
        let expected = try Pipeline(tiny).logits(of: tokens, chunks: [40])
        for division in [[1, 1], [2, 1], [1, 2, 2]] {
            let pool = try ComputePool(threadsOfNodes: division)
            let logits = try Pipeline(tiny, pool: pool).logits(of: tokens, chunks: [37, 1, 1, 1])
            #expect(logits == expected, "nodes of \(division) threads")
            #expect(pool.unitsTaken().own > 0, "products are handed out by the share whose part they are")
        }
    }
}
