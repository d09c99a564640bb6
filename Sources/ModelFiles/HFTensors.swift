/// The table of names: which tensor of a folder, and which of its rows, stands for which of `ModelTensors`.
struct HFTensors {
    private let folder: HFFolder
    private let model: ModelConfiguration
    private var known: Set<String> = []
    private var found: [Tensor] = []

    init(_ folder: HFFolder, _ model: ModelConfiguration) {
        self.folder = folder
        self.model = model
    }

    /// Views of everything that is there; what is missing is for the caller to see. Throws `wrongTensor` where a tensor has not the shape that
    /// its parts need, `unknownTensor` for one that none of the names stands for.
    consuming func roles() throws(ModelFileError) -> [Tensor] {
        take(["model.embed_tokens.weight", "model.tok_embeddings.weight"], as: ModelTensors.embedding)
        take(["model.norm.weight"], as: ModelTensors.outputNorm)
        // Where the head is tied, some folders still bring it; transformers puts the embedding in its place.
        if model.tiedHead { known.formUnion(HFTensors.heads) } else { take(HFTensors.heads, as: ModelTensors.head) }
        take(["lm_head.bias"], as: ModelTensors.headBias)
        guard model.layers <= folder.tensors.count else {
            throw ModelFileError(
                .missingTensor,
                "config.json speaks of \(model.layers) layers, but the folder '\(folder.path)' holds only \(folder.tensors.count) tensors. Fetch the folder again.")
        }
        for layer in 0..<model.layers {
            let (own, names) = ("model.layers.\(layer).", ModelTensors.layer(layer))
            take([own + "input_layernorm.weight", own + "attention_norm.weight"], as: names.attentionNorm)
            take([own + "post_attention_layernorm.weight", own + "ffn_norm.weight"], as: names.feedForwardNorm)
            try takeAttention(own, names)
            try takeFeedForward(own, names)
            // Rotary frequencies that old checkpoints keep beside the weights.
            known.insert(own + "self_attn.rotary_emb.inv_freq")
        }
        for tensor in folder.tensors where !known.contains(tensor.name) {
            throw ModelFileError(
                .unknownTensor,
                "The folder '\(folder.path)' holds the tensor '\(tensor.name)', which the '\(model.architecture.rawValue)' block does not use; ignoring it would give wrong answers. This version cannot serve the model."
            )
        }
        return found
    }

    private static let heads = ["lm_head.weight", "output.weight"]

    /// Whether a tensor that a folder may hold is not looked at.
    static func isIgnored(_ name: String, _ model: ModelConfiguration) -> Bool {
        model.tiedHead && heads.contains(name) || name.hasSuffix(".self_attn.rotary_emb.inv_freq")
    }

    // MARK: Attention

    private mutating func takeAttention(_ own: String, _ names: ModelTensors.LayerTensors) throws(ModelFileError) {
        for (kind, query, key, value, output) in [
            ("weight", names.query, names.key, names.value, names.attentionOutput),
            ("bias", names.queryBias, names.keyBias, names.valueBias, names.attentionOutputBias),
        ] {
            take([own + "self_attn.o_proj.\(kind)", own + "attention.wo.\(kind)"], as: output)
            if let packed = use([own + "attention.wqkv.\(kind)"]) {
                try takePacked(packed, query, key, value)
            } else if let fused = use([own + "self_attn.qkv_proj.\(kind)"]) {
                try takeFused(fused, query, key, value)
            } else {
                if let tensor = use([own + "self_attn.q_proj.\(kind)"]) { found.append(turned(tensor, name: query)) }
                if let tensor = use([own + "self_attn.k_proj.\(kind)"]) { found.append(turned(tensor, name: key)) }
                take([own + "self_attn.v_proj.\(kind)"], as: value)
            }
        }
    }

    /// Of Phi-3: all queries, all keys, all values.
    private mutating func takeFused(_ tensor: Tensor, _ query: String, _ key: String, _ value: String) throws(ModelFileError) {
        try check(tensor, rows: model.queryWidth + 2 * model.kvWidth)
        let keys = model.queryWidth + model.kvWidth
        found.append(turned(part(tensor, 0..<model.queryWidth, query), name: query))
        found.append(turned(part(tensor, model.queryWidth..<keys, key), name: key))
        found.append(part(tensor, keys..<keys + model.kvWidth, value))
    }

