extension ModelConfiguration {
    /// The keys of GGUF metadata that say this configuration, and no others: with them and `ropeTensors` a file is made of a folder.
    /// `ConfigurationReader` reads the same value from them. Throws `unsupportedFeature` for windows that no key can say.
    package func write(to metadata: inout Metadata) throws(ModelFileError) {
        let prefix = architecture.rawValue + "."
        metadata.set("general.architecture", .string(architecture.rawValue))
        metadata.set("general.name", .string(name))
        let counts = [
            ("context_length", contextLength), ("embedding_length", hidden), ("block_count", layers), ("feed_forward_length", feedForward),
            ("attention.head_count", heads), ("attention.head_count_kv", kvHeads), ("attention.key_length", headDimension),
            ("attention.value_length", headDimension), ("rope.dimension_count", rope.dimensions), ("vocab_size", vocabulary),
        ]
        for (key, count) in counts { metadata.set(prefix + key, .uint32(UInt32(count))) }
        metadata.set(prefix + "attention.layer_norm_rms_epsilon", .float32(normEpsilon))
        metadata.set(prefix + "rope.freq_base", .float32(Float(rope.base)))
        let plainScale = Float(1 / Double(headDimension).squareRoot())
        let factors = [
            ("attention.scale", attentionScale, plainScale), ("embedding_scale", embeddingScale, 1), ("residual_scale", residualScale, 1),
            ("logit_scale", logitDivisor, 1),
        ]
        for (key, factor, usual) in factors where factor != usual { metadata.set(prefix + key, .float32(factor)) }
        if let experts {
            metadata.set(prefix + "expert_count", .uint32(UInt32(experts.count)))
            metadata.set(prefix + "expert_used_count", .uint32(UInt32(experts.used)))
        }
        try writeWindows(to: &metadata, prefix)
        writeScaling(to: &metadata, prefix)
    }

    /// What GGUF keeps of RoPE as tensors: names and elements.
    package var ropeTensors: [(name: String, floats: [Float])] {
        switch rope.scaling {
        case .none, .linear, .yarn: []
        case .divisors(let divisors): [(ModelTensors.ropeDivisors, divisors)]
        case .longrope(let long): [(ModelTensors.ropeShort, long.short), (ModelTensors.ropeLong, long.long)]
        }
    }

    private func writeWindows(to metadata: inout Metadata, _ prefix: String) throws(ModelFileError) {
        let different = Set(windows).subtracting([0])
        guard let window = different.first else { return }
        guard different.count == 1 else {
            throw ModelFileError(
                .unsupportedFeature, "The layers of '\(name)' have windows of \(different.sorted()) positions; a GGUF file can say one length only.")
        }
        metadata.set(prefix + "attention.sliding_window", .uint32(UInt32(window)))
        guard windows.contains(0) else { return }
        metadata.set(prefix + "attention.sliding_window_pattern", .array(.bool(windows.map { $0 > 0 })))
    }

    private func writeScaling(to metadata: inout Metadata, _ prefix: String) {
        let scaling = prefix + "rope.scaling."
        switch rope.scaling {
        case .none, .divisors: break
        case .linear(let factor):
            metadata.set(scaling + "type", .string("linear"))
            metadata.set(scaling + "factor", .float32(Float(factor)))
        case .yarn(let yarn):
            metadata.set(scaling + "type", .string("yarn"))
            metadata.set(scaling + "factor", .float32(Float(yarn.factor)))
            metadata.set(scaling + "original_context_length", .uint32(UInt32(yarn.originalContext)))
            metadata.set(scaling + "yarn_beta_fast", .float32(Float(yarn.betaFast)))
            metadata.set(scaling + "yarn_beta_slow", .float32(Float(yarn.betaSlow)))
            // GGUF's readers multiply it by what the factor alone gives.
            let usual = Rope.yarnMagnitude(factor: yarn.factor)
            if yarn.magnitude != Float(usual) { metadata.set(scaling + "attn_factor", .float32(Float(Double(yarn.magnitude) / usual))) }
        case .longrope(let long):
            metadata.set(scaling + "type", .string("longrope"))
            metadata.set(scaling + "original_context_length", .uint32(UInt32(long.originalContext)))
            metadata.set(scaling + "attn_factor", .float32(long.magnitude))
        }
    }
}
