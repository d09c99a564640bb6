import ArgumentParser
import CKernels
import Engine
import Foundation
import ModelFiles

/// `lab bench barrier`: what a run of the pool costs, on this machine's memory nodes and on pretended ones.
struct BenchBarrier: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "barrier", abstract: "What a run of the pool costs that has nothing to do, on one memory node and on several.",
        discussion: """
            Each line is one pool: threads of its memory nodes, the processors they are pinned to, microseconds of a run without work, the mean
            of a round, as least, median and most over rounds; then who multiplied the row groups of a matrix: the thread whose part they are,
            another of its node, one of another node. The first lines are this machine's nodes, the others pretend as many as --nodes says.

            --json prints [{threadsOfNodes, processors, pretended, secondsPerRun: {median, min, max}, unitsOwn, unitsOfNode, unitsOfOthers}].
            """)

    @Option(help: "Numbers of threads to measure, separated by commas.") var threads = ThreadCounts([1, 2])
    @Option(help: "Pretended nodes as their threads, such as 1+1; several separated by commas. Without it, halves of --threads.") var nodes: String?
    @Option(help: "Processors as for workers: auto, none, or a list.") var cpus = "auto"
    @Option(help: "Rounds of each measurement.") var rounds = 21
    @Flag(help: "Print one JSON array.") var json = false

    private static let runs = 2_000
    private static let products = 50

    func validate() throws {
        guard rounds > 0 else { throw ValidationError("--rounds is at least 1.") }
        guard ProcessorChoice(cpus) != nil else { throw ValidationError("--cpus takes auto, none, or a list of different processors such as 0-3,8.") }
        _ = try divisions()
    }

    private func divisions() throws -> [[Int]] {
        guard let nodes else { return threads.counts.filter { $0 > 1 }.map { [($0 + 1) / 2, $0 / 2] } }
        return try nodes.split(separator: ",").map { word in
            let counts = word.split(separator: "+", omittingEmptySubsequences: false).map { Int($0) ?? 0 }
            guard counts.allSatisfy({ $0 > 0 }), counts.reduce(0, +) <= ComputePool.threadsMax else {
                throw ValidationError("--nodes holds '\(word)'; it takes threads of each node, such as 1+1.")
            }
            return counts
        }
    }

    struct Result: Codable {
        var threadsOfNodes: [Int]
        /// nil: not pinned.
        var processors: [Int32]?
        var pretended: Bool
        var secondsPerRun: Spread
        var unitsOwn: UInt64
        var unitsOfNode: UInt64
        var unitsOfOthers: UInt64
    }

    func run() throws {
        let instructionSet = try InstructionSet.fromEnvironment(), topology = ProcessorTopology.current(), choice = ProcessorChoice(cpus)!
        if !json {
            print("\(topology.processors.count) processors, \(topology.cores) cores, \(topology.nodes) memory nodes; \(instructionSet.rawValue)")
            print("nodes           processors      µs a run   least    most   own part   of the node   of others")
        }
        var results: [Result] = []
        for count in threads.counts {
            let processors = try choice.processors(threads: count, topology: topology)
            let pool = try ComputePool(threads: count, processors: processors, topology: topology)
            results.append(measure(pool, processors, pretended: false, instructionSet))
        }
        for division in try divisions() {
            let processors = try choice.processors(threads: division.reduce(0, +), topology: topology)
            let pool = try ComputePool(threadsOfNodes: division, processors: processors)
            results.append(measure(pool, processors, pretended: true, instructionSet))
        }
        guard json else { return }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        print(String(decoding: try encoder.encode(results), as: UTF8.self))
    }

    private func measure(_ pool: ComputePool, _ processors: [Int32]?, pretended: Bool, _ instructionSet: InstructionSet) -> Result {
        let handle = pool.handle
        let seconds = Spread(
            (0..<rounds).map { _ in
                Stopwatch.wall.seconds(threads: pool.threads) {
                    for _ in 0..<Self.runs { sk_pool_run_each(handle, { _, _, _ in }, nil) }
                } / Double(Self.runs)
            })
        let product = BenchProduct(
            PackedMatrix(type: .q4_0, rows: 4096, columns: 4096), batchMax: 1, deviation: 1, pool: pool, instructionSet: instructionSet)
        product.run(columns: 1)
        _ = pool.unitsTaken()
        for _ in 0..<Self.products { product.run(columns: 1) }
        let units = pool.unitsTaken()
        let result = Result(
            threadsOfNodes: pool.threadsOfNodes, processors: processors, pretended: pretended, secondsPerRun: seconds, unitsOwn: units.own,
            unitsOfNode: units.ofNode, unitsOfOthers: units.ofOthers)
        if !json { show(result) }
        return result
    }

    private func show(_ result: Result) {
        let nodes = result.threadsOfNodes.map(String.init).joined(separator: "+") + (result.pretended ? " pretended" : "")
        let all = Double(max(1, result.unitsOwn + result.unitsOfNode + result.unitsOfOthers))
        let time = result.secondsPerRun
        print(
            nodes.padding(toLength: 16, withPad: " ", startingAt: 0)
                + (result.processors.map { ProcessorChoice.listed($0).text } ?? "any").padding(toLength: 13, withPad: " ", startingAt: 0)
                + String(
                    format: "%9.2f %9.2f %7.2f %8.1f %% %11.1f %% %9.1f %%", time.median * 1e6, time.min * 1e6, time.max * 1e6,
                    100 * Double(result.unitsOwn) / all, 100 * Double(result.unitsOfNode) / all, 100 * Double(result.unitsOfOthers) / all))
    }
}
