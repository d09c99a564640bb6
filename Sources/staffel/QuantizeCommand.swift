import ArgumentParser
import Foundation
import ModelFiles

/// `staffel quantize IN OUT TYPE`: a model in another format, as one GGUF file.
struct QuantizeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "quantize", abstract: "Write a model in another format.",
        discussion: """
            TYPE is \(ConversionRecipe.Preset.usualNames.joined(separator: ", ")), or q3_k, q4_k, q5_k for the medium mixes. A mix gives more bits \
            to the matrices that need them; --pure gives all the same. Vectors stay F32. The output head, or a tied embedding, gets Q6_K \
            where the type has fewer bits. Matrices whose columns are no multiple of 256 get, instead of a K format, the nearest format with \
            blocks of 32. The output is the same bytes for any number of threads and appears under its name only when it is whole.

            A model that is quantised already loses accuracy twice: begin with F32, F16 or BF16 where you can.
            """)

    @Argument(help: "A GGUF file, or the name of a model in the local store.") var model: String
    @Argument(help: "The GGUF file to write; one that is there is replaced.") var output: String
    @Argument(help: "What most matrices become, such as q4_k_m.") var type: String
    @Option(help: "Importance matrix that 'staffel imatrix' made of this model: errors count as much as the inputs they meet.") var imatrix: String?
    @Flag(help: "The same format for all matrices but the output head.") var pure = false
    @Option(help: "What the token embedding becomes.") var tokenEmbeddingType: String?
    @Option(help: "What the output head becomes.") var outputType: String?
    @Option(help: "Threads. (default: the machine's cores)") var threads: Int?

    func run() async throws {
        let recipe = try recipe()
        let threads = threads ?? ProcessInfo.processInfo.activeProcessorCount
        guard (1...ModelConversion.threadsMax).contains(threads) else {
            throw ValidationError("--threads is \(threads): give a number in 1...\(ModelConversion.threadsMax)")
        }
        let file = try GGUFFile(path: ModelPath.resolve(model))
        let importance = try imatrix.map { try ImportanceMatrix(path: $0) }
        if file.tensors.contains(where: { !$0.type.isFloat }) {
            printError("'\(model)' is quantised already; its errors stay in what is made of it.")
        }
        let unweighed = importance.map { importance in
            file.tensors.filter { $0.shape.count > 1 && QuantisationMix.isLayerMatrix($0.name) && !importance.covers($0) }.map(\.name)
        } ?? []
        if !unweighed.isEmpty {
            printError("the importance matrix says nothing of \(unweighed.count) matrices, such as '\(unweighed[0])'; their errors all count the same.")
        }
        let progress = ProgressLine("quantizing")
        try ModelConversion.convert(file, to: recipe, importance: importance, path: output, threads: threads) { done in
            progress.report(done: done.elementsDone, of: done.elements, "\(done.tensor) to \(done.type.name)")
        }
        progress.end()
        let elements = file.tensors.reduce(0) { $0 + $1.elementCount }
        let written = try GGUFFile(path: output)
        let bits = 8 * Double(written.tensors.reduce(0) { $0 + $1.byteCount }) / Double(max(1, elements))
        printError(
            String(
                format: "%@: %.1f million weights of %.2f bits each, %.1f MiB, in %.1f s", output, Double(elements) / 1e6, bits,
                Double(written.fileBytes) / 0x1p20, progress.seconds))
    }

    private func recipe() throws -> ConversionRecipe {
        guard let usual = ConversionRecipe.Preset.usual(named: type) else {
            throw ValidationError("'\(type)' is no type that can be written; known are \(ConversionRecipe.Preset.usualNames.joined(separator: ", "))")
        }
        return ConversionRecipe(
            pure ? .all(usual.type) : usual, tokenEmbedding: try Self.format("--token-embedding-type", tokenEmbeddingType),
            output: try Self.format("--output-type", outputType))
    }

    private static func format(_ flag: String, _ name: String?) throws -> TensorType? {
        guard let name else { return nil }
        guard let type = TensorType.allCases.first(where: { $0.name.lowercased() == name.lowercased() }) else {
            let known = TensorType.allCases.map { $0.name.lowercased() }.joined(separator: ", ")
            throw ValidationError("\(flag) is '\(name)', which is no tensor format; known are \(known)")
        }
        return type
    }
}
