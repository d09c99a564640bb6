import CKernels
import Engine
import ModelFiles

/// What one row of a decode step does in a layer beside its products, and once a step: each piece as the engine calls it, at the 72B shape.
final class DecodePieces {
    // Qwen2-72B.
    static let layers = 80
    static let hidden = 8192
    static let feed = 29_568
    static let heads = 64
    static let kvHeads = 8
    static let headWidth = 128
    static let vocabulary = 152_064
    /// Weights of a layer's matrices: queries and output, keys and values, gate, up and down.
    static let layerWeights = 2 * hidden * hidden + 2 * hidden * kvHeads * headWidth + 3 * hidden * feed

    struct Piece {
        var name: String
        /// In one step of the whole model.
        var times: Int
        var run: () -> Void
    }

    private let table: OpaquePointer
    private let pool: OpaquePointer
    private let context: Int
    private let x = Floats(2 * feed), y = Floats(2 * feed), weight = Floats(feed)
    private let logits = Floats(vocabulary), probabilities = Floats(vocabulary)
    private let cosines = Floats(headWidth), sines = Floats(headWidth)
    private let quantised: UnsafeMutableRawPointer
    private let kvMemory: UnsafeMutableRawPointer
    private let workspace: UnsafeMutableRawPointer
    private let blocks: UnsafeMutablePointer<Int32>
    private let frequencies: UnsafeMutablePointer<Double>
    private let norm: sk_norm
    private let attention: sk_attention
    private let span: sk_span

    init(pool: ComputePool, instructionSet: InstructionSet, context: Int) {
        table = instructionSet.table
        self.pool = pool.handle
        self.context = context
        quantised = .allocate(byteCount: sk_activation_bytes(SK_ACTIVATION_Q8_32, Int32(Self.feed)), alignment: Int(SK_ALIGNMENT))
        norm = sk_norm(kind: SK_NORM_RMS, epsilon: 1e-6, weight: weight.base, bias: nil)
        let count = (context + Int(SK_KV_BLOCK)) / Int(SK_KV_BLOCK)
        let stride = sk_kv_block_bytes(SK_KV_F16, Int32(Self.kvHeads), Int32(Self.headWidth))
        kvMemory = .allocate(byteCount: stride * count, alignment: Int(SK_ALIGNMENT))
        kvMemory.initializeMemory(as: UInt8.self, repeating: 0, count: stride * count)
        blocks = .allocate(capacity: count)
        // Neighbours lie apart, as in a cluster that has served for a while.
        for index in 0..<count { blocks[index] = Int32(index % 2 == 0 ? index / 2 : count - 1 - index / 2) }
        frequencies = .allocate(capacity: Self.headWidth / 2)
        sk_rope_frequencies(1e6, Int32(Self.headWidth), nil, frequencies)
        let kv = sk_kv(type: SK_KV_F16, kv_heads: Int32(Self.kvHeads), head_dim: Int32(Self.headWidth), base: kvMemory, stride: stride)
        attention = sk_attention(kv: kv, heads: Int32(Self.heads), scale: 0.088_388_35, window: 0)
        span = sk_span(blocks: blocks, first_position: Int32(context), first_row: 0, rows: 1)
        var (attention, span) = (attention, span)
        let bytes = sk_attention_workspace_bytes(&attention, &span, 1, Int32(pool.threads))
        workspace = .allocate(byteCount: max(1, bytes), alignment: Int(SK_ALIGNMENT))
    }

    deinit {
        for memory in [quantised, kvMemory, workspace] { memory.deallocate() }
        blocks.deallocate()
        frequencies.deallocate()
    }

    /// All of them, in the order of a step.
    func all() -> [Piece] {
        [
            Piece(name: "RoPE's table", times: 1) { [self] in
                sk_rope_table(frequencies, Int32(Self.headWidth / 2), Int32(context), 1, 1, cosines.base, sines.base)
            },
            Piece(name: "norm and quantising, 8,192", times: 2 * Self.layers + 1) { [self] in
                withUnsafePointer(to: norm) {
                    sk_normalise_quantise(
                        table, pool, $0, x.base, Self.hidden, 1, Int32(Self.hidden), y.base, Self.hidden, SK_ACTIVATION_Q8_32, quantised)
                }
            },
            Piece(name: "bias of queries, keys, values", times: Self.layers) { [self] in
                sk_add_bias(table, pool, x.base, Self.hidden, weight.base, 1, Int32(Self.hidden + 2 * Self.kvHeads * Self.headWidth))
            },
            Piece(name: "RoPE, 72 heads of 128", times: Self.layers) { [self] in turn() },
            Piece(name: "writing keys and values", times: Self.layers) { [self] in
                withUnsafePointer(to: attention.kv) { kv in
                    withUnsafePointer(to: span) { sk_kv_write(table, pool, kv, $0, 1, x.base, Self.hidden, y.base, Self.hidden) }
                }
            },
            Piece(name: "attention, 64/8 heads, f16", times: Self.layers) { [self] in
                withUnsafePointer(to: attention) { attention in
                    withUnsafePointer(to: span) { sk_attend(table, pool, attention, $0, 1, x.base, Self.hidden, y.base, Self.hidden, workspace) }
                }
            },
            Piece(name: "quantising, 8,192", times: Self.layers) { [self] in
                sk_quantise(table, pool, SK_ACTIVATION_Q8_32, x.base, Self.hidden, 1, Int32(Self.hidden), quantised)
            },
            Piece(name: "adding to the residual", times: 2 * Self.layers) { [self] in
                sk_add(table, pool, y.base, Self.hidden, x.base, Self.hidden, 1, Int32(Self.hidden))
            },
            Piece(name: "silu, up and quantising, 29,568", times: Self.layers) { [self] in
                sk_gate(
                    table, pool, SK_FUNCTION_SILU, x.base, x.base + Self.feed, 2 * Self.feed, 1, Int32(Self.feed), y.base, Self.feed,
                    SK_ACTIVATION_Q8_32, quantised)
            },
            Piece(name: "152,064 logits are finite", times: 1) { [self] in _ = sk_all_finite(table, logits.base, Self.vocabulary) },
            Piece(name: "largest of them", times: 1) { [self] in _ = sk_argmax(table, logits.base, Int32(Self.vocabulary)) },
            Piece(name: "temperature and softmax", times: 1) { [self] in
                sk_temper(table, logits.base, 4, 0.8, probabilities.base, Int32(Self.vocabulary))
                sk_softmax(table, probabilities.base, probabilities.base, Int32(Self.vocabulary))
            },
        ]
    }

    private func turn() {
        var position: Int32 = 0
        sk_rope(
            table, pool, SK_ROPE_HALVES, x.base, Self.hidden, 1, Int32(Self.heads), Int32(Self.headWidth), Int32(Self.headWidth), &position,
            cosines.base, sines.base)
        sk_rope(
            table, pool, SK_ROPE_HALVES, y.base, Self.hidden, 1, Int32(Self.kvHeads), Int32(Self.headWidth), Int32(Self.headWidth), &position,
            cosines.base, sines.base)
    }

    /// Random floats of deviation 1.
    private final class Floats {
        let base: UnsafeMutablePointer<Float>

        init(_ count: Int) {
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 4 * count, alignment: Int(SK_ALIGNMENT))
            SyntheticBlocks(type: .f32, deviation: 1).fill(memory, seed: UInt64(count))
            base = memory.baseAddress!.bindMemory(to: Float.self, capacity: count)
        }

        deinit { base.deallocate() }
    }
}
