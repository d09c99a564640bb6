import ArgumentParser
import Foundation
import ModelFiles
import Prompt

/// `lab bench tokenizer`: bytes a second that one thread encodes.
struct BenchTokenizer: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tokenizer", abstract: "Bytes of text a second that one thread encodes.")

    @Argument(help: "A GGUF file.") var model: String
    @Option(help: "A text file; without it, a licence text that every Debian has.") var text = "/usr/share/common-licenses/GPL-3"
    @Option(help: "How long to measure.") var seconds = 3.0

    func validate() throws {
        guard seconds > 0 else { throw ValidationError("--seconds is above 0.") }
    }

    func run() throws {
        let tokenizer = try Tokenizer(metadata: GGUFFile(path: model).metadata)
        let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: text)))
        guard !bytes.isEmpty else { throw ValidationError("'\(text)' is empty; a benchmark needs a text.") }
        let result = TokenizerBenchmark.run(tokenizer: tokenizer, text: bytes, seconds: seconds)
        print(
            String(
                format: "%@: %d bytes, %d tokens; %.2f MB/s, %.0f tokens/s on one thread (%d passes)", text, bytes.count, result.tokens,
                result.bytesPerSecond / 1e6, result.tokensPerSecond, result.passes))
    }
}
