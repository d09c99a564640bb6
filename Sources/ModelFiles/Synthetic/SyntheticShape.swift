/// Shapes of known models, under the names that `lab synth` takes. The numbers are those of the models' own configurations.
package struct SyntheticShape: Sendable {
    package let name: String
    /// Layers of the real model.
    package let layers: Int
    /// `tokenizer.ggml.pre`: how the family cuts text into words.
    let preTokenizer: String
    private let make: @Sendable (_ name: String, _ layers: Int, _ vocabulary: Int) throws(ModelFileError) -> ModelConfiguration
    /// Tokens of the real model.
    package let vocabulary: Int

    /// The shape with some of its layers, or more, and with another number of tokens where that is wanted.
    package func configuration(layers: Int? = nil, vocabulary: Int? = nil) throws(ModelFileError) -> ModelConfiguration {
        try make(name, layers ?? self.layers, vocabulary ?? self.vocabulary)
    }

    package static func named(_ name: String) -> SyntheticShape? { all.first { $0.name == name } }

    /// Every shape. `tiny` and `tiny-qwen2` are for tests: all columns are a multiple of 256, so that every tensor type fits.
    package static let all: [SyntheticShape] = [
        SyntheticShape("qwen2-72b", layers: 80, vocabulary: 152_064, "qwen2", .qwen2(8192, heads: 64, kv: 8, inner: 29_568)),
        SyntheticShape("qwen2-7b", layers: 28, vocabulary: 152_064, "qwen2", .qwen2(3584, heads: 28, kv: 4, inner: 18_944)),
        SyntheticShape("qwen2-0.5b", layers: 24, vocabulary: 151_936, "qwen2", .qwen2(896, heads: 14, kv: 2, inner: 4864, tied: true)),
        SyntheticShape("llama3-70b", layers: 80, vocabulary: 128_256, "llama-bpe", .llama3(8192, heads: 64, inner: 28_672)),
        SyntheticShape("llama3-8b", layers: 32, vocabulary: 128_256, "llama-bpe", .llama3(4096, heads: 32, inner: 14_336)),
        SyntheticShape("llama-7b", layers: 32, vocabulary: 32_000, "llama-bpe", Family(4096, heads: 32, kv: 32, inner: 11_008, context: 4096)),
        SyntheticShape(
            "mistral-7b", layers: 32, vocabulary: 32_768, "llama-bpe",
            Family(4096, heads: 32, kv: 8, inner: 14_336, context: 32_768, ropeBase: 1e6)),
        SyntheticShape(
            "smollm2-135m", layers: 30, vocabulary: 49_152, "smollm",
            Family(576, heads: 9, kv: 3, inner: 1536, context: 8192, ropeBase: 1e5, tied: true)),
        SyntheticShape("granite-8b", layers: 40, vocabulary: 49_155, "refact", .granite(4096, heads: 32, inner: 12_800, logits: 16)),
        SyntheticShape("granite-2b", layers: 40, vocabulary: 49_155, "refact", .granite(2048, heads: 32, inner: 8192, logits: 8)),
        SyntheticShape(
            "granite-1b-a400m", layers: 24, vocabulary: 49_155, "refact", .graniteExperts(1024, heads: 16, experts: 32)),
        SyntheticShape(
            "granite-3b-a800m", layers: 32, vocabulary: 49_155, "refact", .graniteExperts(1536, heads: 24, experts: 40)),
        SyntheticShape("mixtral-8x7b", layers: 32, vocabulary: 32_000, "llama-bpe", .mixtral(4096, heads: 32, inner: 14_336, context: 32_768)),
        SyntheticShape("mixtral-8x22b", layers: 56, vocabulary: 32_768, "llama-bpe", .mixtral(6144, heads: 48, inner: 16_384, context: 65_536)),
        SyntheticShape("phi3-mini-4k", layers: 32, vocabulary: 32_064, "llama-bpe", .phi3(3072, heads: 32, inner: 8192, window: 2047)),
        SyntheticShape("tiny-mixtral", layers: 4, vocabulary: 320, "llama-bpe", .mixtral(256, heads: 4, inner: 256, context: 2048, kv: 2)),
        SyntheticShape("tiny", layers: 2, vocabulary: 320, "llama-bpe", Family(256, heads: 4, kv: 2, inner: 512, context: 2048)),
        SyntheticShape("tiny-qwen2", layers: 2, vocabulary: 320, "qwen2", .qwen2(256, heads: 4, kv: 2, inner: 512)),
    ]

    private init(_ name: String, layers: Int, vocabulary: Int, _ preTokenizer: String, _ family: Family) {
        self.name = name
        self.layers = layers
        self.vocabulary = vocabulary
        self.preTokenizer = preTokenizer
        make = { (name, layers, vocabulary) throws(ModelFileError) in
            try family.configuration(name: name, layers: layers, vocabulary: vocabulary)
        }
    }
}

