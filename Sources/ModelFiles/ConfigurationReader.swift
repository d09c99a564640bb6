/// Reads `ModelConfiguration` from metadata. Every key below the architecture's name is either understood or refused by
/// name: a switch that was not read is a model that answers wrongly without a sign.
struct ConfigurationReader {
    let metadata: Metadata
    let tensors: ModelConfiguration.TensorFacts

    func read() throws(ModelFileError) -> ModelConfiguration {
        let architecture = try readArchitecture()
        let prefix = architecture.rawValue + "."
        try refuseUnknownKeys(prefix)
        try refuseUnsupported(prefix)

        let hidden = try required(prefix + "embedding_length")
        let layers = try required(prefix + "block_count")
        let heads = try required(prefix + "attention.head_count")
        guard heads > 0 else { throw contradiction(prefix + "attention.head_count", "is \(heads)") }
        let headDimension = try readHeadDimension(prefix, hidden: hidden, heads: heads)
        let contextLength = try required(prefix + "context_length")
        return try ModelConfiguration(
            architecture: architecture,
            name: try metadata.string("general.name") ?? architecture.rawValue,
            hidden: hidden,
            layers: layers,
            heads: heads,
            kvHeads: try metadata.int(prefix + "attention.head_count_kv") ?? heads,
            headDimension: headDimension,
            feedForward: try readFeedForward(prefix),
            vocabulary: try readVocabulary(prefix),
            contextLength: contextLength,
            normEpsilon: Float(try requiredNumber(prefix + "attention.layer_norm_rms_epsilon")),
            rope: ModelConfiguration.Rope(
                base: try metadata.double(prefix + "rope.freq_base") ?? 10_000,
                dimensions: try metadata.int(prefix + "rope.dimension_count") ?? headDimension, pairing: architecture.pairing,
                scaling: try RopeReader(metadata: metadata, prefix: prefix, tensors: tensors).scaling(contextLength: contextLength)),
            attentionScale: try scale(prefix + "attention.scale"),
            embeddingScale: try scale(prefix + "embedding_scale") ?? 1,
            residualScale: try scale(prefix + "residual_scale") ?? 1,
            logitDivisor: try scale(prefix + "logit_scale") ?? 1,
            tiedHead: !tensors.head,
            // Qwen2's block always has them: a file without is incomplete, not another model.
            qkvBias: tensors.qkvBias || architecture == .qwen2,
            outputBias: tensors.outputBias,
            headBias: tensors.headBias,
            experts: try readExperts(prefix, architecture),
            windows: try readWindows(prefix, layers: layers))
    }

    // MARK: Parts

    private func readArchitecture() throws(ModelFileError) -> ModelConfiguration.Architecture {
        guard let name = try metadata.string("general.architecture") else { throw missing("general.architecture") }
        guard let architecture = ModelConfiguration.Architecture(rawValue: name) else {
            let known = ModelConfiguration.Architecture.allCases.map(\.rawValue).joined(separator: ", ")
            throw ModelFileError(
                .unsupportedArchitecture,
                "The model's architecture is '\(name)'; these are supported: \(known). Use a model of one of these families.")
        }
        return architecture
    }

    private func readHeadDimension(_ prefix: String, hidden: Int, heads: Int) throws(ModelFileError) -> Int {
        let key = try metadata.int(prefix + "attention.key_length")
        let value = try metadata.int(prefix + "attention.value_length")
        if let key, let value, key != value {
            throw ModelFileError(
                .unsupportedFeature,
                "The model's keys have \(key) elements a head and its values \(value) (\(prefix)attention.key_length, value_length); only equal lengths are supported."
            )
        }
        if let explicit = key ?? value { return explicit }
        guard hidden % heads == 0 else {
            throw contradiction(prefix + "attention.head_count", "is \(heads), which does not divide the hidden size \(hidden)")
        }
        return hidden / heads
    }

    private func readVocabulary(_ prefix: String) throws(ModelFileError) -> Int {
        let said = try metadata.int(prefix + "vocab_size")
        var listed: Int?
        if case .array(let tokens) = metadata["tokenizer.ggml.tokens"] { listed = tokens.count }
        guard let rows = tensors.vocabulary ?? said ?? listed else { throw missing(prefix + "vocab_size") }
        // The tokenizer may list fewer tokens than the embedding has rows (padding), never more.
        if let said, said != rows {
            throw contradiction(prefix + "vocab_size", "is \(said), but the embedding has \(rows) rows")
        }
        if let listed, listed > rows {
            throw contradiction("tokenizer.ggml.tokens", "lists \(listed) tokens, but the embedding has \(rows) rows")
        }
        return rows
    }

    /// Of a dense layer or of each expert.
    private func readFeedForward(_ prefix: String) throws(ModelFileError) -> Int {
        let ofExpert = try metadata.int(prefix + "expert_feed_forward_length")
        if let ofExpert, ofExpert > 0, try metadata.int(prefix + "expert_count") ?? 0 > 0 { return ofExpert }
        return try required(prefix + "feed_forward_length")
    }

