import ArgumentParser
import Engine
import Foundation
import ModelFiles
import Prompt

/// `staffel imatrix MODEL TEXT`.
struct ImatrixCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "imatrix", abstract: "Make an importance matrix of a text, for 'staffel quantize --imatrix'.",
        discussion: """
            The text is cut as 'staffel perplexity' cuts it. For each matrix of the layers the mean square of each of its inputs is written, in \
            GGUF's form for importance matrices (general.type "imatrix"), which llama.cpp reads as well. Use the model in floats, or in the \
            best type that you have, and a text of the kind that it will be used for: some tens of thousands of tokens suffice, more for a model \
            with experts, of which each sees only the tokens that chose it. One that no token chose is weighed evenly.
            """)

    @Argument(help: "A GGUF file, a Hugging Face folder, or the name of a model in the local store.") var model: String
    @Argument(help: "A text file; '-' reads stdin.") var text: String
    @Option(name: [.short, .long], help: "The file to write.") var output: String
    @OptionGroup var evaluation: TextEvaluation
    @OptionGroup var caching: CacheOptions

    func run() async throws {
        let file = try ModelOpener.open(path: ModelPath.resolve(model))
        let chunks = try evaluation.chunks(of: text, Tokenizer(metadata: file.metadata), least: 1)
        let generator = try evaluation.generator(file, kvType: .f32, cache: caching.packedCache(await Settings(configFile: nil)))
        let inputs = try MatrixInputs(model: generator.model, source: file)
        let progress = ProgressLine("evaluating")
        for (index, chunk) in chunks.enumerated() {
            try generator.compute(tokens: chunk, watch: inputs)
            progress.report(done: index + 1, of: chunks.count)
        }
        progress.end()
        let sums = inputs.importance()
        let dataset = text == "-" ? "stdin" : URL(fileURLWithPath: text).lastPathComponent
        let idle = sums.idleExperts
        if idle > 0 { printError("no token of the text chose \(idle) of \(sums.experts) experts; a longer text may.") }
        try sums.write(to: output, dataset: dataset, chunks: chunks.count, chunkTokens: evaluation.context)
        printError(
            "\(output): \(sums.entries.count) matrices from \(chunks.count) chunks of \(evaluation.context) tokens, in \(ProgressLine.clock(progress.seconds))")
    }
}
