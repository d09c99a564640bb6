import ArgumentParser
import Foundation
import ModelFiles

/// `lab quantise`: the same model in another format.
struct Quantise: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write a model in another format.",
        discussion: """
            Vectors stay F32. The output head, or a tied embedding, gets Q6_K where the type has fewer bits, unless --output-type or
            --token-embedding-type says otherwise. Matrices whose columns are no multiple of 256 get, instead of a K format, the nearest
            format with blocks of 32. A model that is quantised already loses accuracy twice: begin with F32, F16 or BF16 where
            you can.
            """)

    @Argument(help: "A GGUF file.") var model: String
    @Argument(help: "The GGUF file to write.") var output: String
    @Option(help: ArgumentHelp("What most matrices become: \(Quantise.names)."), transform: Quantise.preset) var type: ConversionRecipe.Preset
    @Option(help: "What the token embedding becomes.", transform: Quantise.tensorType) var tokenEmbeddingType: TensorType?
    @Option(help: "What the output head becomes.", transform: Quantise.tensorType) var outputType: TensorType?
    @Option(help: "Threads.") var threads = ProcessInfo.processInfo.activeProcessorCount

    func validate() throws {
        guard (1...ModelConversion.threadsMax).contains(threads) else {
            throw ValidationError("--threads is 1 to \(ModelConversion.threadsMax).")
        }
    }

    func run() throws {
        let file = try GGUFFile(path: model)
        if file.tensors.contains(where: { !$0.type.isFloat }) {
            say("'\(model)' is quantised already; its errors stay in what is made of it.\n")
        }
        let start = ContinuousClock().now
        let interactive = isatty(FileHandle.standardError.fileDescriptor) == 1
        try ModelConversion.convert(
            file, to: ConversionRecipe(type, tokenEmbedding: tokenEmbeddingType, output: outputType), path: output, threads: threads
        ) { progress in
            guard interactive else { return }
            let share = 100 * Double(progress.elementsDone) / Double(progress.elements)
            say(String(format: "\r%5.1f %%  %@ to %@\u{1B}[K", share, progress.tensor, progress.type.name))
        }
        let seconds = (ContinuousClock().now - start) / .seconds(1)
        let elements = Double(file.tensors.reduce(0) { $0 + $1.elementCount })
        let written = try GGUFFile(path: output)
        let bits = 8 * Double(written.tensors.reduce(0) { $0 + $1.byteCount }) / elements
        say((interactive ? "\r\u{1B}[K" : "") + String(format: "%.1f million weights, %.2f bits each, in %.1f s\n", elements / 1e6, bits, seconds))
    }

    private func say(_ text: String) { FileHandle.standardError.write(Data(text.utf8)) }

    private static let names = ConversionRecipe.Preset.known.map(\.name).joined(separator: ", ")

    private static func preset(_ name: String) throws -> ConversionRecipe.Preset {
        guard let preset = ConversionRecipe.Preset.known.first(where: { $0.name == name.lowercased() }) else {
            throw ValidationError("'\(name)' is no type that can be written; known are \(names).")
        }
        return preset
    }

    private static func tensorType(_ name: String) throws -> TensorType {
        guard let type = TensorType.allCases.first(where: { $0.name.lowercased() == name.lowercased() }) else {
            throw ValidationError(
                "'\(name)' is no tensor format; known are \(TensorType.allCases.map { $0.name.lowercased() }.joined(separator: ", ")).")
        }
        return type
    }
}
