import ArgumentParser
import Foundation
import ModelFiles
import Prompt

/// `lab tokenize`: the token ids of a text file, as `lab logits` takes them.
struct Tokenize: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Print the token ids of a text file, one a line.")

    @Argument(help: "A GGUF file.") var model: String
    @Option(help: "A UTF-8 text file.") var text: String

    func run() throws {
        let tokenizer = try Tokenizer(metadata: GGUFFile(path: model).metadata)
        let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: text)))
        let ids = tokenizer.encode(bytes, addSpecial: false, parseSpecial: false)
        print(ids.map(String.init).joined(separator: "\n"))
    }
}
