import CKernels

/// Reads RoPE's scaling from GGUF metadata and the vectors that files keep as tensors.
struct RopeReader {
    let metadata: Metadata
    /// The architecture's name and a point.
    let prefix: String
    let tensors: ModelConfiguration.TensorFacts

    func scaling(contextLength: Int) throws(ModelFileError) -> ModelConfiguration.Rope.Scaling {
        let type = try metadata.string(prefix + "rope.scaling.type")
        // `rope.scale_linear` is the key that `rope.scaling.factor` replaced.
        let older = try metadata.double(prefix + "rope.scale_linear")
        let factor = try metadata.double(prefix + "rope.scaling.factor") ?? older
        if tensors.ropeShort != nil || tensors.ropeLong != nil || type == "longrope" {
            return try longrope(type: type, factor: factor, contextLength: contextLength)
        }
        if type != "yarn" { try refuseYarnKeys(type) }
        switch type {
        case "none":
            if let factor, factor != 1 {
                throw contradiction("rope.scaling.type", "is 'none', but a scaling factor of \(factor) is given")
            }
        // Where no type is named, a factor means linear scaling.
        case "linear", nil:
            if type != nil, factor == nil { throw missing("rope.scaling.factor") }
            if let factor, factor != 1 {
                try refuseDivisors("rope.scaling.factor", "is \(factor)")
                return .linear(factor: factor)
            }
        case "yarn":
            try refuseDivisors("rope.scaling.type", "is 'yarn'")
            return try yarn(factor: factor)
        case let other?:
            throw unsupported("rope.scaling.type", "is '\(other)'; supported are none, linear, yarn, longrope and the tensor rope_freqs.weight")
        }
        return tensors.ropeDivisors.map { .divisors($0) } ?? .none
    }

    private func yarn(factor: Double?) throws(ModelFileError) -> ModelConfiguration.Rope.Scaling {
        guard let factor else { throw missing("rope.scaling.factor") }
        guard let original = try metadata.int(prefix + "rope.scaling.original_context_length") else {
            throw missing("rope.scaling.original_context_length")
        }
        for name in ["rope.scaling.yarn_ext_factor", "rope.scaling.yarn_attn_factor"] {
            if let value = try metadata.double(prefix + name), value != 1 { throw unsupported(name, "is \(value); only 1 is supported") }
        }
        if let multiplier = try metadata.double(prefix + "rope.scaling.yarn_log_multiplier"), multiplier != 0, multiplier != 0.1 {
            throw unsupported("rope.scaling.yarn_log_multiplier", "is \(multiplier); only 0.1 is supported")
        }
        let relative = try metadata.double(prefix + "rope.scaling.attn_factor") ?? 1
        return .yarn(
            .init(
                factor: factor, originalContext: original,
                betaFast: try metadata.double(prefix + "rope.scaling.yarn_beta_fast") ?? 32,
                betaSlow: try metadata.double(prefix + "rope.scaling.yarn_beta_slow") ?? 1,
                magnitude: Float(relative * ModelConfiguration.Rope.yarnMagnitude(factor: factor))))
    }

    private func longrope(type: String?, factor: Double?, contextLength: Int) throws(ModelFileError) -> ModelConfiguration.Rope.Scaling {
        guard type == nil || type == "longrope" || type == "none" else {
            throw contradiction("rope.scaling.type", "is '\(type!)', but the file brings longrope's divisors (rope_factors_short.weight, rope_factors_long.weight)")
        }
        try refuseDivisors("rope.scaling.type", "is longrope")
        try refuseYarnKeys("longrope", but: "rope.scaling.attn_factor")
        guard let short = tensors.ropeShort else { throw ModelFileError(.missingTensor, missingTensor(ModelTensors.ropeShort)) }
        guard let long = tensors.ropeLong else { throw ModelFileError(.missingTensor, missingTensor(ModelTensors.ropeLong)) }
        let original = try metadata.int(prefix + "rope.scaling.original_context_length") ?? contextLength
        if let factor, factor != 1, factor != Double(contextLength) / Double(original) {
            throw contradiction("rope.scaling.factor", "is \(factor), but the context grew from \(original) to \(contextLength)")
        }
        let magnitude = try metadata.double(prefix + "rope.scaling.attn_factor").map { Float($0) }
        return .longrope(
            .init(
                short: short, long: long, originalContext: original,
                magnitude: magnitude ?? ModelConfiguration.Rope.longMagnitude(context: contextLength, originalContext: original)))
    }

    // MARK: Refusing

    private func refuseDivisors(_ key: String, _ what: String) throws(ModelFileError) {
        guard tensors.ropeDivisors != nil else { return }
        throw contradiction(key, what + ", but the file also brings divisors (rope_freqs.weight)")
    }

    /// Keys that only another kind of scaling has.
    private func refuseYarnKeys(_ type: String?, but understood: String? = nil) throws(ModelFileError) {
        for name in RopeReader.yarnKeys where name != understood {
            if let value = metadata[prefix + name] {
                throw contradiction(name, "is \(value), but the scaling is \(type.map { "'\($0)'" } ?? "not named")")
            }
        }
    }

    private static let yarnKeys = [
        "rope.scaling.attn_factor", "rope.scaling.yarn_ext_factor", "rope.scaling.yarn_attn_factor", "rope.scaling.yarn_log_multiplier",
        "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow",
    ]

    /// Names below the architecture's prefix that are read here.
    static let understoodKeys = Set(yarnKeys).union([
        "rope.scaling.type", "rope.scaling.factor", "rope.scale_linear",
        // With linear scaling these two only describe how the model was made.
        "rope.scaling.original_context_length", "rope.scaling.finetuned",
    ])

    private func missing(_ name: String) -> ModelFileError {
        ModelFileError(.missingKey, "The model file lacks the metadata key '\(prefix)\(name)'. Convert the model again with a current converter.")
    }

    private func missingTensor(_ name: String) -> String {
        "The file lacks the tensor '\(name)', which longrope needs. It is incomplete; fetch or convert it again."
    }

    private func unsupported(_ name: String, _ what: String) -> ModelFileError {
        ModelFileError(.unsupportedFeature, "The metadata key '\(prefix)\(name)' \(what). This version cannot serve the model.")
    }

    private func contradiction(_ name: String, _ what: String) -> ModelFileError {
        ModelFileError(.contradiction, "The metadata key '\(prefix)\(name)' \(what). The file is damaged or from a faulty converter.")
    }
}