    private func readExperts(
        _ prefix: String, _ architecture: ModelConfiguration.Architecture
    ) throws(ModelFileError) -> ModelConfiguration.Experts? {
        let count = try metadata.int(prefix + "expert_count") ?? 0
        let used = try metadata.int(prefix + "expert_used_count") ?? 0
        guard count != 0 else {
            if used != 0 { throw contradiction(prefix + "expert_used_count", "is \(used), but there are no experts") }
            if architecture == .granitemoe { throw missing(prefix + "expert_count") }
            return nil
        }
        guard architecture == .llama || architecture == .granitemoe else {
            throw unsupported(prefix + "expert_count", "is \(count), but a mixture of experts is supported in the families llama and granitemoe only")
        }
        return ModelConfiguration.Experts(count: count, used: used, router: architecture == .granitemoe ? .softmaxOfChosen : .softmaxOfAll)
    }

    /// One window for all layers, or for those that a pattern marks.
    private func readWindows(_ prefix: String, layers: Int) throws(ModelFileError) -> [Int] {
        let key = prefix + "attention.sliding_window_pattern"
        var isWindowed: [Bool]?
        if let value = metadata[key] {
            guard case .array(.bool(let flags)) = value, flags.count == layers else {
                throw unsupported(key, "is not an array of \(layers) bools, one for each layer")
            }
            isWindowed = flags
        }
        guard let window = try metadata.int(prefix + "attention.sliding_window"), window != 0 else {
            if isWindowed?.contains(true) == true { throw missing(prefix + "attention.sliding_window") }
            return []
        }
        guard (0...(1 << 14)).contains(layers) else { return [window] }
        return (0..<layers).map { isWindowed?[$0] ?? true ? window : 0 }
    }

    // MARK: Keys that must be understood

    private func refuseUnknownKeys(_ prefix: String) throws(ModelFileError) {
        for key in metadata.keys where key.hasPrefix(prefix) {
            let name = String(key.dropFirst(prefix.count))
            guard ConfigurationReader.understoodKeys.contains(name) else {
                throw unsupported(key, "is not understood, and a switch that is ignored gives wrong answers")
            }
        }
    }

    /// Keys that are understood well enough to tell whether they say "off".
    private func refuseUnsupported(_ prefix: String) throws(ModelFileError) {
        if let width = try metadata.int(prefix + "expert_shared_feed_forward_length"), width != 0 {
            throw unsupported(prefix + "expert_shared_feed_forward_length", "is \(width): experts that all rows share are not supported")
        }
        if let causal = try metadata.bool(prefix + "attention.causal"), !causal {
            throw unsupported(prefix + "attention.causal", "is false: only causal attention is supported")
        }
        if let parallel = try metadata.bool(prefix + "use_parallel_residual"), parallel {
            throw unsupported(prefix + "use_parallel_residual", "is true: parallel residuals are not supported")
        }
        if let layout = try metadata.string(prefix + "tensor_data_layout"), layout != "Meta AI original pth" {
            throw unsupported(prefix + "tensor_data_layout", "is '\(layout)'; only files without it, or with 'Meta AI original pth', are supported")
        }
    }

    /// Names below the architecture's prefix that are read above or cannot change the result.
    private static let understoodKeys: Set<String> = RopeReader.understoodKeys.union([
        "context_length", "embedding_length", "block_count", "feed_forward_length", "vocab_size",
        "attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length",
        "attention.layer_norm_rms_epsilon", "attention.scale", "attention.causal",
        "attention.sliding_window", "attention.sliding_window_pattern",
        "embedding_scale", "residual_scale", "logit_scale",
        "rope.dimension_count", "rope.freq_base",
        "expert_count", "expert_used_count", "expert_feed_forward_length", "expert_shared_feed_forward_length",
        "use_parallel_residual", "tensor_data_layout",
    ])

    // MARK: Required values and errors

    private func required(_ key: String) throws(ModelFileError) -> Int {
        guard let value = try metadata.int(key) else { throw missing(key) }
        return value
    }

    private func requiredNumber(_ key: String) throws(ModelFileError) -> Double {
        guard let value = try metadata.double(key) else { throw missing(key) }
        return value
    }

    /// Zero is how some converters write "not set".
    private func scale(_ key: String) throws(ModelFileError) -> Float? {
        guard let value = try metadata.double(key), value != 0 else { return nil }
        return Float(value)
    }

    private func missing(_ key: String) -> ModelFileError {
        ModelFileError(.missingKey, "The model file lacks the metadata key '\(key)'. Convert the model again with a current converter.")
    }

    private func unsupported(_ key: String, _ what: String) -> ModelFileError {
        ModelFileError(.unsupportedFeature, "The metadata key '\(key)' \(what). This version cannot serve the model.")
    }

    private func contradiction(_ key: String, _ what: String) -> ModelFileError {
        ModelFileError(.contradiction, "The metadata key '\(key)' \(what). The file is damaged or from a faulty converter.")
    }
}
