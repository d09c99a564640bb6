/// The tensors of the decoder block: their names in GGUF files, and the shape that a configuration asks of each.
package enum ModelTensors {
    /// [hidden, vocabulary]; also the head where `tiedHead`.
    package static let embedding = "token_embd.weight"
    /// [hidden]
    package static let outputNorm = "output_norm.weight"
    /// [hidden, vocabulary]; absent where `tiedHead`.
    package static let head = "output.weight"
    /// [rope.dimensions / 2]; divisors of the RoPE frequencies, present where `rope.scaling` is `.divisors`.
    package static let ropeDivisors = "rope_freqs.weight"

    package static func layer(_ index: Int) -> LayerTensors { LayerTensors(index: index) }

    /// The names of one layer. Shapes are in GGUF order: columns (inputs) first, then rows (outputs).
    package struct LayerTensors: Sendable {
        package let index: Int
        private var prefix: String { "blk.\(index)." }

        /// [hidden]
        package var attentionNorm: String { prefix + "attn_norm.weight" }
        /// [hidden, queryWidth]
        package var query: String { prefix + "attn_q.weight" }
        /// [hidden, kvWidth]
        package var key: String { prefix + "attn_k.weight" }
        /// [hidden, kvWidth]
        package var value: String { prefix + "attn_v.weight" }
        /// [queryWidth], where `qkvBias`
        package var queryBias: String { prefix + "attn_q.bias" }
        /// [kvWidth], where `qkvBias`
        package var keyBias: String { prefix + "attn_k.bias" }
        /// [kvWidth], where `qkvBias`
        package var valueBias: String { prefix + "attn_v.bias" }
        /// [queryWidth, hidden]
        package var attentionOutput: String { prefix + "attn_output.weight" }
        /// [hidden]
        package var feedForwardNorm: String { prefix + "ffn_norm.weight" }
        /// [hidden, feedForward]
        package var gate: String { prefix + "ffn_gate.weight" }
        /// [hidden, feedForward]
        package var up: String { prefix + "ffn_up.weight" }
        /// [feedForward, hidden]
        package var down: String { prefix + "ffn_down.weight" }
    }

    /// A tensor that a configuration asks for.
    package struct Wanted: Sendable, Equatable {
        package var name: String
        package var shape: [Int]
        /// Norms, biases and divisors are small and read as floats; they must be F32, F16 or BF16.
        package var isVector: Bool { shape.count == 1 }
    }

    /// The tensors of one layer, in the order of use.
    package static func wanted(layer index: Int, _ model: ModelConfiguration) -> [Wanted] {
        let names = layer(index)
        var wanted = [
            Wanted(name: names.attentionNorm, shape: [model.hidden]),
            Wanted(name: names.query, shape: [model.hidden, model.queryWidth]),
            Wanted(name: names.key, shape: [model.hidden, model.kvWidth]),
            Wanted(name: names.value, shape: [model.hidden, model.kvWidth]),
            Wanted(name: names.attentionOutput, shape: [model.queryWidth, model.hidden]),
            Wanted(name: names.feedForwardNorm, shape: [model.hidden]),
            Wanted(name: names.gate, shape: [model.hidden, model.feedForward]),
            Wanted(name: names.up, shape: [model.hidden, model.feedForward]),
            Wanted(name: names.down, shape: [model.feedForward, model.hidden]),
        ]
        if model.qkvBias {
            wanted.append(Wanted(name: names.queryBias, shape: [model.queryWidth]))
            wanted.append(Wanted(name: names.keyBias, shape: [model.kvWidth]))
            wanted.append(Wanted(name: names.valueBias, shape: [model.kvWidth]))
        }
        return wanted
    }

    /// The tensors that belong to no layer.
    package static func wantedOutsideLayers(_ model: ModelConfiguration) -> [Wanted] {
        var wanted = [
            Wanted(name: embedding, shape: [model.hidden, model.vocabulary]),
            Wanted(name: outputNorm, shape: [model.hidden]),
        ]
        if !model.tiedHead { wanted.append(Wanted(name: head, shape: [model.hidden, model.vocabulary])) }
        if model.rope.scaling == .divisors {
            wanted.append(Wanted(name: ropeDivisors, shape: [model.rope.dimensions / 2]))
        }
        return wanted
    }

    /// Checks that `file` holds every tensor that `model` asks for, in its shape, and none besides: a tensor that the
    /// forward pass does not know would change the result.
    package static func check(_ file: GGUFFile, against model: ModelConfiguration) throws(ModelFileError) {
        // Before a list of `layers` entries is made: a damaged count must not cost memory.
        guard model.layers <= file.tensors.count else {
            throw ModelFileError(
                .missingTensor,
                "The model's metadata speaks of \(model.layers) layers, but the file holds only \(file.tensors.count) tensors. The file is incomplete; fetch it again."
            )
        }
        var known: Set<String> = []
        try check(wantedOutsideLayers(model), in: file, known: &known)
        for index in 0..<model.layers {
            try check(wanted(layer: index, model), in: file, known: &known)
        }
        try checkDivisors(file)
        for tensor in file.tensors where !known.contains(tensor.name) {
            guard harmless(tensor.name) else {
                throw ModelFileError(
                    .unknownTensor,
                    "The file holds the tensor '\(tensor.name)', which the '\(model.architecture.rawValue)' block does not use; ignoring it would give wrong answers. This version cannot serve the model."
                )
            }
        }
    }

    private static func check(
        _ wanted: [Wanted], in file: GGUFFile, known: inout Set<String>
    ) throws(ModelFileError) {
        for one in wanted {
            guard let tensor = file.tensor(one.name) else {
                throw ModelFileError(
                    .missingTensor, "The file lacks the tensor '\(one.name)' of shape \(one.shape). It is incomplete; fetch or convert it again.")
            }
            guard tensor.shape.trimmingOnes == one.shape.trimmingOnes else {
                throw ModelFileError(
                    .wrongTensor,
                    "The tensor '\(one.name)' has the shape \(tensor.shape), but the model's metadata asks for \(one.shape). The file is damaged or from a faulty converter."
                )
            }
            guard !one.isVector || tensor.type.isFloat else {
                throw ModelFileError(
                    .wrongTensor,
                    "The tensor '\(one.name)' has the type \(tensor.type.name); norms and biases must be F32, F16 or BF16. Convert the model again."
                )
            }
            known.insert(one.name)
        }
    }

    private static func checkDivisors(_ file: GGUFFile) throws(ModelFileError) {
        let divisors = file.tensor(ropeDivisors)?.dequantized() ?? []
        for (index, divisor) in divisors.enumerated() where !(divisor.isFinite && divisor > 0) {
            throw ModelFileError(
                .wrongTensor,
                "Element \(index) of the tensor '\(ropeDivisors)' is \(divisor), by which no frequency can be divided. The file is damaged; fetch it again."
            )
        }
    }

    /// Tensors of old files that hold what is computed anyway: the plain RoPE frequencies of each layer.
    private static func harmless(_ name: String) -> Bool {
        name.hasPrefix("blk.") && name.hasSuffix(".attn_rot_embd.weight")
    }
}

extension [Int] {
    /// Trailing dimensions of one say nothing.
    fileprivate var trimmingOnes: ArraySlice<Int> {
        var trimmed = self[...]
        while trimmed.count > 1, trimmed.last == 1 { trimmed.removeLast() }
        return trimmed
    }
}
