import Testing

@testable import Engine

@Suite struct ProcessorTopologyTests {
    /// Two nodes of four cores, two processors to a core, numbered as servers do: 0-7 are the cores' first, 8-15 their second.
    private static let server: [String: String] = {
        var files = ["node/online": "0-1\n", "node/node0/cpulist": "0-3,8-11\n", "node/node1/cpulist": "4-7,12-15\n"]
        for cpu in 0..<16 { files["cpu/cpu\(cpu)/topology/thread_siblings_list"] = "\(cpu % 8),\(cpu % 8 + 8)\n" }
        return files
    }()
    /// A desktop that numbers both processors of a core side by side.
    private static let desktop: [String: String] = {
        var files = ["node/online": "0\n", "node/node0/cpulist": "0-7\n"]
        for cpu in 0..<8 { files["cpu/cpu\(cpu)/topology/thread_siblings_list"] = "\(cpu / 2 * 2)-\(cpu / 2 * 2 + 1)\n" }
        return files
    }()

    private func topology(_ files: [String: String], _ allowed: [Int32]) -> ProcessorTopology { ProcessorTopology(allowed: allowed) { files[$0] } }

    @Test func readsCoresAndNodes() {
        let server = topology(Self.server, Array(0..<16))
        #expect(server.nodes == 2 && server.cores == 8)
        #expect(server.processors[13] == .init(number: 13, core: 5, node: 1))
        let part = topology(Self.server, [1, 9, 14])
        #expect(part.nodes == 2 && part.cores == 2 && part.processors.map(\.number) == [1, 9, 14])
    }

    @Test func whatCannotBeReadIsACoreOfItsOwn() {
        let unknown = topology(["node/online": "rubbish", "cpu/cpu1/topology/thread_siblings_list": "9-1"], [0, 1])
        #expect(unknown.processors == [.init(number: 0, core: 0, node: 0), .init(number: 1, core: 1, node: 0)])
    }

    @Test func coresComeBeforeTheirSecondProcessors() {
        let desktop = topology(Self.desktop, Array(0..<8))
        #expect(desktop.placement(threads: 3) == [0, 2, 4])
        #expect(desktop.placement(threads: 4) == [0, 2, 4, 6])
        #expect(desktop.placement(threads: 5) == [0, 1, 2, 4, 6])
        #expect(desktop.placement(threads: 8) == Array(0..<8))
        #expect(desktop.placement(threads: 9) == nil)
    }

    @Test func threadsAreSpreadOverNodesAndNumberedNodeByNode() {
        let server = topology(Self.server, Array(0..<16))
        #expect(server.placement(threads: 2) == [0, 4])
        #expect(server.placement(threads: 6) == [0, 1, 2, 4, 5, 6])
        #expect(server.placement(threads: 8) == Array(0..<8))
        #expect(server.placement(threads: 10) == [0, 1, 2, 3, 8, 4, 5, 6, 7, 12])
    }

    @Test func namedProcessorsAreTakenNodeByNode() {
        let server = topology(Self.server, Array(0..<16))
        #expect(server.byNode([5, 0, 13, 1]) == [[5, 13], [0, 1]])
        #expect(server.byNode([2]) == [[2]])
        #expect(server.byNode([0, -1, 4]) == [[0, -1, 4]] && server.byNode([0, 99]) == [[0, 99]])
    }

    @Test func processesGetPartsOfTheirOwn() {
        let server = topology(Self.server, Array(0..<16))
        #expect(server.placements(processes: 2, threads: 4) == [[0, 1, 2, 3], [4, 5, 6, 7]])
        let pair = topology(Self.desktop, [0, 2])
        #expect(pair.placements(processes: 2, threads: 1) == [[0], [2]])
        #expect(pair.placements(processes: 2, threads: 2) == nil)
    }

    @Test func nobodyIsPinnedUnlessThreadsFillWhatThereIs() {
        let desktop = topology(Self.desktop, Array(0..<8))
        for threads in 1...9 {
            let placed = desktop.automaticPlacement(threads: threads)
            #expect((placed != nil) == [4, 8].contains(threads), "\(threads) threads")
        }
    }

    @Test(arguments: [
        ("0", [0]), ("0-3,8", [0, 1, 2, 3, 8]), ("5,1\n", [5, 1]), ("", nil), ("3-1", nil), ("a", nil), ("1,,2", nil), ("1-", nil), ("-1", nil),
        ("1024", nil), ("1 2", nil), ("70000", nil),
    ] as [(String, [Int32]?)])
    func listsAsLinuxWritesThem(text: String, expected: [Int32]?) { #expect(ProcessorTopology.list(text) == expected) }

    @Test func choicesOfPeople() throws {
        let pair = topology(Self.desktop, [0, 2])
        #expect(ProcessorChoice("auto") == .automatic && ProcessorChoice("none") == .unpinned && ProcessorChoice("2,0") == .listed([2, 0]))
        #expect(ProcessorChoice("2,2") == nil && ProcessorChoice("some") == nil)
        for text in ["auto", "none", "2,0"] { #expect(ProcessorChoice(text)?.text == text) }
        #expect(try ProcessorChoice.automatic.processors(threads: 2, topology: pair) == [0, 2])
        #expect(try ProcessorChoice.automatic.processors(threads: 1, topology: pair) == nil)
        #expect(try ProcessorChoice.listed([2, 0]).processors(threads: 2, topology: pair) == [2, 0])
        for (numbers, threads) in [([2], 2), ([0, 1], 2)] as [([Int32], Int)] {
            let error = #expect(throws: EngineError.self) { try ProcessorChoice.listed(numbers).processors(threads: threads, topology: pair) }
            #expect(error?.code == .threadsUnavailable)
        }
    }

    @Test func thisMachineHasProcessors() throws {
        let here = ProcessorTopology.current()
        #expect(!here.processors.isEmpty && here.cores >= 1 && here.nodes >= 1)
        let pool = try ComputePool(threads: here.processors.count, choice: .automatic)
        #expect(PoolProbe.nanosecondsPerRun(pool) > 0)
    }
}
