import CKernels

/// A model file of a known shape with random weights: its text means nothing, its logits are finite, and it computes as long as
/// a real one. For benchmarks, and for runs of sizes whose real files are not at hand.
///
/// A seed gives the same bytes whatever the number of threads, and each tensor the same bytes whatever the number of layers.
package struct SyntheticModel {
    package let configuration: ModelConfiguration
    package let recipe: SyntheticRecipe
    package let seed: UInt64
    private let preTokenizer: String

    /// Tokens that a vocabulary must have at least.
    package static let vocabularyMin = SyntheticVocabulary.countMin

    /// `layers` and `vocabulary`: nil for the real model's.
    package init(
        shape: SyntheticShape, recipe: SyntheticRecipe, layers: Int? = nil, vocabulary: Int? = nil, seed: UInt64
    ) throws(ModelFileError) {
        configuration = try shape.configuration(layers: layers, vocabulary: vocabulary)
        guard configuration.vocabulary >= Self.vocabularyMin else {
            throw ModelFileError(
                .invalidValue,
                "A vocabulary of \(configuration.vocabulary) tokens was asked for, but all bytes and the tokens around messages are \(Self.vocabularyMin). Ask for more."
            )
        }
        preTokenizer = shape.preTokenizer
        self.recipe = recipe
        self.seed = seed
        for tensor in plan where tensor.wanted.shape[0] % tensor.type.blockSize != 0 {
            throw ModelFileError(
                .raggedRow,
                "The tensor '\(tensor.wanted.name)' has rows of \(tensor.wanted.shape[0]), which are no whole blocks of \(tensor.type.name). Choose another type."
            )
        }
    }

    /// Every second megabyte of a tensor is zeros, which in a file are holes: it takes about half of its size of the disk, and its logits are as
    /// finite.
    package var isHalfHollow = false

    /// Bytes of all tensors.
    package var byteCount: Int { plan.reduce(0) { $0 + $1.byteCount } }

    /// Writes the file as a stream: a few megabytes of it are in memory at a time. `progress` is called on the calling thread.
    package func write(
        to path: String, threads: Int = 1, progress: @escaping (_ bytesDone: Int, _ bytesTotal: Int) -> Void = { _, _ in }
    ) throws(ModelFileError) {
        try writer(threads: threads, progress: progress).write(to: path)
    }

    /// Writes the file with holes in place of its matrices: its header is that of the whole model, for plans, but nobody can compute with it.
    package func writeHollow(to path: String) throws(ModelFileError) {
        var writer = GGUFWriter(metadata: metadata)
        for tensor in plan {
            writer.add(tensor.wanted.name, type: tensor.type, shape: tensor.wanted.shape) { (sink) throws(ModelFileError) in
                try sink.skip(tensor.byteCount)
            }
        }
        try writer.write(to: path)
    }

    /// The file's bytes, for small models.
    package func bytes(threads: Int = 1) throws(ModelFileError) -> [UInt8] {
        try writer(threads: threads) { _, _ in }.bytes()
    }

    private func writer(threads: Int, progress: @escaping (Int, Int) -> Void) throws(ModelFileError) -> GGUFWriter {
        var writer = GGUFWriter(metadata: metadata)
        let stream = try SyntheticStream(threads: threads, bytesTotal: byteCount, isHalfHollow: isHalfHollow, progress: progress)
        for tensor in plan {
            writer.add(tensor.wanted.name, type: tensor.type, shape: tensor.wanted.shape) { (sink) throws(ModelFileError) in
                let blocks = SyntheticBlocks(type: tensor.type, deviation: tensor.deviation, mean: tensor.mean)
                try stream.write(blocks, byteCount: tensor.byteCount, seed: seed(of: tensor.wanted.name), into: &sink)
            }
        }
        return writer
    }

    /// The name's FNV-1a hash and the model's seed.
    private func seed(of name: String) -> UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in name.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        return SyntheticRandom.mixed(hash ^ SyntheticRandom.mixed(seed))
    }

    // MARK: Tensors

    private struct Planned {
        let wanted: ModelTensors.Wanted
        let type: TensorType
        let deviation: Float
        let mean: Float
        var byteCount: Int { type.rowBytes(columns: wanted.shape[0]) * wanted.shape.dropFirst().reduce(1, *) }
    }

    private var plan: [Planned] {
        let outside = ModelTensors.wantedOutsideLayers(configuration)
        var planned = [planned(outside[0], layer: nil)]
        for layer in 0..<configuration.layers {
            planned += ModelTensors.wanted(layer: layer, configuration).map { self.planned($0, layer: layer) }
        }
        return planned + outside.dropFirst().map { self.planned($0, layer: nil) }
    }

    /// Products of normed rows come out with a standard deviation of 1, those that are added to the residual stream with half of
    /// it, logits with 3.
    private func planned(_ wanted: ModelTensors.Wanted, layer: Int?) -> Planned {
        if wanted.isVector {
            let isBias = wanted.name.hasSuffix(".bias")
            return Planned(wanted: wanted, type: .f32, deviation: 0.1, mean: isBias ? 0 : 1)
        }
        let type = recipe.type(of: wanted, layer: layer, in: configuration)
        let spread: Float
        if let layer {
            let names = ModelTensors.layer(layer)
            spread = [names.attentionOutput, names.down, names.expertDowns].contains(wanted.name) ? 0.5 : 1
        } else {
            spread = 3 * configuration.logitDivisor
        }
        return Planned(wanted: wanted, type: type, deviation: spread / Float(wanted.shape[0]).squareRoot(), mean: 0)
    }

    // MARK: Metadata

    private var metadata: Metadata {
        let model = configuration
        var metadata = Metadata()
        let prefix = model.architecture.rawValue + "."
        metadata.set("general.architecture", .string(model.architecture.rawValue))
        metadata.set("general.name", .string(model.name))
        metadata.set("general.file_type", .uint32(recipe.fileType))
        metadata.set("general.quantization_version", .uint32(2))
        let counts = [
            ("context_length", model.contextLength), ("embedding_length", model.hidden), ("block_count", model.layers),
            ("feed_forward_length", model.feedForward), ("attention.head_count", model.heads), ("attention.head_count_kv", model.kvHeads),
            ("attention.key_length", model.headDimension), ("attention.value_length", model.headDimension),
            ("rope.dimension_count", model.rope.dimensions), ("vocab_size", model.vocabulary),
        ]
        for (key, count) in counts { metadata.set(prefix + key, .uint32(UInt32(count))) }
        metadata.set(prefix + "attention.layer_norm_rms_epsilon", .float32(model.normEpsilon))
        metadata.set(prefix + "rope.freq_base", .float32(Float(model.rope.base)))
        if let experts = model.experts {
            metadata.set(prefix + "expert_count", .uint32(UInt32(experts.count)))
            metadata.set(prefix + "expert_used_count", .uint32(UInt32(experts.used)))
        }
        if let window = model.windows.max() {
            metadata.set(prefix + "attention.sliding_window", .uint32(UInt32(window)))
            if model.windows.contains(0) {
                metadata.set(prefix + "attention.sliding_window_pattern", .array(.bool(model.windows.map { $0 > 0 })))
            }
        }
        if model.architecture == .granite || model.architecture == .granitemoe {
            metadata.set(prefix + "attention.scale", .float32(model.attentionScale))
            metadata.set(prefix + "embedding_scale", .float32(model.embeddingScale))
            metadata.set(prefix + "residual_scale", .float32(model.residualScale))
            metadata.set(prefix + "logit_scale", .float32(model.logitDivisor))
        }
        SyntheticVocabulary.add(to: &metadata, count: model.vocabulary, preTokenizer: preTokenizer)
        return metadata
    }
}
