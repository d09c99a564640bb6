import ArgumentParser
import Engine
import Foundation

/// `lab bench rows`: norms, RoPE, quantising, gates, residuals, and the drawing of tokens.
struct BenchRows: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rows", abstract: "Norms, RoPE, quantising, gates and the drawing of tokens, by the row.",
        discussion: """
            Rows are those of the 72B shape. One row stays on one thread and in its caches, many are shared out. GB/s are the floats and quants read
            and written; what memory gives is measured beside. Tokens are drawn from 152,064 logits: a flat row is normal with deviation 1, a peaked
            one has eight that stand out. The sampler is Swift: only a release build tells how fast it is.

            --json prints [{threads, readBytesPerSecond, results: [{name, rows, secondsPerRow, bytesPerSecond}]}]; each figure is {median, min,
            max} over its rounds.
            """)

    @Option(help: "Numbers of threads to measure, separated by commas.") var threads = ThreadCounts([1, 2])
    @Option(help: "Rows of a prefill.") var rows = 256
    @Option(help: "Rounds of each measurement.") var rounds = 9
    @Option(help: "wall, or cpu on a machine that does other work beside.") var clock = Stopwatch.wall
    @Flag(help: "Print one JSON array.") var json = false

    func validate() throws {
        guard rounds > 0, (2...4096).contains(rows) else { throw ValidationError("--rounds is at least 1, --rows in 2...4096.") }
    }

    struct Run: Codable {
        var threads: Int
        var readBytesPerSecond: Spread
        var results: [RowBench.Result]
    }

    func run() throws {
        let instructionSet = try InstructionSet.fromEnvironment()
        var runs: [Run] = []
        for count in threads.counts {
            let pool = try ComputePool(threads: count)
            let limits = try MachineLimits(pool: pool, instructionSet: instructionSet, clock: clock)
            let bench = RowBench(pool: pool, instructionSet: instructionSet, rowsMax: rows)
            var run = Run(threads: count, readBytesPerSecond: Spread((0..<rounds).map { _ in limits.readBytesPerSecond() }), results: [])
            if !json {
                print(String(format: "%d threads, %@, reading memory %.1f GB/s", count, instructionSet.rawValue, run.readBytesPerSecond.median / 1e9))
                print("piece                                      rows   µs a row     GB/s")
            }
            for piece in bench.rowPieces(rows: 1) + bench.rowPieces(rows: rows) + bench.draws() {
                run.results.append(bench.measure(piece, rounds: rounds, clock: clock))
                if !json { show(run.results.last!) }
            }
            runs.append(run)
        }
        guard json else { return }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        print(String(decoding: try encoder.encode(runs), as: UTF8.self))
    }

    private func show(_ result: RowBench.Result) {
        print(
            result.name.padding(toLength: 42, withPad: " ", startingAt: 0)
                + String(format: "%5d %10.2f %8.1f", result.rows, result.secondsPerRow.median * 1e6, result.bytesPerSecond.median / 1e9))
    }
}
