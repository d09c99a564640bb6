import ArgumentParser
import Engine
import Foundation
import ModelFiles
import Prompt

/// `staffel perplexity MODEL TEXT`.
struct PerplexityCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "perplexity", abstract: "Measure how well a model foretells a text.",
        discussion: """
            By llama.cpp's definition, so figures compare: the text is cut into chunks of --context tokens, each a sequence of its own that begins \
            with BOS where the model has one; of each chunk the tokens behind its first half count. Prints the estimate after each chunk \
            and at the end PPL = exp(mean of -log p) with its standard error.
            """)

    @Argument(help: "A GGUF file, a Hugging Face folder, or the name of a model in the local store.") var model: String
    @Argument(help: "A text file; '-' reads stdin.") var text: String
    @OptionGroup var evaluation: TextEvaluation
    @Option(help: "How keys and values are kept: f16, f32 or q8_0 (8 bits).") var kvType = "f16"
    @Option(help: "Write -log p of each token that counts to this file, one a line, for comparisons token by token.") var losses: String?
    @OptionGroup var caching: CacheOptions
    @Flag(help: "Print JSON.") var json = false

    func run() async throws {
        guard let kvType = KVType(rawValue: kvType) else { throw ValidationError("--kv-type is '\(kvType)': give \(KVType.names)") }
        let file = try ModelOpener.open(path: ModelPath.resolve(model))
        let chunks = try evaluation.chunks(of: text, Tokenizer(metadata: file.metadata), least: 2)
        let generator = try evaluation.generator(file, kvType: kvType, cache: caching.packedCache(await Settings(configFile: nil)))
        let start = ContinuousClock.now
        let (perplexity, told) = try measured(chunks, generator)
        if let losses { try write(told, to: losses) }
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        if json { return print(try report(perplexity, chunks: chunks.count, seconds: seconds)) }
        print(String(format: "PPL = %.4f +/- %.5f", perplexity.value, perplexity.error))
        printError(String(format: "%d chunks of %d tokens in %.1f s", chunks.count, evaluation.context, seconds))
    }

    private func measured(_ chunks: [[Int32]], _ generator: LocalGenerator) throws -> (Perplexity, losses: [Double]) {
        var perplexity = Perplexity(), losses: [Double] = []
        let progress = ProgressLine("evaluating")
        for (index, chunk) in chunks.enumerated() {
            losses += try generator.measure(chunk: chunk, into: &perplexity)
            if !json {
                progress.end()
                print(String(format: "[%d] %.4f", index + 1, perplexity.value))
            }
            progress.report(done: index + 1, of: chunks.count)
        }
        progress.end()
        return (perplexity, losses)
    }

    private func write(_ told: [Double], to path: String) throws {
        let text = told.map { "\($0)\n" }.joined()
        do {
            try text.write(toFile: path, atomically: true, encoding: .utf8)
        } catch {
            throw CommandFailure("'\(path)' can't be written: \(error.localizedDescription)")
        }
    }

    private func report(_ perplexity: Perplexity, chunks: Int, seconds: Double) throws -> String {
        let object: [String: Any] = [
            "perplexity": perplexity.value, "error": perplexity.error, "mean_loss": perplexity.mean, "tokens": perplexity.count, "chunks": chunks,
            "context": evaluation.context, "kv_type": kvType, "seconds": seconds,
        ]
        return String(decoding: try JSONSerialization.data(withJSONObject: object, options: [.prettyPrinted, .sortedKeys]), as: UTF8.self)
    }
}
