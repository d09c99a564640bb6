/// Reads `ModelConfiguration` from a config.json. Every member is understood, known to be harmless (`HFFamily.harmless`), or refused by name:
/// a switch that was not read is a model that answers wrongly without a sign.
struct HFConfigurationReader {
    let config: HFMembers
    let name: String
    /// What only the tensors say.
    let tensors: ModelConfiguration.TensorFacts

    func read() throws(ModelFileError) -> ModelConfiguration {
        let family = try readFamily()
        try refuseUnknown(family)
        try refuseUnsupported()

        let hidden = try config.int("hidden_size")
        let heads = try config.int("num_attention_heads")
        guard heads > 0 else { throw config.contradiction("num_attention_heads", "is \(heads)") }
        let headDimension = try readHeadDimension(hidden: hidden, heads: heads)
        let layers = try config.int("num_hidden_layers")
        let contextLength = try config.int("max_position_embeddings")
        let rope = try HFRopeReader(config, family: family)
        let hasBias = try readBias()
        return try ModelConfiguration(
            architecture: family.architecture,
            name: name,
            hidden: hidden,
            layers: layers,
            heads: heads,
            kvHeads: try readKVHeads(family, heads: heads),
            headDimension: headDimension,
            feedForward: try config.int("intermediate_size"),
            vocabulary: try readVocabulary(),
            contextLength: contextLength,
            normEpsilon: Float(try config.double("rms_norm_eps")),
            rope: try rope.rope(headDimension: headDimension, contextLength: contextLength),
            attentionScale: try factor("attention_multiplier"),
            embeddingScale: try factor("embedding_multiplier") ?? 1,
            residualScale: try factor("residual_multiplier") ?? 1,
            logitDivisor: try factor("logits_scaling") ?? 1,
            tiedHead: try config.optionalBool("tie_word_embeddings") ?? false,
            qkvBias: family == .qwen2 || hasBias,
            outputBias: hasBias,
            headBias: tensors.headBias,
            experts: try readExperts(family),
            windows: try readWindows(family, layers: layers))
    }

    // MARK: Parts

    private func readFamily() throws(ModelFileError) -> HFFamily {
        let type = try config.string("model_type")
        guard let family = HFFamily(rawValue: type) else {
            let known = HFFamily.allCases.map(\.rawValue).joined(separator: ", ")
            throw ModelFileError(
                .unsupportedArchitecture,
                "\(config.file): the model_type is '\(type)'; these are supported: \(known). Use a model of one of these families.")
        }
        if let classes = try config.optionalStrings("architectures"), classes != [family.className] {
            throw ModelFileError(
                .unsupportedArchitecture,
                "\(config.file): the architectures are \(classes); of '\(type)' models only '\(family.className)' is supported.")
        }
        return family
    }

    private func readHeadDimension(hidden: Int, heads: Int) throws(ModelFileError) -> Int {
        if let explicit = try config.optionalInt("head_dim") { return explicit }
        guard hidden % heads == 0 else {
            throw config.contradiction("num_attention_heads", "is \(heads), which does not divide the hidden size \(hidden)")
        }
        return hidden / heads
    }

    /// Those families whose default in transformers is another number than that of all heads must say it.
    private func readKVHeads(_ family: HFFamily, heads: Int) throws(ModelFileError) -> Int {
        switch family {
        case .mistral, .mixtral, .qwen2: try config.int("num_key_value_heads")
        case .llama, .granite, .granitemoe, .phi3, .internlm2: try config.optionalInt("num_key_value_heads") ?? heads
        }
    }

    private func readVocabulary() throws(ModelFileError) -> Int {
        let said = try config.int("vocab_size")
        if let rows = tensors.vocabulary, rows != said {
            throw config.contradiction("vocab_size", "is \(said), but the embedding has \(rows) rows")
        }
        return said
    }

    private func readBias() throws(ModelFileError) -> Bool {
        for key in ["attention_bias", "bias"] {
            if let has = try config.optionalBool(key) { return has }
        }
        return false
    }

    private func factor(_ key: String) throws(ModelFileError) -> Float? {
        try config.optionalDouble(key).map { Float($0) }
    }

    private func readExperts(_ family: HFFamily) throws(ModelFileError) -> ModelConfiguration.Experts? {
        guard family == .mixtral || family == .granitemoe else { return nil }
        return ModelConfiguration.Experts(
            count: try config.int("num_local_experts"), used: try config.int("num_experts_per_tok"),
            router: family == .mixtral ? .softmaxOfAll : .softmaxOfChosen)
    }

    private func readWindows(_ family: HFFamily, layers: Int) throws(ModelFileError) -> [Int] {
        guard let window = try readWindow(family) else { return [] }
        guard window > 0 else { throw config.contradiction("sliding_window", "is \(window)") }
        guard (1...(1 << 14)).contains(layers) else { return [window] }
        guard family == .qwen2 else { return Array(repeating: window, count: layers) }
        guard let types = try config.optionalStrings("layer_types") else {
            let first = try config.int("max_window_layers")
            return (0..<layers).map { $0 >= first ? window : 0 }
        }
        guard types.count == layers else { throw config.contradiction("layer_types", "names \(types.count) of \(layers) layers") }
        var windows: [Int] = []
        for type in types {
            switch type {
            case "sliding_attention": windows.append(window)
            case "full_attention": windows.append(0)
            default: throw config.unsupported("layer_types", "names '\(type)'; supported are full_attention and sliding_attention")
            }
        }
        return windows
    }

    private func readWindow(_ family: HFFamily) throws(ModelFileError) -> Int? {
        switch family {
        // Mistral's class has a window where config.json is silent.
        case .mistral: config.has("sliding_window") ? try config.optionalInt("sliding_window") : 4096
        case .mixtral, .phi3: try config.optionalInt("sliding_window")
        case .qwen2: try config.optionalBool("use_sliding_window") ?? false ? try config.int("sliding_window") : nil
        case .llama, .granite, .granitemoe, .internlm2: nil
        }
    }

    // MARK: Refusing

    private func refuseUnknown(_ family: HFFamily) throws(ModelFileError) {
        let understood = HFFamily.common.union(family.members)
        for key in config.keys where !understood.contains(key) && !HFFamily.harmless.contains(key) && !config.isNull(key) {
            throw config.unsupported(key, "is not understood for a '\(family.rawValue)' model, and a switch that is ignored gives wrong answers")
        }
    }

    /// Members that are understood well enough to tell whether they say "off".
    private func refuseUnsupported() throws(ModelFileError) {
        if let function = try config.optionalString("hidden_act"), function != "silu" {
            throw config.unsupported("hidden_act", "is '\(function)'; only silu is supported")
        }
        if try config.optionalBool("mlp_bias") == true { throw config.unsupported("mlp_bias", "is true: biases of the feed-forward are not supported") }
        if let width = try config.optionalInt("shared_intermediate_size"), width != 0 {
            throw config.unsupported("shared_intermediate_size", "is \(width): experts that all rows share are not supported")
        }
        if let kind = try config.optionalString("position_embedding_type"), kind != "rope" {
            throw config.unsupported("position_embedding_type", "is '\(kind)'; only rope is supported")
        }
    }
}
