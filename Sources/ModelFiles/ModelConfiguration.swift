/// The shape and the switches of one decoder, read once from a model's metadata into a type that cannot be wrong:
/// every count is positive, heads divide evenly, and nothing that would change the result was left unread.
///
/// The block that these switches describe, with n = RMS norm with weight and `normEpsilon`:
///
///     h = E[token] · embeddingScale
///     for each layer:
///         h += residualScale · Wo · attention(rope(Wq n(h) [+ bq]), rope(Wk n(h) [+ bk]), Wv n(h) [+ bv])
///         h += residualScale · Wdown · (silu(Wgate n(h)) ⊙ Wup n(h))
///     logits = (Whead · n(h)) / logitDivisor
///
/// with softmax(q·k · attentionScale) over all earlier positions and the own one. What the block cannot do (attention
/// windows, experts, other RoPE scalings) is refused by name when the metadata asks for it, so it has no field here.
package struct ModelConfiguration: Sendable, Equatable {
    /// Families whose forward pass is the block above.
    package enum Architecture: String, Sendable, CaseIterable {
        case llama, qwen2, granite
    }

    /// How positions turn queries and keys.
    package struct Rope: Sendable, Equatable {
        /// Which two elements of a head turn together.
        package enum Pairing: String, Sendable {
            /// Elements 2i and 2i+1 (Llama and Granite as GGUF stores them).
            case adjacent
            /// Elements i and i + dimensions/2 (Qwen2).
            case halves
        }

        /// What happens to the frequencies θ^(−2i/dimensions).
        package enum Scaling: Sendable, Equatable {
            case none
            /// Every frequency divided by the factor.
            case linear(factor: Double)
            /// Frequency i divided by element i of the tensor `rope_freqs.weight` (Llama 3.1 and later).
            case divisors
        }

        /// θ
        package var base: Double
        /// Leading elements of each head that are turned; even, at most the head dimension.
        package var dimensions: Int
        package var pairing: Pairing
        package var scaling: Scaling

        package init(base: Double, dimensions: Int, pairing: Pairing, scaling: Scaling) {
            self.base = base
            self.dimensions = dimensions
            self.pairing = pairing
            self.scaling = scaling
        }
    }

    package var architecture: Architecture
    /// `general.name`, or the architecture's name where there is none.
    package var name: String
    /// Elements of a hidden state.
    package var hidden: Int
    package var layers: Int
    /// Query heads.
    package var heads: Int
    /// Key and value heads; divides `heads`.
    package var kvHeads: Int
    /// Elements of a query, key or value head. Even. Not always hidden / heads.
    package var headDimension: Int
    /// Elements of the feed-forward's inner state.
    package var feedForward: Int
    /// Tokens: rows of the embedding and of the head.
    package var vocabulary: Int
    /// Positions the model was made for.
    package var contextLength: Int
    package var normEpsilon: Float
    package var rope: Rope
    /// Factor on q·k before the softmax: 1/√headDimension unless the model says otherwise.
    package var attentionScale: Float
    /// 1 unless the model says otherwise, as the next two.
    package var embeddingScale: Float
    package var residualScale: Float
    package var logitDivisor: Float
    /// The head is the embedding's matrix; there is no `output.weight`.
    package var tiedHead: Bool
    /// Queries, keys and values have a bias.
    package var qkvBias: Bool

    /// Elements of all query heads: rows of Wq, columns of Wo.
    package var queryWidth: Int { heads * headDimension }
    /// Elements of all key (or value) heads: rows of Wk and of Wv.
    package var kvWidth: Int { kvHeads * headDimension }

    /// Reads the configuration of `file` and checks it against the file's tensors (`ModelTensors.check`).
    package init(file: GGUFFile) throws(ModelFileError) {
        let hasHead = file.tensor(ModelTensors.head) != nil
        let hasBias = file.tensor(ModelTensors.layer(0).queryBias) != nil
        let hasDivisors = file.tensor(ModelTensors.ropeDivisors) != nil
        let rows = file.tensor(ModelTensors.embedding)?.rows
        try self.init(
            metadata: file.metadata,
            tensors: TensorFacts(vocabulary: rows, head: hasHead, qkvBias: hasBias, ropeDivisors: hasDivisors))
        try ModelTensors.check(file, against: self)
    }

    /// What the configuration takes from the tensors, because the metadata does not say it.
    package struct TensorFacts: Sendable {
        /// Rows of the embedding.
        package var vocabulary: Int?
        /// `output.weight` is there.
        package var head: Bool
        package var qkvBias: Bool
        /// `rope_freqs.weight` is there.
        package var ropeDivisors: Bool

        package init(vocabulary: Int?, head: Bool, qkvBias: Bool, ropeDivisors: Bool) {
            self.vocabulary = vocabulary
            self.head = head
            self.qkvBias = qkvBias
            self.ropeDivisors = ropeDivisors
        }
    }

    /// Reads the configuration from metadata and those facts alone.
    package init(metadata: Metadata, tensors: TensorFacts) throws(ModelFileError) {
        self = try ConfigurationReader(metadata: metadata, tensors: tensors).read()
    }

    /// For tests and generated models; the same rules are checked as for a file.
    package init(
        architecture: Architecture = .llama, name: String = "test", hidden: Int, layers: Int, heads: Int, kvHeads: Int,
        headDimension: Int, feedForward: Int, vocabulary: Int, contextLength: Int, normEpsilon: Float = 1e-5,
        rope: Rope, attentionScale: Float? = nil, embeddingScale: Float = 1, residualScale: Float = 1,
        logitDivisor: Float = 1, tiedHead: Bool = true, qkvBias: Bool = false
    ) throws(ModelFileError) {
        self.architecture = architecture
        self.name = name
        self.hidden = hidden
        self.layers = layers
        self.heads = heads
        self.kvHeads = kvHeads
        self.headDimension = headDimension
        self.feedForward = feedForward
        self.vocabulary = vocabulary
        self.contextLength = contextLength
        self.normEpsilon = normEpsilon
        self.rope = rope
        self.attentionScale = attentionScale ?? Float(1 / Double(max(1, headDimension)).squareRoot())
        self.embeddingScale = embeddingScale
        self.residualScale = residualScale
        self.logitDivisor = logitDivisor
        self.tiedHead = tiedHead
        self.qkvBias = qkvBias
        try checkConsistency()
    }

    /// The rules that hold between the fields.
    private func checkConsistency() throws(ModelFileError) {
        let counts = [
            ("hidden size", hidden, 1 << 20), ("layer count", layers, 1 << 14), ("head count", heads, 1 << 14),
            ("key-value head count", kvHeads, 1 << 14), ("head dimension", headDimension, 1 << 14),
            ("feed-forward size", feedForward, 1 << 22), ("vocabulary size", vocabulary, 1 << 24),
            ("context length", contextLength, 1 << 28),
        ]
        for (what, count, limit) in counts where !(1...limit).contains(count) {
            throw contradiction("the \(what) is \(count); 1 to \(limit) is possible")
        }
        guard heads % kvHeads == 0 else {
            throw contradiction("\(heads) heads cannot share \(kvHeads) key-value heads evenly")
        }
        guard headDimension % 2 == 0, rope.dimensions % 2 == 0, (2...headDimension).contains(rope.dimensions) else {
            throw contradiction("RoPE turns \(rope.dimensions) of the \(headDimension) elements of a head; both are even, and the first is no larger")
        }
        guard normEpsilon.isFinite, normEpsilon >= 0 else { throw contradiction("the norm's epsilon is \(normEpsilon)") }
        guard rope.base.isFinite, rope.base > 0 else { throw contradiction("the RoPE base is \(rope.base)") }
        if case .linear(let factor) = rope.scaling, !(factor.isFinite && factor > 0) {
            throw contradiction("the RoPE scaling factor is \(factor)")
        }
        let factors = [
            ("attention scale", attentionScale), ("embedding scale", embeddingScale),
            ("residual scale", residualScale), ("logit divisor", logitDivisor),
        ]
        for (what, factor) in factors where !(factor.isFinite && factor != 0) {
            throw contradiction("the \(what) is \(factor)")
        }
    }

    private func contradiction(_ what: String) -> ModelFileError {
        ModelFileError(
            .contradiction,
            "The configuration of the model '\(name)' cannot be: \(what). The file is damaged or from a faulty converter.")
    }
}
