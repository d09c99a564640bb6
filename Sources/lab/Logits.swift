import ArgumentParser
import Engine
import Foundation
import ModelFiles

/// `lab logits`: what the engine computes, for comparison with other evaluations of the same weights.
struct Logits: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write the logits after each token.",
        discussion: """
            The output is little-endian 32-bit floats, a row of the vocabulary's size for each token, in order. With --window N the
            tokens are cut into pieces of N, each evaluated as a sequence of its own.
            """)

    @Argument(help: "A GGUF file.") var model: String
    @Option(help: "A text file of token ids, separated by white space.") var tokens: String
    @Option(help: "Where the logits go.") var output: String
    @Option(help: "Tokens of a sequence; 0 for all in one.") var window = 0
    @Option(help: "Threads.") var threads = ProcessInfo.processInfo.activeProcessorCount
    @Option(help: "How keys and values are kept: f16, f32 or q8_0.") var kv = "f16"

    func validate() throws {
        guard window >= 0 else { throw ValidationError("--window is 0 or more.") }
        guard KVType(rawValue: kv) != nil else { throw ValidationError("--kv is \(KVType.names).") }
    }

    func run() throws {
        let ids = try readTokens()
        var options = LocalGenerator.Options()
        options.threads = threads
        options.kvType = KVType(rawValue: kv)!
        let generator = try LocalGenerator(file: ModelOpener.open(path: model), options: options)
        if let wrong = ids.first(where: { $0 < 0 || $0 >= generator.model.vocabulary }) {
            throw ValidationError("Token \(wrong) is not in the model's vocabulary of \(generator.model.vocabulary).")
        }

        guard FileManager.default.createFile(atPath: output, contents: nil), let file = FileHandle(forWritingAtPath: output) else {
            throw ValidationError("'\(output)' cannot be written.")
        }
        defer { try? file.close() }
        let size = window == 0 ? ids.count : window
        for start in stride(from: 0, to: ids.count, by: size) {
            var failure: (any Error)?
            try generator.logits(tokens: Array(ids[start..<min(start + size, ids.count)])) { _, logits in
                guard failure == nil else { return }
                do { try file.write(contentsOf: Data(buffer: logits)) } catch { failure = error }
            }
            if let failure { throw failure }
        }
    }

    private func readTokens() throws -> [Int32] {
        let text = try String(contentsOfFile: tokens, encoding: .utf8)
        let ids = try text.split(whereSeparator: \.isWhitespace).map { word in
            guard let id = Int32(word) else { throw ValidationError("'\(tokens)' holds '\(word)', which is no token id.") }
            return id
        }
        guard !ids.isEmpty else { throw ValidationError("'\(tokens)' holds no token id.") }
        return ids
    }
}