/// What the models of one family share, with its sizes filled in.
private struct Family: Sendable {
    var architecture = ModelConfiguration.Architecture.llama
    var hidden: Int
    var heads: Int
    var kvHeads: Int
    var feedForward: Int
    var contextLength: Int
    var ropeBase: Double
    var normEpsilon: Float = 1e-5
    var tied: Bool
    var experts: ModelConfiguration.Experts?
    /// In all layers.
    var window: Int?
    /// Granite's four numbers.
    var attentionScale: Float?
    var embeddingScale: Float = 1
    var residualScale: Float = 1
    var logitDivisor: Float = 1

    init(_ hidden: Int, heads: Int, kv: Int, inner: Int, context: Int, ropeBase: Double = 10_000, tied: Bool = false) {
        self.hidden = hidden
        self.heads = heads
        kvHeads = kv
        feedForward = inner
        contextLength = context
        self.ropeBase = ropeBase
        self.tied = tied
    }

    static func qwen2(_ hidden: Int, heads: Int, kv: Int, inner: Int, tied: Bool = false) -> Family {
        var family = Family(hidden, heads: heads, kv: kv, inner: inner, context: 32_768, ropeBase: 1e6, tied: tied)
        family.architecture = .qwen2
        family.normEpsilon = 1e-6
        return family
    }

    static func llama3(_ hidden: Int, heads: Int, inner: Int) -> Family {
        Family(hidden, heads: heads, kv: 8, inner: inner, context: 8192, ropeBase: 5e5)
    }

    static func granite(_ hidden: Int, heads: Int, inner: Int, logits: Float) -> Family {
        var family = Family(hidden, heads: heads, kv: 8, inner: inner, context: 4096, tied: true)
        family.architecture = .granite
        family.attentionScale = 1 / Float(hidden / heads)
        family.embeddingScale = 12
        family.residualScale = 0.22
        family.logitDivisor = logits
        return family
    }

    static func graniteExperts(_ hidden: Int, heads: Int, experts: Int) -> Family {
        var family = granite(hidden, heads: heads, inner: 512, logits: 6)
        family.architecture = .granitemoe
        family.normEpsilon = 1e-6
        family.experts = .init(count: experts, used: 8, router: .softmaxOfChosen)
        return family
    }

    static func mixtral(_ hidden: Int, heads: Int, inner: Int, context: Int, kv: Int = 8) -> Family {
        var family = Family(hidden, heads: heads, kv: kv, inner: inner, context: context, ropeBase: 1e6)
        family.experts = .init(count: 8, used: 2, router: .softmaxOfAll)
        return family
    }

    static func phi3(_ hidden: Int, heads: Int, inner: Int, window: Int) -> Family {
        var family = Family(hidden, heads: heads, kv: heads, inner: inner, context: 4096)
        family.architecture = .phi3
        family.window = window
        return family
    }

    func configuration(name: String, layers: Int, vocabulary: Int) throws(ModelFileError) -> ModelConfiguration {
        try ModelConfiguration(
            architecture: architecture, name: "\(name), \(layers) layers, synthetic", hidden: hidden, layers: layers, heads: heads,
            kvHeads: kvHeads, headDimension: hidden / heads, feedForward: feedForward, vocabulary: vocabulary,
            contextLength: contextLength, normEpsilon: normEpsilon,
            rope: .init(
                base: ropeBase, dimensions: hidden / heads, pairing: architecture.pairing, scaling: .none),
            attentionScale: attentionScale, embeddingScale: embeddingScale, residualScale: residualScale, logitDivisor: logitDivisor,
            tiedHead: tied, qkvBias: architecture == .qwen2, experts: experts,
            windows: window.map { [Int](repeating: $0, count: max(0, min(layers, 1 << 14))) } ?? [])
    }
}
