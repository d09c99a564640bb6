import ArgumentParser
import CKernels
import Engine
import Foundation
import ModelFiles

/// `lab bench experts`: the products of mixtures of experts beside dense ones.
struct BenchExperts: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "experts", abstract: "Products of mixtures of experts, per active row beside dense ones and the machine's limits.",
        discussion: """
            A row goes through a few of many experts, drawn evenly by --seed; rows times these are active rows. "one by one" is the time of the same
            products expert after expert, over that of the grouped ones: above 1 grouping gains. "dense" is the time of as many rows through one
            expert alone, over that of the grouped ones: 1 is a dense product's speed per active row. That compares like with like only where each
            expert has many rows; with few, a grouped product must read every expert that was chosen, and "of reading", their bytes over the
            bandwidth measured beside, is the measure. "layer" is the time of all that the layer does, over that of its products.

            --json prints {instructionSet, seed, runs: [{threads, type, layers: [{sizes, results: [{rows, activeRows, expertsTouched,
            secondsPerActiveRow, oneByOne, dense, layer, bandwidthShare, peakShare}]}]}]}; each figure is {median, min, max} over its rounds.
            """)

    @Option(help: "Which layer; may be given several times. Without it, all.") var shape: [ExpertShape] = []
    @Option(help: "Tensor type of all experts.") var type = "q4_0"
    @Option(help: "Numbers of threads to measure, separated by commas.") var threads = ThreadCounts([1, 2])
    @Option(help: "Rows, separated by commas.") var rows = "1,4,8,16,64,512"
    @Option(help: "What the choice of experts comes from.") var seed: UInt64 = 1
    @Option(help: "Rounds of each measurement.") var rounds = 5
    @Option(help: "wall, or cpu on a machine that does other work beside.") var clock = Stopwatch.wall
    @Flag(help: "Print one JSON object.") var json = false

    private static let rowsMax = 4096

    func validate() throws {
        guard rounds > 0 else { throw ValidationError("--rounds is at least 1.") }
        _ = try rowCounts()
        let type = try tensorType()
        for shape in shapes where shape.sizes.hidden % type.blockSize != 0 || shape.sizes.width % type.blockSize != 0 {
            throw ValidationError("\(shape.rawValue) has rows that are no multiple of the \(type.blockSize) in a block of \(type.name).")
        }
    }

    private var shapes: [ExpertShape] { shape.isEmpty ? ExpertShape.allCases : shape }

    private func rowCounts() throws -> [Int] {
        try rows.split(separator: ",").map { word in
            guard let count = Int(word), (1...Self.rowsMax).contains(count) else {
                throw ValidationError("--rows holds '\(word)'; it takes numbers from 1 to \(Self.rowsMax), separated by commas.")
            }
            return count
        }
    }

    private func tensorType() throws -> TensorType {
        let supported = TensorType.allCases.filter { sk_type_is_supported(UInt32($0.rawValue)) }
        guard let found = supported.first(where: { $0.name.lowercased() == type.lowercased() }) else {
            throw ValidationError("There are no kernels for '\(type)'.")
        }
        return found
    }

    // MARK: Report

    struct Report: Codable {
        struct Layer: Codable {
            var sizes: ExpertShape.Sizes
            var results: [ExpertBench.Result]
        }
        struct Run: Codable {
            var threads: Int
            var type: String
            var layers: [Layer]
        }
        var instructionSet: String
        var seed: UInt64
        var runs: [Run]
    }

    func run() throws {
        let instructionSet = try InstructionSet.fromEnvironment(), type = try tensorType(), rowCounts = try rowCounts()
        var report = Report(instructionSet: instructionSet.rawValue, seed: seed, runs: [])
        for count in threads.counts {
            let pool = try ComputePool(threads: count)
            let limits = try MachineLimits(pool: pool, instructionSet: instructionSet, clock: clock)
            var run = Report.Run(threads: count, type: type.name, layers: [])
            for shape in shapes {
                let layers = ExpertLayers(shape, type: type, rowsMax: rowCounts.max()!, pool: pool, instructionSet: instructionSet)
                let bench = ExpertBench(layers, type: type, limits: limits, pool: pool, rounds: rounds, clock: clock)
                if !json { showHeading(shape.sizes, threads: count, type, instructionSet) }
                var layer = Report.Layer(sizes: shape.sizes, results: [])
                for rows in rowCounts {
                    layer.results.append(bench.measure(rows: rows, seed: seed))
                    if !json { show(layer.results.last!) }
                }
                run.layers.append(layer)
            }
            report.runs.append(run)
        }
        guard json else { return }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        print(String(decoding: try encoder.encode(report), as: UTF8.self))
    }

    private func showHeading(_ sizes: ExpertShape.Sizes, threads: Int, _ type: TensorType, _ instructionSet: InstructionSet) {
        let layer = "\(sizes.model): \(sizes.used) of \(sizes.experts) experts, \(sizes.hidden) × \(sizes.width)"
        print("\(layer), \(type.name), \(threads) threads, \(instructionSet.rawValue), seed \(seed)")
        print("rows  active  experts   µs a row   one by one   dense   layer   of reading   of peak")
    }

    private func show(_ result: ExpertBench.Result) {
        print(
            String(
                format: "%4d %7d %8.1f %10.2f %12.2f %7.2f %7.2f %10.0f %% %7.0f %%", result.rows, result.activeRows, result.expertsTouched,
                result.secondsPerActiveRow.median * 1e6, result.oneByOne.median, result.dense.median, result.layer.median,
                100 * result.bandwidthShare.median, 100 * result.peakShare.median))
    }
}
