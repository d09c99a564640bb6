import ClusterCore
import ModelFiles

/// A model file of random F32 weights, small enough that a stage loads it in a moment.
struct TinyModel {
    static let layers = 4
    static let vocabulary = 97

    let file: GGUFFile
    let path: String
    let digest: ClusterCore.ModelDigest

    /// Writes it into `folder`. The digest is of the headers: another `context` is another model, another `seed` alone is not.
    init(_ folder: TemporaryFolder, name: String = "tiny.gguf", seed: UInt64 = 1, context: UInt32 = 512) throws {
        var metadata = Metadata()
        metadata.set("general.architecture", .string("llama"))
        metadata.set("general.name", .string("Tiny"))
        let counts: [(String, UInt32)] = [
            ("embedding_length", 64), ("block_count", UInt32(Self.layers)), ("attention.head_count", 4), ("attention.head_count_kv", 2),
            ("attention.key_length", 16), ("attention.value_length", 16), ("feed_forward_length", 96), ("vocab_size", UInt32(Self.vocabulary)),
            ("context_length", context), ("rope.dimension_count", 16),
        ]
        for (key, count) in counts { metadata.set("llama." + key, .uint32(count)) }
        metadata.set("llama.attention.layer_norm_rms_epsilon", .float32(1e-5))
        metadata.set("llama.rope.freq_base", .float32(10_000))

        let model = try ModelConfiguration(
            architecture: .llama, hidden: 64, layers: Self.layers, heads: 4, kvHeads: 2, headDimension: 16, feedForward: 96,
            vocabulary: Self.vocabulary, contextLength: Int(context),
            rope: .init(base: 10_000, dimensions: 16, pairing: .adjacent, scaling: .none), tiedHead: true)
        var random = SplitMix64(state: seed)
        var writer = GGUFWriter(metadata: metadata)
        let wanted = ModelTensors.wantedOutsideLayers(model) + (0..<Self.layers).flatMap { ModelTensors.wanted(layer: $0, model) }
        for tensor in wanted {
            let scale: Float = tensor.isVector ? 0.3 : 2 / Float(tensor.shape[0]).squareRoot()
            let floats = (0..<tensor.shape.reduce(1, *)).map { _ in (tensor.isVector ? 1 : 0) + scale * random.unit() }
            writer.add(tensor.name, shape: tensor.shape, floats: floats)
        }
        path = folder.file(name)
        try writer.write(to: path)
        file = try GGUFFile(path: path)
        digest = ClusterCore.ModelDigest(bytes: ModelFiles.ModelDigest(file).bytes)!
    }

    /// A stage of this model.
    func assignment(epoch: UInt64, stage: Int = 0, of count: Int = 1, layers: Range<Int> = 0..<TinyModel.layers) -> StageAssignment {
        StageAssignment(
            epoch: Epoch(epoch), stage: stage, stageCount: count, layers: layers, kvBlocks: 8, kvType: .f16, boundary: .f32,
            modelDigest: digest, modelPath: path, upstream: nil, downstream: nil)
    }
}

/// The same numbers from the same seed, everywhere.
struct SplitMix64: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// In -1..<1.
    mutating func unit() -> Float { Float(next() >> 40) * 0x1p-23 - 1 }
}
