import Testing

@testable import ModelFiles

@Suite struct SyntheticModelTests {
    static let recipes = SyntheticRecipe.names

    private func model(_ recipe: String, shape: String = "tiny", layers: Int? = nil, seed: UInt64 = 7) throws -> SyntheticModel {
        try SyntheticModel(
            shape: #require(.named(shape)), recipe: #require(SyntheticRecipe(name: recipe)), layers: layers, seed: seed)
    }

    @Test(arguments: recipes) func fileIsWhatItsConfigurationSays(recipe: String) throws {
        let model = try model(recipe)
        let file = try GGUFFile(parts: [try model.bytes()])
        #expect(try ModelConfiguration(file: file) == model.configuration)
        #expect(file.tensors.reduce(0) { $0 + $1.byteCount } == model.byteCount)
        if case .uniform(let type)? = SyntheticRecipe(name: recipe) {
            #expect(file.tensors.allSatisfy { $0.type == ($0.shape.count == 1 ? .f32 : type) })
        }
    }

    /// Products of normed rows have a deviation of 1, so weights have one of 1 / sqrt(columns).
    @Test(arguments: recipes) func weightsHaveTheSpreadOfRealOnes(recipe: String) throws {
        let file = try GGUFFile(parts: [try model(recipe).bytes()])
        let wanted: [(String, Double)] = [
            (ModelTensors.layer(0).query, 1), (ModelTensors.layer(1).gate, 1), (ModelTensors.layer(0).value, 1),
            (ModelTensors.layer(1).down, 0.5), (ModelTensors.head, 3), (ModelTensors.embedding, 3),
        ]
        for (name, spread) in wanted {
            let tensor = try #require(file.tensor(name))
            let floats = tensor.dequantized().map(Double.init)
            #expect(floats.allSatisfy { $0.isFinite })
            let mean = floats.reduce(0, +) / Double(floats.count)
            let deviation = (floats.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(floats.count)).squareRoot()
            let expected = spread / Double(tensor.columns).squareRoot()
            #expect((0.9...1.15).contains(deviation / expected), "\(name): \(deviation), expected about \(expected)")
            #expect(abs(mean) < 0.15 * expected, "\(name): the mean is \(mean)")
        }
        let norm = try #require(file.tensor(ModelTensors.outputNorm)).dequantized()
        #expect(norm.allSatisfy { (0.2...1.8).contains($0) } && Set(norm).count > 100)
    }

    @Test(arguments: ["f32", "bf16", "q4_1", "q6_k", "q4_k_m"]) func threadsDoNotChangeABit(recipe: String) throws {
        // More than one wave of pieces in the largest tensors.
        let model = try SyntheticModel(
            shape: #require(.named("tiny")), recipe: #require(SyntheticRecipe(name: recipe)), layers: 1, vocabulary: 9_000, seed: 3)
        let one = try model.bytes(threads: 1)
        #expect(try model.bytes(threads: 3) == one)
    }

    @Test func seedDecidesTheWeights() throws {
        let first = try model("q4_k", seed: 1).bytes()
        #expect(try model("q4_k", seed: 1).bytes() == first)
        #expect(try model("q4_k", seed: 2).bytes() != first)
    }

    @Test func layersDoNotDependOnHowManyThereAre() throws {
        let short = try GGUFFile(parts: [try model("q5_0", layers: 1).bytes()])
        let long = try GGUFFile(parts: [try model("q5_0", layers: 3).bytes()])
        for tensor in short.tensors {
            let same = try #require(long.tensor(tensor.name))
            #expect(tensor.bytes.elementsEqual(same.bytes))
        }
        let queries = try [0, 1].map { try #require(long.tensor(ModelTensors.layer($0).query)) }
        #expect(!queries[0].bytes.elementsEqual(queries[1].bytes))
    }

    @Test func fileOnDiskIsTheSame() throws {
        let folder = try TemporaryFolder()
        let model = try model("q4_0")
        var told: [Int] = []
        let path = folder.file("model.gguf")
        try model.write(to: path, threads: 2) { done, total in
            told.append(done)
            #expect(total == model.byteCount)
        }
        #expect(told == told.sorted() && told.last == model.byteCount)
        let file = try GGUFFile(path: path)
        let memory = try GGUFFile(parts: [try model.bytes()])
        #expect(file.tensors.count == memory.tensors.count)
        for tensor in memory.tensors {
            let same = try #require(file.tensor(tensor.name))
            #expect(tensor.bytes.elementsEqual(same.bytes))
        }
    }

    @Test func mixtureKeepsSomeTensorsBetter() throws {
        // 16 layers: the first and last two, and each third between them.
        let file = try GGUFFile(parts: [try model("q4_k_m", layers: 16).bytes()])
        let better = (0..<16).filter { file.tensor(ModelTensors.layer($0).down)?.type == .q6_K }
        #expect(better == [0, 1, 4, 7, 10, 13, 14, 15])
        for layer in 0..<16 {
            let names = ModelTensors.layer(layer)
            #expect(file.tensor(names.value)?.type == file.tensor(names.down)?.type)
            for name in [names.query, names.key, names.attentionOutput, names.gate, names.up] { #expect(file.tensor(name)?.type == .q4_K) }
        }
        #expect(file.tensor(ModelTensors.head)?.type == .q6_K)
        #expect(file.tensor(ModelTensors.embedding)?.type == .q4_K)
    }

    /// Qwen2-72B's inner width is 115.5 blocks of 256.
    @Test(arguments: [("q4_k", TensorType.q5_0), ("q5_k", .q5_1), ("q6_k", .q8_0), ("q2_k", .iq4_NL), ("iq4_xs", .iq4_NL), ("q4_1", .q4_1)])
    func rowsOfOddLengthTakeBlocksOf32(recipe: String, expected: TensorType) throws {
        let model = try #require(SyntheticShape.named("qwen2-72b")).configuration(layers: 1)
        let recipe = try #require(SyntheticRecipe(name: recipe))
        let tensors = ModelTensors.wanted(layer: 0, model)
        let down = try #require(tensors.first { $0.name == ModelTensors.layer(0).down })
        #expect(recipe.type(of: down, layer: 0, in: model) == expected)
    }

    @Test(arguments: SyntheticShape.all.map(\.name)) func everyShapeIsAModel(name: String) throws {
        let shape = try #require(SyntheticShape.named(name))
        for recipe in Self.recipes.compactMap(SyntheticRecipe.init(name:)) {
            let model = try SyntheticModel(shape: shape, recipe: recipe, seed: 1)
            #expect(model.configuration.layers == shape.layers && model.configuration.vocabulary == shape.vocabulary)
        }
    }

    /// Parameter counts of the real models.
    @Test(arguments: [
        ("qwen2-72b", 72_706_203_648), ("qwen2-7b", 7_615_616_512), ("qwen2-0.5b", 494_032_768), ("llama3-8b", 8_030_261_248),
        ("llama3-70b", 70_553_706_496), ("mistral-7b", 7_248_023_552), ("granite-2b", 2_533_531_648), ("granite-8b", 8_170_848_256),
        ("granite-1b-a400m", 1_334_628_352), ("granite-3b-a800m", 3_298_793_472), ("mixtral-8x7b", 46_702_792_704),
        ("mixtral-8x22b", 140_630_071_296), ("phi3-mini-4k", 3_821_079_552),
    ])
    func shapesHaveTheRealNumberOfParameters(name: String, parameters: Int) throws {
        let model = try SyntheticModel(shape: #require(.named(name)), recipe: .uniform(.f32), seed: 1)
        #expect(model.byteCount == 4 * parameters)
    }

    @Test func whatCannotBeIsRefused() throws {
        let tiny = try #require(SyntheticShape.named("tiny"))
        #expect(throws: ModelFileError.self) { try SyntheticModel(shape: tiny, recipe: .uniform(.f16), layers: 0, seed: 1) }
        #expect(throws: ModelFileError.self) { try SyntheticModel(shape: tiny, recipe: .uniform(.f16), vocabulary: 258, seed: 1) }
        #expect(throws: ModelFileError.self) { try SyntheticModel(shape: tiny, recipe: .uniform(.f16), seed: 1).bytes(threads: 0) }
        #expect(SyntheticShape.named("huge") == nil && SyntheticRecipe(name: "q9_0") == nil)
    }
}
