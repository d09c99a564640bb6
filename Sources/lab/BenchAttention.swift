import ArgumentParser
import CKernels
import Engine
import Foundation

/// `lab bench attention`: decoding and prefill over paged keys and values.
struct BenchAttention: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "attention", abstract: "Attention of one sequence, decoding and prefill, beside the machine's limits.",
        discussion: """
            Each case of keys and values kept as f16, f32 or q8_0, with as many query heads to a KV head as --groups says. Decoding is one row behind
            --context positions, prefill --rows rows. Keys and values come from memory, in blocks that lie anywhere. Decoding without grouping is
            bound by reading them; prefill, and decoding with many query heads to each, by arithmetic.

            --json prints {instructionSet, runs: [{threads, results: [{shape: {kv, heads, kvHeads, headWidth, context, rows}, secondsPerCall,
            bytesPerSecond, bandwidthShare, operationsPerSecond, peakShare}]}]}; each figure is {median, min, max} over its rounds.
            """)

    @Option(help: "How keys and values are kept, separated by commas: f16, f32, q8_0.") var kv = "f16,f32,q8_0"
    @Option(help: "Query heads to a KV head, separated by commas.") var groups = "1,8"
    @Option(help: "Query heads; a multiple of each of --groups.") var heads = 64
    @Option(help: "Dimensions of a head.") var headWidth = 128
    @Option(help: "Positions before the first row.") var context = 4096
    @Option(help: "Rows of a prefill; 0 for decoding alone.") var rows = 256
    @Option(help: "Numbers of threads to measure, separated by commas.") var threads = ThreadCounts([1, 2])
    @Option(help: "Rounds of each measurement.") var rounds = 5
    @Option(help: "wall, or cpu on a machine that does other work beside.") var clock = Stopwatch.wall
    @Flag(help: "Print one JSON object.") var json = false

    private static let types: [(name: String, type: sk_kv_type)] = [("f16", SK_KV_F16), ("f32", SK_KV_F32), ("q8_0", SK_KV_Q8)]

    func validate() throws {
        guard rounds > 0, (1...1 << 18).contains(context),
            (0...4096).contains(rows), (1...1024).contains(headWidth), (1...1024).contains(heads) else {
            throw ValidationError("--rounds is at least 1, --context in 1...262144, --rows in 0...4096, --heads and --head-width in 1...1024.")
        }
        _ = try (kvTypes(), groupSizes())
    }

    private func kvTypes() throws -> [(name: String, type: sk_kv_type)] {
        try kv.split(separator: ",").map { word in
            guard let found = Self.types.first(where: { $0.name == word }) else {
                throw ValidationError("--kv holds '\(word)'; it takes f16, f32 and q8_0.")
            }
            return found
        }
    }

    private func groupSizes() throws -> [Int] {
        try groups.split(separator: ",").map { word in
            guard let size = Int(word), size > 0, heads % size == 0 else {
                throw ValidationError("--groups holds '\(word)', which does not divide \(heads) heads.")
            }
            return size
        }
    }

    struct Report: Codable {
        struct Run: Codable {
            var threads: Int
            var results: [AttentionBench.Result]
        }
        var instructionSet: String
        var runs: [Run]
    }

    func run() throws {
        let instructionSet = try InstructionSet.fromEnvironment()
        var report = Report(instructionSet: instructionSet.rawValue, runs: [])
        for count in threads.counts {
            let pool = try ComputePool(threads: count)
            let limits = try MachineLimits(pool: pool, instructionSet: instructionSet, clock: clock)
            var run = Report.Run(threads: count, results: [])
            if !json {
                print("\(count) threads, \(instructionSet.rawValue), \(context) positions before")
                print("kv     heads    rows         µs      GB/s  of reading    GFLOP/s   of peak")
            }
            for rows in rows == 0 ? [1] : [1, rows] {
                for (name, type) in try kvTypes() {
                    for group in try groupSizes() {
                        let shape = AttentionBench.Case(
                            kv: name, heads: heads, kvHeads: heads / group, headWidth: headWidth, context: context, rows: rows)
                        let bench = AttentionBench(shape, type: type, limits: limits, pool: pool, instructionSet: instructionSet, clock: clock)
                        run.results.append(bench.measure(rounds: rounds))
                        if !json { show(run.results.last!) }
                    }
                }
            }
            report.runs.append(run)
        }
        guard json else { return }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        print(String(decoding: try encoder.encode(report), as: UTF8.self))
    }

    private func show(_ result: AttentionBench.Result) {
        print(
            result.shape.kv.padding(toLength: 6, withPad: " ", startingAt: 0)
                + String(
                    format: "%3d/%-3d %6d %10.0f %9.1f %9.0f %% %10.1f %7.0f %%", result.shape.heads, result.shape.kvHeads, result.shape.rows,
                    result.secondsPerCall.median * 1e6, result.bytesPerSecond.median / 1e9, 100 * result.bandwidthShare.median,
                    result.operationsPerSecond.median / 1e9, 100 * result.peakShare.median))
    }
}
