extension ModelTensors {
    package static func layer(_ index: Int) -> LayerTensors { LayerTensors(index: index) }

    /// The names of one layer. Shapes are in GGUF order: columns (inputs) first, then rows (outputs), then experts.
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
        /// [hidden, queryWidth + 2 kvWidth]: the three of them as one (Phi-3).
        package var qkv: String { prefix + "attn_qkv.weight" }
        /// [queryWidth], where `qkvBias`
        package var queryBias: String { prefix + "attn_q.bias" }
        /// [kvWidth], where `qkvBias`
        package var keyBias: String { prefix + "attn_k.bias" }
        /// [kvWidth], where `qkvBias`
        package var valueBias: String { prefix + "attn_v.bias" }
        /// [queryWidth + 2 kvWidth]
        package var qkvBias: String { prefix + "attn_qkv.bias" }
        /// [queryWidth, hidden]
        package var attentionOutput: String { prefix + "attn_output.weight" }
        /// [hidden], where `outputBias`
        package var attentionOutputBias: String { prefix + "attn_output.bias" }
        /// [hidden]
        package var feedForwardNorm: String { prefix + "ffn_norm.weight" }
        /// [hidden, feedForward]
        package var gate: String { prefix + "ffn_gate.weight" }
        /// [hidden, feedForward]; with the gates before it, as one, [hidden, 2 feedForward] (Phi-3).
        package var up: String { prefix + "ffn_up.weight" }
        /// [feedForward, hidden]
        package var down: String { prefix + "ffn_down.weight" }
        /// [hidden, experts]
        package var router: String { prefix + "ffn_gate_inp.weight" }
        /// [hidden, feedForward, experts]
        package var expertGates: String { prefix + "ffn_gate_exps.weight" }
        /// [hidden, feedForward, experts]
        package var expertUps: String { prefix + "ffn_up_exps.weight" }
        /// [feedForward, hidden, experts]
        package var expertDowns: String { prefix + "ffn_down_exps.weight" }
    }

    /// What a configuration asks for in one layer.
    package struct WantedLayer: Sendable {
        package let attentionNorm: Wanted
        package let query: Wanted
        package let key: Wanted
        package let value: Wanted
        /// Of queries, keys and values; empty where they have none.
        package let qkvBias: [Wanted]
        package let attentionOutput: Wanted
        package let attentionOutputBias: Wanted?
        package let feedForwardNorm: Wanted
        package let feedForward: FeedForward

        package enum FeedForward: Sendable {
            case dense(gate: Wanted, up: Wanted, down: Wanted)
            case experts(router: Wanted, gates: Wanted, ups: Wanted, downs: Wanted)

            var all: [Wanted] {
                switch self {
                case .dense(let gate, let up, let down): [gate, up, down]
                case .experts(let router, let gates, let ups, let downs): [router, gates, ups, downs]
                }
            }
        }

        package init(_ index: Int, _ model: ModelConfiguration) {
            let names = ModelTensors.layer(index)
            let (hidden, queries, keys, inner) = (model.hidden, model.queryWidth, model.kvWidth, model.feedForward)
            let widths = [(first: 0, count: queries), (first: queries, count: keys), (first: queries + keys, count: keys)]
            let heads = zip([names.query, names.key, names.value], widths).map { name, width in
                Wanted(name, [hidden, width.count], fused: .init(name: names.qkv, first: width.first, rows: queries + 2 * keys))
            }
            (query, key, value) = (heads[0], heads[1], heads[2])
            let biases = zip([names.queryBias, names.keyBias, names.valueBias], widths).map { name, width in
                Wanted(name, [width.count], fused: .init(name: names.qkvBias, first: width.first, rows: queries + 2 * keys))
            }
            qkvBias = model.qkvBias ? biases : []
            attentionNorm = Wanted(names.attentionNorm, [hidden])
            attentionOutput = Wanted(names.attentionOutput, [queries, hidden])
            attentionOutputBias = model.outputBias ? Wanted(names.attentionOutputBias, [hidden]) : nil
            feedForwardNorm = Wanted(names.feedForwardNorm, [hidden])
            if let experts = model.experts {
                feedForward = .experts(
                    router: Wanted(names.router, [hidden, experts.count]), gates: Wanted(names.expertGates, [hidden, inner, experts.count]),
                    ups: Wanted(names.expertUps, [hidden, inner, experts.count]), downs: Wanted(names.expertDowns, [inner, hidden, experts.count]))
            } else {
                feedForward = .dense(
                    gate: Wanted(names.gate, [hidden, inner], fused: .init(name: names.up, first: 0, rows: 2 * inner)),
                    up: Wanted(names.up, [hidden, inner], fused: .init(name: names.up, first: inner, rows: 2 * inner)),
                    down: Wanted(names.down, [inner, hidden]))
            }
        }

        /// In the order of use.
        package var all: [Wanted] {
            [attentionNorm, query, key, value, attentionOutput, feedForwardNorm] + feedForward.all + qkvBias
                + (attentionOutputBias.map { [$0] } ?? [])
        }
    }
}
