import ArgumentParser
import ModelFiles

/// `lab convert`: the same model with float weights, for comparison with float evaluations.
struct Convert: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Write a model with its weights widened to floats.")

    enum Target: String, ExpressibleByArgument, CaseIterable {
        case f32, f16, bf16

        var conversion: ConversionRecipe {
            switch self {
            case .f32: .f32
            case .f16: .f16
            case .bf16: .bf16
            }
        }
    }

    @Argument(help: "A GGUF file.") var model: String
    @Argument(help: "The GGUF file to write.") var output: String
    @Option(help: "What the matrices become: f32, f16 or bf16.") var to: Target = .f32

    func run() throws {
        try ModelConversion.convert(GGUFFile(path: model), to: to.conversion, path: output)
    }
}