    /// Of InternLM2: for each key head its queries, then the key, then the value.
    private mutating func takePacked(_ tensor: Tensor, _ query: String, _ key: String, _ value: String) throws(ModelFileError) {
        try check(tensor, rows: model.queryWidth + 2 * model.kvWidth)
        let (head, queries) = (model.headDimension, model.queryWidth / model.kvHeads)
        let turns = model.rope.pairing == .adjacent ? head : nil
        for (name, offset, rows, turns) in [(query, 0, queries, turns), (key, queries, head, turns), (value, queries + head, head, nil)] {
            let order = RowOrder(groupRows: rows, groupStride: queries + 2 * head, groupOffset: offset, headRows: turns)
            found.append(tensor.ordered(order, shape: shape(tensor, rows: rows * model.kvHeads), name: name))
        }
    }

    /// The rows of each head as GGUF's family has them. transformers turns halves; where GGUF's files are for adjacent pairs they are interleaved.
    /// Of heads that turn in part only the first elements would be; no family of ours does both.
    private func turned(_ tensor: Tensor, name: String) -> Tensor {
        guard model.rope.pairing == .adjacent else { return tensor.named(name) }
        let rows = tensor.shape.count > 1 ? tensor.rows : tensor.columns
        return tensor.ordered(RowOrder(groupRows: rows, groupStride: rows, headRows: model.headDimension), shape: tensor.shape, name: name)
    }

    // MARK: Feed-forward

    private mutating func takeFeedForward(_ own: String, _ names: ModelTensors.LayerTensors) throws(ModelFileError) {
        guard let experts = model.experts else {
            if let fused = use([own + "mlp.gate_up_proj.weight"]) {
                try check(fused, rows: 2 * model.feedForward)
                found.append(part(fused, 0..<model.feedForward, names.gate))
                found.append(part(fused, model.feedForward..<2 * model.feedForward, names.up))
            } else {
                take([own + "mlp.gate_proj.weight", own + "feed_forward.w1.weight"], as: names.gate)
                take([own + "mlp.up_proj.weight", own + "feed_forward.w3.weight"], as: names.up)
            }
            take([own + "mlp.down_proj.weight", own + "feed_forward.w2.weight"], as: names.down)
            return
        }
        let blocks = [own + "block_sparse_moe.", own + "mlp."]
        take(blocks.flatMap { [$0 + "gate.weight", $0 + "router.layer.weight", $0 + "router.weight"] }, as: names.router)
        if let inner = use(blocks.flatMap { [$0 + "input_linear.weight", $0 + "experts.gate_up_proj"] }) {
            let rows = model.feedForward
            guard inner.shape == [model.hidden, 2 * rows, experts.count] else {
                throw ModelFileError(
                    .wrongTensor,
                    "The tensor '\(inner.name)' has the shape \(inner.shape), but config.json asks for \([model.hidden, 2 * rows, experts.count]). The folder '\(folder.path)' is damaged; fetch it again."
                )
            }
            for (name, offset) in [(names.expertGates, 0), (names.expertUps, rows)] {
                let order = RowOrder(groupRows: rows, groupStride: 2 * rows, groupOffset: offset)
                found.append(inner.ordered(order, shape: [inner.columns, rows, experts.count], name: name))
            }
            take(blocks.flatMap { [$0 + "output_linear.weight", $0 + "experts.down_proj"] }, as: names.expertDowns)
            return
        }
        for expert in 0..<experts.count {
            for (name, role) in [("w1", "gate"), ("w3", "up"), ("w2", "down")] {
                take([own + "block_sparse_moe.experts.\(expert).\(name).weight"], as: "blk.\(names.index).ffn_\(role).\(expert).weight")
            }
        }
    }

    // MARK: Pieces

    /// The first of these names that the folder has.
    private mutating func use(_ names: [String]) -> Tensor? {
        for name in names {
            guard let tensor = folder.tensor(name) else { continue }
            known.insert(name)
            return tensor
        }
        return nil
    }

    private mutating func take(_ names: [String], as role: String) {
        if let tensor = use(names) { found.append(tensor.named(role)) }
    }

    private func part(_ tensor: Tensor, _ range: Range<Int>, _ name: String) -> Tensor {
        tensor.shape.count > 1 ? tensor.rows(range, name: name) : tensor.elements(range, name: name)
    }

    private func shape(_ tensor: Tensor, rows: Int) -> [Int] { tensor.shape.count > 1 ? [tensor.columns, rows] : [rows] }

    private func check(_ tensor: Tensor, rows: Int) throws(ModelFileError) {
        let found = tensor.shape.count > 1 ? tensor.rows : tensor.columns
        guard found == rows else {
            throw ModelFileError(
                .wrongTensor,
                "The tensor '\(tensor.name)' has \(found) rows, but config.json asks for \(rows). The folder '\(folder.path)' is damaged; fetch it again.")
        }
    }
}

extension Tensor {
    func named(_ name: String) -> Tensor {
        Tensor(name: name, type: type, shape: shape, part: part, fileOffset: fileOffset, storage: storage, order: order)
    }
}
