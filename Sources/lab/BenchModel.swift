import ArgumentParser
import Engine
import Foundation
import ModelFiles

/// `lab bench model`: tokens a second of prefill and decode, beside what arithmetic and memory allow.
struct BenchModel: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "model", abstract: "Tokens a second of prefill and decode beside the measured limits of the machine.",
        discussion: """
            pp N is a prompt of N tokens in one batch, tg N are N tokens one by one, batch S is S sequences with a token each in every step, all
            with nothing before them. Beside a prefill stands its share of the peak of its weights' arithmetic, beside a decode the share of the
            read bandwidth, which is measured every quarter of a second between the steps. Figures are medians over the runs.

            --json prints {model, instructionSet, kv, loadSeconds, packedBytes, weightBytesPerToken, runs: [{threads, kvBytes, probeBytes, memory:
            {residentBytes, anonymousBytes, peakBytes}, prefill: {tokens, tokensPerSecond, shareOfPeak}, decode: [{sequences, steps,
            bytesPerStep, tokensPerSecond, bytesPerSecond, readBytesPerSecond, shareOfBandwidth}]}]}; what changes from run to run is {median,
            min, max}. Memory contains probeBytes, which belong to the measurement.

            --serve loads the model once, with the largest of --threads, and then measures what lines on its input ask: 'pp N', 'tg N',
            'batch S N', 'probe' or 'memory'; each answer is one line of JSON. --pp, --tg and --batch are the most that may be asked.
            """)

    @Argument(help: "A GGUF file.") var model: String
    @Option(help: "Numbers of threads to measure, separated by commas.") var threads = ThreadCounts([1, 2])
    @Option(help: "Prompt tokens of the prefill, in one batch.") var pp = 512
    @Option(help: "Tokens decoded one by one.") var tg = 128
    @Option(help: "Numbers of sequences that decode together, separated by commas; 1 is --tg.") var batch = "4,8,16"
    @Option(help: "Steps of such a batch.") var steps = 32
    @Option(help: "Runs of each; the median counts.") var runs = 3
    @Option(help: "How tokens are drawn while decoding; 0 takes the likeliest.") var temperature: Float = 0
    @Option(help: "As --temperature.") var topP: Float = 1
    @Option(help: "How keys and values are kept: \(KVType.allCases.map(\.rawValue).joined(separator: ", ")).") var kv = "f16"
    @Flag(help: "Print one JSON object.") var json = false
    @Flag(help: "Measure what lines on the standard input ask.") var serve = false

    private static let sequencesMax = 512

    func validate() throws {
        guard pp > 0, tg > 0, steps > 0, runs > 0 else { throw ValidationError("--pp, --tg, --steps and --runs are at least 1.") }
        guard KVType(rawValue: kv) != nil else {
            throw ValidationError("--kv is one of \(KVType.allCases.map(\.rawValue).joined(separator: ", ")).")
        }
        _ = try batches()
    }

    func run() throws {
        let instructionSet = try InstructionSet.fromEnvironment()
        let loaded = try load()
        if serve {
            let bench = try self.bench(loaded, threads: threads.counts.max()!, instructionSet: instructionSet)
            return try ModelBenchServer(bench, limits: .init(pp: pp, tg: tg, sequences: try batches().max() ?? 1, steps: steps)).run()
        }
        var report = ModelBenchReport(
            model: loaded.weights.model.name, instructionSet: instructionSet.rawValue, kv: kv, loadSeconds: loaded.seconds,
            packedBytes: loaded.weights.byteCount, weightBytesPerToken: loaded.work.weightBytes, runs: [])
        if !json { print(report.heading) }
        for count in threads.counts {
            let run = try measure(bench(loaded, threads: count, instructionSet: instructionSet))
            report.runs.append(run)
            if !json { print(run.lines) }
        }
        if json { print(try report.json()) }
    }

    private func batches() throws -> [Int] {
        try batch.split(separator: ",").map { word in
            guard let count = Int(word), (1...Self.sequencesMax).contains(count) else {
                throw ValidationError("--batch holds '\(word)'; it takes numbers from 1 to \(Self.sequencesMax), separated by commas.")
            }
            return count
        }.filter { $0 > 1 }
    }

    // MARK: Loading

    private struct Loaded {
        let weights: StageWeights
        let work: ModelWork
        let seconds: Double
    }

    /// The file is let go when the weights are packed: its pages would count as this process's memory.
    private func load() throws -> Loaded {
        let file = try GGUFFile(path: model)
        let configuration = try ModelConfiguration(file: file)
        let positions = max(pp, tg, steps)
        guard positions <= configuration.contextLength else {
            throw ValidationError("\(positions) positions are asked for, but the model was made for \(configuration.contextLength).")
        }
        let loader = try ComputePool(threads: threads.counts.max()!)
        let start = ContinuousClock().now
        let weights = try StageWeights(file: file, model: configuration, slice: .whole(configuration), pool: loader)
        let seconds = (ContinuousClock().now - start) / .seconds(1)
        return Loaded(weights: weights, work: ModelWork(file: file, model: configuration, kvType: KVType(rawValue: kv)!), seconds: seconds)
    }

    private func bench(_ loaded: Loaded, threads: Int, instructionSet: InstructionSet) throws -> ModelBench {
        let most = try batches().max() ?? 1
        return try ModelBench(
            weights: loaded.weights, work: loaded.work, threads: threads, kvType: KVType(rawValue: kv)!, rowsMax: max(pp, most), blocks: blocks(),
            instructionSet: instructionSet)
    }

    private func blocks() throws -> Int {
        let most = try batches().max() ?? 1
        return max(ModelBench.blocks(sequences: 1, positions: max(pp, tg)), ModelBench.blocks(sequences: most, positions: steps))
    }

    // MARK: Measuring

    private func measure(_ bench: ModelBench) throws -> ModelBenchReport.Run {
        let sampling = SamplingSettings(temperature: temperature, topP: topP)
        let settings = [(sequences: 1, steps: tg)] + (try batches().map { (sequences: $0, steps: steps) })
        var prefills: [ModelBench.Prefill] = []
        var decodes = [[ModelBench.Decode]](repeating: [], count: settings.count)
        // Threads wake, pages come.
        _ = try bench.prefill(tokens: min(pp, 64))
        for _ in 0..<runs {
            prefills.append(try bench.prefill(tokens: pp))
            for (index, setting) in settings.enumerated() {
                decodes[index].append(try bench.decode(sequences: setting.sequences, steps: setting.steps, sampling: sampling))
            }
        }
        return ModelBenchReport.Run(
            threads: bench.pool.threads, kvBytes: bench.kvBytes, probeBytes: MachineLimits.probeBytes, memory: ProcessMemory.now(),
            prefill: .init(prefills), decode: decodes.map(ModelBenchReport.Decode.init))
    }
}
