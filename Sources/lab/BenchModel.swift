import ArgumentParser
import Engine
import Foundation
import ModelFiles

/// `lab bench model`: tokens a second of prefill and decode, beside the read bandwidth measured between the runs.
struct BenchModel: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "model", abstract: "Tokens a second of prefill and decode, beside the measured read bandwidth.")

    @Argument(help: "A GGUF file.") var model: String
    @Option(help: "Numbers of threads to measure, separated by commas.") var threads = "1,2"
    @Option(help: "Prompt tokens of the prefill, in one batch.") var pp = 512
    @Option(help: "Tokens decoded one by one.") var tg = 128
    @Option(help: "Runs of each; the median counts.") var runs = 5
    @Option(help: "How tokens are drawn while decoding; 0 takes the likeliest.") var temperature: Float = 0
    @Option(help: "As --temperature.") var topP: Float = 1
    @Option(help: "How keys and values are kept: f16, f32 or q8_0.") var kv = "f16"
    @Flag(help: "Print one JSON object.") var json = false

    func validate() throws {
        guard pp > 0, tg > 0, runs > 0 else { throw ValidationError("--pp, --tg and --runs are at least 1.") }
        guard KVType(rawValue: kv) != nil else { throw ValidationError("--kv is \(KVType.names).") }
        guard try !threadCounts().isEmpty else { throw ValidationError("--threads names no number.") }
    }

    func run() throws {
        let file = try GGUFFile(path: model)
        let configuration = try ModelConfiguration(file: file)
        let instructionSet = try InstructionSet.fromEnvironment()
        let counts = try threadCounts()
        let loader = try ComputePool(threads: counts.max()!)
        let start = ContinuousClock().now
        let weights = try StageWeights(file: file, model: configuration, slice: .whole(configuration), pool: loader)
        let loadSeconds = (ContinuousClock().now - start) / .seconds(1)
        let probe = try ReadProbe(instructionSet: instructionSet)

        var report = Report(
            model: configuration.name, instructionSet: instructionSet.rawValue, weightBytes: weights.byteCount, loadSeconds: loadSeconds, results: [])
        if !json { print(report.heading) }
        for count in counts {
            let result = try measure(weights, threads: count, probe: probe, instructionSet: instructionSet)
            report.results.append(result)
            if !json { print(result.line) }
        }
        if json { print(try report.json()) }
    }

    private func threadCounts() throws -> [Int] {
        try threads.split(separator: ",").map { word in
            guard let count = Int(word), (1...ComputePool.threadsMax).contains(count) else {
                throw ValidationError("--threads holds '\(word)'; it takes numbers from 1 to \(ComputePool.threadsMax), separated by commas.")
            }
            return count
        }
    }

    /// The probe runs before and after each measurement, so that what the machine does besides hits both.
    private func measure(_ weights: StageWeights, threads: Int, probe: ReadProbe, instructionSet: InstructionSet) throws -> Result {
        let pool = try ComputePool(threads: threads)
        let positions = max(pp, tg + 1)
        let blocks = (positions + 31) / 32
        let stage = try Stage(
            weights: weights, kvBlocks: blocks, kvType: KVType(rawValue: kv)!, rowsMax: pp, pool: pool, instructionSet: instructionSet)
        let tokens = (0..<positions).map { Int32(($0 * 7919 + 13) % weights.model.vocabulary) }
        var prefill: [Double] = []
        var decode: [Double] = []
        var bandwidth: [Double] = []
        try Self.prefill(stage, Array(tokens[..<min(pp, 64)]))
        for _ in 0..<runs {
            bandwidth.append(probe.bytesPerSecond(pool))
            prefill.append(Double(pp) / (try Self.seconds { try Self.prefill(stage, Array(tokens[..<pp])) }))
            bandwidth.append(probe.bytesPerSecond(pool))
            decode.append(
                Double(tg)
                    / (try Self.seconds { try Self.decode(stage, Array(tokens[...tg]), SamplingSettings(temperature: temperature, topP: topP)) }))
        }
        return Result(
            threads: threads, prefillTokens: pp, decodeTokens: tg, prefillTokensPerSecond: Self.median(prefill),
            decodeTokensPerSecond: Self.median(decode), readBytesPerSecond: Self.median(bandwidth), weightBytes: weights.byteCount)
    }

    private static func prefill(_ stage: Stage, _ tokens: [Int32]) throws {
        stage.reset()
        let opening = SequenceOpening(sequence: 0, tokens: tokens, promptLength: tokens.count, sampling: .greedy)
        let blocks = (0..<Int32((tokens.count + 31) / 32)).map { $0 }
        _ = try stage.run(
            StageBatch(opens: [opening], segments: [BatchSegment(sequence: 0, start: 0, tokens: tokens, newBlocks: blocks, samples: true)]))
    }

    /// One step a token; the tokens are given, so that all runs do the same work. The first step opens the sequence and counts too.
    private static func decode(_ stage: Stage, _ tokens: [Int32], _ sampling: SamplingSettings) throws {
        stage.reset()
        for position in 0..<(tokens.count - 1) {
            let opening = SequenceOpening(sequence: 0, tokens: [tokens[0]], promptLength: 1, sampling: sampling)
            let segment = BatchSegment(
                sequence: 0, start: position, tokens: [tokens[position]], newBlocks: position % 32 == 0 ? [Int32(position / 32)] : [], samples: true)
            _ = try stage.run(StageBatch(opens: position == 0 ? [opening] : [], segments: [segment]))
        }
    }

    private static func seconds(_ body: () throws -> Void) rethrows -> Double {
        try ContinuousClock().measure(body) / .seconds(1)
    }

    private static func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

    // MARK: Report

    struct Result: Codable {
        var threads: Int
        var prefillTokens: Int
        var decodeTokens: Int
        var prefillTokensPerSecond: Double
        var decodeTokensPerSecond: Double
        var readBytesPerSecond: Double
        var weightBytes: Int

        /// Weights read a second while decoding. All are read for every token: a tied embedding is the head.
        var decodeBytesPerSecond: Double { decodeTokensPerSecond * Double(weightBytes) }

        var line: String {
            let share = 100 * decodeBytesPerSecond / readBytesPerSecond
            return String(
                format: "%7d  %10.1f  %10.1f  %12.2f  %12.2f  %6.0f %%", threads, prefillTokensPerSecond, decodeTokensPerSecond,
                decodeBytesPerSecond / 1e9, readBytesPerSecond / 1e9, share)
        }
    }

    struct Report: Codable {
        var model: String
        var instructionSet: String
        var weightBytes: Int
        var loadSeconds: Double
        var results: [Result]

        var heading: String {
            let what = String(
                format: "%@, %.1f MB of weights a token, %@, loaded in %.2f s", model, Double(weightBytes) / 1e6, instructionSet, loadSeconds)
            return what + "\nthreads  prefill t/s  decode t/s  decode GB/s  can read GB/s   share"
        }

        func json() throws -> String {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
            return String(decoding: try encoder.encode(self), as: UTF8.self)
        }
    }
}
