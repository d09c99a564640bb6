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

            Models with one vocabulary are told apart more sharply by their distributions: keep one model's logits with --save-logits, then \
            measure the others with --against, which adds the mean KL divergence from that model and the share of tokens at which both find \
            the same one likeliest.
            """)

    @Argument(help: "A GGUF file, a Hugging Face folder, or the name of a model in the local store.") var model: String
    @Argument(help: "A text file; '-' reads stdin.") var text: String
    @OptionGroup var evaluation: TextEvaluation
    @Option(help: "How keys and values are kept: f16, f32 or q8_0 (8 bits).") var kvType = "f16"
    @Option(help: "Write -log p of each token that counts to this file, one a line, for comparisons token by token; with --against its divergence behind it.") var losses: String?
    @Option(help: "Keep the logits of each token that counts in this file: four bytes times the vocabulary for each.") var saveLogits: String?
    @Option(help: "A file that --save-logits made of another model from the same text: tell how far this model's distributions are from it.")
    var against: String?
    @OptionGroup var caching: CacheOptions
    @Flag(help: "Print JSON.") var json = false

    func run() async throws {
        guard let kvType = KVType(rawValue: kvType) else { throw ValidationError("--kv-type is '\(kvType)': give \(KVType.names)") }
        let file = try ModelOpener.open(path: ModelPath.resolve(model))
        let chunks = try evaluation.chunks(of: text, Tokenizer(metadata: file.metadata), least: 2)
        let generator = try evaluation.generator(file, kvType: kvType, cache: caching.packedCache(await Settings(configFile: nil)))
        let start = ContinuousClock.now
        let found = try measured(chunks, generator)
        if let losses { try write(found.lines, to: losses) }
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        if json { return print(try report(found, chunks: chunks.count, seconds: seconds)) }
        print(String(format: "PPL = %.4f +/- %.5f", found.perplexity.value, found.perplexity.error))
        if let far = found.divergence {
            print(String(format: "KL = %.6f +/- %.6f, same likeliest token %.2f %%", far.mean, far.error, 100 * far.agreement))
        }
        printError(String(format: "%d chunks of %d tokens in %.1f s", chunks.count, evaluation.context, seconds))
    }

    private struct Findings {
        let perplexity: Perplexity
        /// Nil where there is nothing to compare with.
        let divergence: Divergence?
        /// Of each token that counts: its loss, and its divergence.
        let lines: [String]
    }

    private func measured(_ chunks: [[Int32]], _ generator: LocalGenerator) throws -> Findings {
        let outline = LogitsFile.Outline(
            chunks: chunks, vocabulary: generator.model.vocabulary,
            countedInChunk: Perplexity.countedInChunk(contextTokens: evaluation.context))
        let reference = try against.map { try LogitsFile(path: $0, outline) }
        let kept = try saveLogits.map { try LogitsWriter(path: $0, outline) }
        do {
            let found = try measured(chunks, generator, reference, kept)
            try kept?.finish()
            return found
        } catch {
            kept?.abandon()
            throw error
        }
    }

    private func measured(
        _ chunks: [[Int32]], _ generator: LocalGenerator, _ reference: LogitsFile?, _ kept: LogitsWriter?
    ) throws -> Findings {
        var perplexity = Perplexity(), divergence = Divergence(), lines: [String] = []
        let progress = ProgressLine("evaluating")
        for (index, chunk) in chunks.enumerated() {
            var divergences: [Double] = [], failure: (any Error)?
            let losses = try generator.measure(chunk: chunk, into: &perplexity) { logits in
                if let kept, failure == nil {
                    do { try kept.add(logits) } catch { failure = error }
                }
                guard let reference else { return }
                divergences.append(reference.withRow(divergence.count) { divergence.add(logits, reference: $0) })
            }
            if let failure { throw failure }
            lines += losses.indices.map { "\(losses[$0])" + (divergences.isEmpty ? "" : " \(divergences[$0])") }
            if !json {
                progress.end()
                print(String(format: "[%d] %.4f", index + 1, perplexity.value))
            }
            progress.report(done: index + 1, of: chunks.count)
        }
        progress.end()
        return Findings(perplexity: perplexity, divergence: reference == nil ? nil : divergence, lines: lines)
    }

    private func write(_ lines: [String], to path: String) throws {
        let text = lines.map { $0 + "\n" }.joined()
        do {
            try text.write(toFile: path, atomically: true, encoding: .utf8)
        } catch {
            throw CommandFailure("'\(path)' can't be written: \(error.localizedDescription)")
        }
    }

    private func report(_ found: Findings, chunks: Int, seconds: Double) throws -> String {
        let perplexity = found.perplexity
        var object: [String: Any] = [
            "perplexity": perplexity.value, "error": perplexity.error, "mean_loss": perplexity.mean, "tokens": perplexity.count, "chunks": chunks,
            "context": evaluation.context, "kv_type": kvType, "seconds": seconds,
        ]
        if let far = found.divergence {
            object["divergence"] = far.mean
            object["divergence_error"] = far.error
            object["same_likeliest"] = far.agreement
        }
        return String(decoding: try JSONSerialization.data(withJSONObject: object, options: [.prettyPrinted, .sortedKeys]), as: UTF8.self)
    }
}
