import ArgumentParser
import Engine
import Foundation

/// `lab bench step`: what a decode step does beside its products.
struct BenchStep: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "step", abstract: "What a decode step of the 72B shape does beside its products.",
        discussion: """
            One row of Qwen2-72B, 80 layers, with keys and values in f16. The step is the time in which its weights, 4.5 bits each, are read at the
            bandwidth measured beside, and all pieces. Times are medians over rounds of the mean of a hundred calls.

            --json prints [{threads, context, stepSeconds, pieces: [{name, times, seconds, share}]}].
            """)

    @Option(help: "Numbers of threads to measure, separated by commas.") var threads = ThreadCounts([1, 2])
    @Option(help: "Positions that attention sees.") var context = 1024
    @Option(help: "Rounds of each measurement.") var rounds = 9
    @Flag(help: "Print one JSON array.") var json = false

    private static let calls = 100
    private static let bytesPerWeight = 4.5 / 8

    func validate() throws {
        guard (1...1 << 20).contains(context), rounds > 0 else { throw ValidationError("--context is in 1...1048576, --rounds at least 1.") }
    }

    struct Result: Codable {
        struct Piece: Codable {
            var name: String
            var times: Int
            var seconds: Double
            var share: Double
        }

        var threads: Int
        var context: Int
        var stepSeconds: Double
        var pieces: [Piece]
    }

    func run() throws {
        let instructionSet = try InstructionSet.fromEnvironment()
        var results: [Result] = []
        for count in threads.counts {
            let pool = try ComputePool(threads: count)
            let result = try measure(pool, instructionSet)
            results.append(result)
            if !json { show(result, instructionSet) }
        }
        guard json else { return }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        print(String(decoding: try encoder.encode(results), as: UTF8.self))
    }

    private func measure(_ pool: ComputePool, _ instructionSet: InstructionSet) throws -> Result {
        let limits = try MachineLimits(pool: pool, instructionSet: instructionSet)
        let pieces = DecodePieces(pool: pool, instructionSet: instructionSet, context: context).all()
        let bandwidth = Spread((0..<rounds).map { _ in limits.readBytesPerSecond() }).median
        let weights = Double(DecodePieces.layers * DecodePieces.layerWeights + DecodePieces.hidden * DecodePieces.vocabulary)
        let seconds = pieces.map { piece in
            piece.run()
            return Spread(
                (0..<rounds).map { _ in
                    Stopwatch.wall.seconds(threads: pool.threads) { for _ in 0..<Self.calls { piece.run() } } / Double(Self.calls)
                }).median
        }
        let step = weights * Self.bytesPerWeight / bandwidth + zip(pieces, seconds).reduce(0) { $0 + Double($1.0.times) * $1.1 }
        return Result(
            threads: pool.threads, context: context, stepSeconds: step,
            pieces: zip(pieces, seconds).map { Result.Piece(name: $0.name, times: $0.times, seconds: $1, share: Double($0.times) * $1 / step) })
    }

    private func show(_ result: Result, _ instructionSet: InstructionSet) {
        print(String(format: "%d threads, %@, %d positions; a step takes %.0f ms", result.threads, instructionSet.rawValue, context, result.stepSeconds * 1e3))
        print("piece                               µs   times   of the step")
        for piece in result.pieces {
            print(piece.name.padding(toLength: 31, withPad: " ", startingAt: 0) + String(format: "%8.1f %7d %11.2f %%", piece.seconds * 1e6, piece.times, 100 * piece.share))
        }
    }
}
