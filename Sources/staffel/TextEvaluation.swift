import ArgumentParser
import Engine
import Foundation
import ModelFiles
import Prompt

/// What the commands share that evaluate a model on a text.
struct TextEvaluation: ParsableArguments {
    @Option(help: "Tokens of a chunk, each a sequence of its own.")
    var context = 512

    @Option(help: "Evaluate so many chunks at most. (default: all)")
    var chunks: Int?

    @Option(help: "Compute threads. (default: the machine's cores)")
    var threads: Int?

    func validate() throws {
        guard (4...1 << 20).contains(context) else { throw ValidationError("--context is \(context): give a number of tokens in 4...\(1 << 20)") }
        if let chunks, chunks < 1 { throw ValidationError("--chunks is \(chunks): give at least 1") }
        if let threads, !(1...ComputePool.threadsMax).contains(threads) {
            throw ValidationError("--threads is \(threads): give a number in 1...\(ComputePool.threadsMax)")
        }
    }

    /// The chunks of a text file. As llama.cpp's tools do it, one line break at its end does not count.
    ///
    /// Throws when the text has too few tokens.
    func chunks(of path: String, _ tokenizer: Tokenizer, least: Int) throws -> [[Int32]] {
        let bytes: [UInt8]
        do {
            bytes = [UInt8](path == "-" ? FileHandle.standardInput.readDataToEndOfFile() : try Data(contentsOf: URL(fileURLWithPath: path)))
        } catch {
            throw CommandFailure("the text '\(path)' can't be read: \(error.localizedDescription)")
        }
        let text = bytes.last == UInt8(ascii: "\n") ? Array(bytes.dropLast()) : bytes
        let tokens = tokenizer.encode(text, addSpecial: true, parseSpecial: false)
        guard tokens.count >= least * context else {
            throw CommandFailure("the text has \(tokens.count) tokens, but at least \(least * context) are needed: give a longer one, or a smaller --context")
        }
        let bos = tokenizer.addsBOS ? tokenizer.bosToken?.id : nil
        let count = min(Perplexity.chunks(tokens: tokens.count, contextTokens: context), chunks ?? .max)
        return (0..<count).map { Perplexity.chunk($0, of: tokens, contextTokens: context, bos: bos) }
    }

    func generator(_ file: any ModelSource, kvType: KVType, cache: PackedCache?) throws -> LocalGenerator {
        var options = LocalGenerator.Options()
        options.threads = threads ?? ProcessInfo.processInfo.activeProcessorCount
        options.kvType = kvType
        options.cache = cache
        options.instructionSet = try InstructionSet.fromEnvironment()
        let progress = ProgressLine("loading")
        let generator = try LocalGenerator(file: file, options: options) { done, total in progress.report(done: done, of: total) }
        progress.end()
        guard context <= generator.contextLength else {
            throw ValidationError("--context is \(context), but the model was made for \(generator.contextLength) tokens")
        }
        return generator
    }
}
