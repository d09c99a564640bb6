/// The shape and the switches of one decoder, read once from a GGUF file's metadata or a folder's config.json into a type that cannot be
/// wrong: every count is positive, heads divide evenly, and nothing that would change the result was left unread.
///
/// The block that these switches describe, with n = RMS norm with weight and `normEpsilon`:
///
///     h = E[token] · embeddingScale
///     for each layer:
///         h += residualScale · (Wo · attention(rope(Wq n(h) [+ bq]), rope(Wk n(h) [+ bk]), Wv n(h) [+ bv]) [+ bo])
///         h += residualScale · F(n(h))
///     logits = (Whead · n(h) [+ bhead]) / logitDivisor
///
/// with softmax(q·k · attentionScale) over the own position and all earlier ones, or the layer's window of them, and
///
///     F(x) = Wdown · (silu(Wgate x) ⊙ Wup x), or where there are experts the same of each chosen one, summed with the router's weights.
///
/// What the block cannot do is refused by name when a file asks for it, so it has no field here.
package struct ModelConfiguration: Sendable, Equatable {
    /// Families whose forward pass is the block above.
    package enum Architecture: String, Sendable, CaseIterable {
        /// Also Mistral, Mixtral and Yi.
        case llama
        case qwen2, granite, granitemoe, phi3, internlm2

        /// Which two elements of a head turn together in files of this family.
        var pairing: Rope.Pairing {
            switch self {
            case .llama, .granite, .granitemoe, .internlm2: .adjacent
            case .qwen2, .phi3: .halves
            }
        }
    }

    /// A feed-forward of which each row uses a few of many experts, each `feedForward` wide.
    package struct Experts: Sendable, Equatable {
        /// How weights come from the router's logits. Mathematically the two are one; each family has its own rounding.
        package enum Router: String, Sendable {
            /// Softmax over all experts, the largest, divided by their sum (Mixtral).
            case softmaxOfAll
            /// The largest logits, softmax over these (Granite).
            case softmaxOfChosen
        }

        package var count: Int
        /// Experts that a row uses.
        package var used: Int
        package var router: Router

        package init(count: Int, used: Int, router: Router) {
            self.count = count
            self.used = used
            self.router = router
        }

        /// What the kernels can sort; no published model has more.
        package static let countMax = 512
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
    /// Elements of the feed-forward's inner state; of one expert's where there are experts.
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
    /// The output of attention has a bias.
    package var outputBias: Bool
    /// The head has a bias.
    package var headBias: Bool
    /// nil where the feed-forward is dense.
    package var experts: Experts?
    /// By layer: how many positions a row sees, its own included; 0: all. Empty where no layer has a window.
    package var windows: [Int]

    /// Positions that a row of this layer sees, its own included; 0: all up to its own.
    package func window(ofLayer layer: Int) -> Int { windows.isEmpty ? 0 : windows[layer] }

    /// Elements of all query heads: rows of Wq, columns of Wo.
    package var queryWidth: Int { heads * headDimension }
    /// Elements of all key (or value) heads: rows of Wk and of Wv.
    package var kvWidth: Int { kvHeads * headDimension }

    /// Reads the configuration of a model and checks it against its tensors. Throws `ModelFileError`.
    package init(source: any ModelSource) throws(ModelFileError) {
        if let model = source as? HFModel {
            self = model.configuration
        } else {
            try self.init(metadata: source.metadata, tensors: TensorFacts(source))
            try ModelTensors.check(source, against: self)
        }
    }

    package init(file: GGUFFile) throws(ModelFileError) { try self.init(source: file) }

    /// Reads the configuration from GGUF metadata and what the tensors say beside it.
    package init(metadata: Metadata, tensors: TensorFacts) throws(ModelFileError) {
        self = try ConfigurationReader(metadata: metadata, tensors: tensors).read()
    }

    /// For tests and generated models; the same rules are checked as for a file.
    package init(
        architecture: Architecture = .llama, name: String = "test", hidden: Int, layers: Int, heads: Int, kvHeads: Int,
        headDimension: Int, feedForward: Int, vocabulary: Int, contextLength: Int, normEpsilon: Float = 1e-5,
        rope: Rope, attentionScale: Float? = nil, embeddingScale: Float = 1, residualScale: Float = 1,
        logitDivisor: Float = 1, tiedHead: Bool = true, qkvBias: Bool = false, outputBias: Bool = false, headBias: Bool = false,
        experts: Experts? = nil, windows: [Int] = []
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
        self.outputBias = outputBias
        self.headBias = headBias
        self.experts = experts
        // A window that the whole context fits into hides nothing.
        let hiding = windows.map { $0 < contextLength ? $0 : 0 }
        self.windows = hiding.allSatisfy { $0 == 0 } ? [] : hiding
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
        guard normEpsilon.isFinite, normEpsilon >= 0 else { throw contradiction("the norm's epsilon is \(normEpsilon)") }
        try checkRope()
        try checkExpertsAndWindows()
        // So that sums of bytes and operations stay within 64 bits.
        let weights = Double(layers) * Double(hidden) * (Double(experts?.count ?? 1) * Double(feedForward) + Double(heads) * Double(headDimension))
        guard weights < 0x1p54 else { throw contradiction("it has some \(weights) weights") }
        let factors = [
            ("attention scale", attentionScale), ("embedding scale", embeddingScale),
            ("residual scale", residualScale), ("logit divisor", logitDivisor),
        ]
        for (what, factor) in factors where !(factor.isFinite && factor != 0) {
            throw contradiction("the \(what) is \(factor)")
        }
    }

    private func checkRope() throws(ModelFileError) {
        guard headDimension % 2 == 0, rope.dimensions % 2 == 0, (2...headDimension).contains(rope.dimensions) else {
            throw contradiction("RoPE turns \(rope.dimensions) of the \(headDimension) elements of a head; both are even, and the first is no larger")
        }
        guard rope.base.isFinite, (1...1e300).contains(rope.base) else { throw contradiction("the RoPE base is \(rope.base)") }
        if case .yarn = rope.scaling, rope.base == 1 { throw contradiction("the RoPE base is 1, between whose frequencies YaRN cannot blend") }
        if let what = rope.scaling.fault(pairs: rope.dimensions / 2) { throw contradiction(what) }
    }

    private func checkExpertsAndWindows() throws(ModelFileError) {
        if let experts {
            guard (1...Experts.countMax).contains(experts.count), (1...experts.count).contains(experts.used) else {
                throw contradiction("a row uses \(experts.used) of \(experts.count) experts; at most \(Experts.countMax) are possible, and no more used than there are")
            }
        }
        guard windows.isEmpty || windows.count == layers else { throw contradiction("\(windows.count) attention windows are told of \(layers) layers") }
        if let window = windows.first(where: { $0 < 0 }) { throw contradiction("an attention window is \(window)") }
    }

    private func contradiction(_ what: String) -> ModelFileError {
        ModelFileError(
            .contradiction,
            "The configuration of the model '\(name)' cannot be: \(what). The file is damaged or from a faulty converter.")
    }
}
