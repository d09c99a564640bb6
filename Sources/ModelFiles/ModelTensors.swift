/// The tensors of the decoder block: their names in GGUF files, and the shape that a configuration asks of each. A folder's tensors are found
/// under the same names (`HFModel`).
package enum ModelTensors {
    /// [hidden, vocabulary]; also the head where `tiedHead`.
    package static let embedding = "token_embd.weight"
    /// [hidden]
    package static let outputNorm = "output_norm.weight"
    /// [hidden, vocabulary]; absent where `tiedHead`.
    package static let head = "output.weight"
    /// [vocabulary], where `headBias`
    package static let headBias = "output.bias"
    /// [rope.dimensions / 2]; divisors of the RoPE frequencies, where `rope.scaling` is `.divisors`.
    package static let ropeDivisors = "rope_freqs.weight"
    /// [rope.dimensions / 2], as the next, where it is `.longrope`.
    package static let ropeShort = "rope_factors_short.weight"
    package static let ropeLong = "rope_factors_long.weight"

    /// A tensor that a configuration asks for.
    package struct Wanted: Sendable, Equatable {
        /// Rows of a larger tensor, in which some files keep it together with others.
        struct Fused: Sendable, Equatable {
            var name: String
            var first: Int
            var rows: Int
        }

        package var name: String
        /// Columns (inputs), rows (outputs), and experts where each has a matrix of its own.
        package var shape: [Int]
        var fused: Fused?
        /// Norms and biases are small and read as floats; they must be F32, F16 or BF16.
        package var isVector: Bool { shape.count == 1 }
        package var columns: Int { shape[0] }
        /// Of one expert's matrix where there are experts.
        package var rows: Int { shape.count > 1 ? shape[1] : 1 }
        package var experts: Int? { shape.count > 2 ? shape[2] : nil }

        /// A matrix.
        package init(_ name: String, columns: Int, rows: Int) { self.init(name, [columns, rows]) }

        init(_ name: String, _ shape: [Int], fused: Fused? = nil) {
            self.name = name
            self.shape = shape
            self.fused = fused
        }

        /// The name of one expert's matrix in files that keep them one by one: "blk.0.ffn_up.3.weight".
        func name(ofExpert expert: Int) -> String { name.dropLast("_exps.weight".count) + ".\(expert).weight" }
    }

    /// The tensors of one layer, in the order of use.
    package static func wanted(layer index: Int, _ model: ModelConfiguration) -> [Wanted] { WantedLayer(index, model).all }

    /// The tensors that belong to no layer; the embedding first. What RoPE takes from tensors is in the configuration.
    package static func wantedOutsideLayers(_ model: ModelConfiguration) -> [Wanted] {
        [wantedEmbedding(model), wantedOutputNorm(model)] + (model.tiedHead ? [] : [wantedHead(model)])
            + (model.headBias ? [wantedHeadBias(model)] : [])
    }

    package static func wantedEmbedding(_ model: ModelConfiguration) -> Wanted { Wanted(embedding, [model.hidden, model.vocabulary]) }
    package static func wantedOutputNorm(_ model: ModelConfiguration) -> Wanted { Wanted(outputNorm, [model.hidden]) }
    package static func wantedHead(_ model: ModelConfiguration) -> Wanted { Wanted(head, [model.hidden, model.vocabulary]) }
    package static func wantedHeadBias(_ model: ModelConfiguration) -> Wanted { Wanted(headBias, [model.vocabulary]) }

    // MARK: Finding

    /// Where a model has what was wanted.
    package struct Found: Sendable {
        /// One, or one for each expert; views of what the file holds, of the wanted columns and rows.
        package var tensors: [Tensor]
        /// The tensors of the file of which these are views.
        package var sources: [String]
    }

    /// Looks for `wanted` under its own name, in a fused tensor, and expert by expert. Throws `missingTensor` and `wrongTensor`.
    package static func find(_ wanted: Wanted, in source: any TensorSource) throws(ModelFileError) -> Found {
        if let fused = wanted.fused, let whole = source.tensor(fused.name), (wanted.isVector ? whole.columns : whole.rows) == fused.rows {
            try check(whole, shape: wanted.isVector ? [fused.rows] : [wanted.columns, fused.rows], isVector: wanted.isVector)
            return Found(tensors: [whole.part(fused.first, fused.rows, of: wanted)], sources: [fused.name])
        }
        if let tensor = source.tensor(wanted.name) {
            try check(tensor, shape: wanted.shape, isVector: wanted.isVector)
            guard let experts = wanted.experts else { return Found(tensors: [tensor], sources: [wanted.name]) }
            let views = (0..<experts).map { tensor.rows($0 * wanted.rows..<($0 + 1) * wanted.rows, name: wanted.name(ofExpert: $0)) }
            return Found(tensors: views, sources: [wanted.name])
        }
        guard let experts = wanted.experts else { throw missing(wanted.name, wanted.shape) }
        var found = Found(tensors: [], sources: [])
        for expert in 0..<experts {
            let name = wanted.name(ofExpert: expert)
            guard let tensor = source.tensor(name) else { throw missing(expert == 0 ? wanted.name : name, wanted.shape) }
            try check(tensor, shape: [wanted.columns, wanted.rows], isVector: false)
            found.tensors.append(tensor)
            found.sources.append(name)
        }
        return found
    }

    /// What a model has of `wanted`; nothing where it lacks it.
    package static func tensors(_ wanted: Wanted, in source: any TensorSource) -> [Tensor] {
        (try? find(wanted, in: source))?.tensors ?? []
    }

    // MARK: Checking

    /// Checks that `source` holds every tensor that `model` asks for, in its shape, and none besides: a tensor that the
    /// forward pass does not know would change the result.
    package static func check(_ source: any TensorSource, against model: ModelConfiguration) throws(ModelFileError) {
        // Before a list of `layers` entries is made: a damaged count must not cost memory.
        guard model.layers <= source.tensors.count else {
            throw ModelFileError(
                .missingTensor,
                "The model's metadata speaks of \(model.layers) layers, but the file holds only \(source.tensors.count) tensors. The file is incomplete; fetch it again."
            )
        }
        var known: Set<String> = []
        for wanted in wantedOutsideLayers(model) { known.formUnion(try find(wanted, in: source).sources) }
        for index in 0..<model.layers {
            for wanted in wanted(layer: index, model) { known.formUnion(try find(wanted, in: source).sources) }
        }
        switch model.rope.scaling {
        case .divisors: known.insert(ropeDivisors)
        case .longrope: known.formUnion([ropeShort, ropeLong])
        case .none, .linear, .yarn: break
        }
        for tensor in source.tensors where !known.contains(tensor.name) {
            guard harmless(tensor.name) else {
                throw ModelFileError(
                    .unknownTensor,
                    "The file holds the tensor '\(tensor.name)', which the '\(model.architecture.rawValue)' block does not use; ignoring it would give wrong answers. This version cannot serve the model."
                )
            }
        }
    }

    private static func check(_ tensor: Tensor, shape: [Int], isVector: Bool) throws(ModelFileError) {
        guard tensor.shape.trimmingOnes == shape.trimmingOnes else {
            throw ModelFileError(
                .wrongTensor,
                "The tensor '\(tensor.name)' has the shape \(tensor.shape), but the model's configuration asks for \(shape). The file is damaged or from a faulty converter."
            )
        }
        guard !isVector || tensor.type.isFloat else {
            throw ModelFileError(
                .wrongTensor,
                "The tensor '\(tensor.name)' has the type \(tensor.type.name); norms and biases must be F32, F16 or BF16. Convert the model again."
            )
        }
    }

    private static func missing(_ name: String, _ shape: [Int]) -> ModelFileError {
        ModelFileError(.missingTensor, "The file lacks the tensor '\(name)' of shape \(shape). It is incomplete; fetch or convert it again.")
    }

    /// Tensors of old files that hold what is computed anyway: the plain RoPE frequencies of each layer.
    private static func harmless(_ name: String) -> Bool {
        name.hasPrefix("blk.") && name.hasSuffix(".attn_rot_embd.weight")
    }
}

extension Tensor {
    /// The part of this fused tensor that begins at row (of a vector: element) `first` of `all`.
    fileprivate func part(_ first: Int, _ all: Int, of wanted: ModelTensors.Wanted) -> Tensor {
        wanted.isVector ? elements(first..<first + wanted.columns, name: wanted.name) : rows(first..<first + wanted.rows, name: wanted.name)
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
