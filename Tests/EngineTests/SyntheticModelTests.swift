import CKernels
import Engine
import ModelFiles
import Testing

/// Models of `lab synth` in the engine: every type that has kernels, and the mixture as soon as all of its types have.
@Suite struct SyntheticModelTests {
    private static let recipes = SyntheticRecipe.names.filter { name in
        switch SyntheticRecipe(name: name) {
        case .uniform(let type): sk_type_is_supported(UInt32(type.rawValue))
        default: [q4_K, q6_K].allSatisfy { sk_type_is_supported($0) }
        }
    }
    private static let q4_K = UInt32(TensorType.q4_K.rawValue)
    private static let q6_K = UInt32(TensorType.q6_K.rawValue)

    @Test(arguments: recipes, ["tiny", "tiny-qwen2"]) func logitsAreFiniteAndSpread(recipe: String, shape: String) throws {
        let model = try SyntheticModel(shape: #require(.named(shape)), recipe: #require(SyntheticRecipe(name: recipe)), seed: 5)
        let file = try GGUFFile(parts: [try model.bytes()])
        var options = LocalGenerator.Options()
        options.threads = 1
        let generator = try LocalGenerator(file: file, options: options)
        var logits: [Float] = []
        try generator.logits(tokens: [1, 200, 17, 42, 311, 8]) { _, row in logits += row }
        #expect(logits.count == 6 * model.configuration.vocabulary && logits.allSatisfy { $0.isFinite })
        let meanSquare = logits.reduce(0) { $0 + $1 * $1 } / Float(logits.count)
        #expect((4...16).contains(meanSquare), "a deviation of 3 is meant; the mean square is \(meanSquare)")
    }
}
