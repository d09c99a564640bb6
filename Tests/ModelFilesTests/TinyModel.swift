import ModelFiles

/// A decoder of two thin layers with everything that a real file has, a few kilobytes in all.
struct TinyModel {
    var metadata = Metadata()
    /// In file order.
    var tensors: [(name: String, type: TensorType, shape: [Int])] = []
    static let hidden = 32
    static let layers = 2
    static let heads = 4
    static let kvHeads = 2
    static let feedForward = 64
    static let vocabulary = 12

    /// `tied`: without `output.weight`; `bias`: with biases of queries, keys and values.
    init(architecture: String = "llama", tied: Bool = true, bias: Bool = false, divisors: Bool = false) {
        setMetadata(architecture)
        tensors.append(("token_embd.weight", .q8_0, [TinyModel.hidden, TinyModel.vocabulary]))
        tensors.append(("output_norm.weight", .f32, [TinyModel.hidden]))
        if !tied { tensors.append(("output.weight", .q8_0, [TinyModel.hidden, TinyModel.vocabulary])) }
        if divisors { tensors.append(("rope_freqs.weight", .f32, [4])) }
        for layer in 0..<TinyModel.layers { addLayer("blk.\(layer).", bias: bias) }
    }

    private mutating func setMetadata(_ architecture: String) {
        metadata.set("general.architecture", .string(architecture))
        metadata.set("general.name", .string("Tiny"))
        metadata.set("general.license", .string("apache-2.0"))
        metadata.set("\(architecture).context_length", .uint32(64))
        metadata.set("\(architecture).embedding_length", .uint32(UInt32(TinyModel.hidden)))
        metadata.set("\(architecture).block_count", .uint32(UInt32(TinyModel.layers)))
        metadata.set("\(architecture).feed_forward_length", .uint32(UInt32(TinyModel.feedForward)))
        metadata.set("\(architecture).attention.head_count", .uint32(UInt32(TinyModel.heads)))
        metadata.set("\(architecture).attention.head_count_kv", .uint32(UInt32(TinyModel.kvHeads)))
        metadata.set("\(architecture).attention.layer_norm_rms_epsilon", .float32(1e-5))
        metadata.set("\(architecture).rope.freq_base", .float32(100_000))
        metadata.set("tokenizer.ggml.model", .string("gpt2"))
        let tokens = (0..<TinyModel.vocabulary).map { "token \($0) Ġ" }
        metadata.set("tokenizer.ggml.tokens", .array(.string(StringArray(tokens))))
        metadata.set("tokenizer.ggml.token_type", .array(.int32(tokens.map { _ in 1 })))
    }

    private mutating func addLayer(_ prefix: String, bias: Bool) {
        let queries = TinyModel.hidden
        let keys = TinyModel.hidden / TinyModel.heads * TinyModel.kvHeads
        tensors.append((prefix + "attn_norm.weight", .f32, [TinyModel.hidden]))
        tensors.append((prefix + "attn_q.weight", .q4_1, [TinyModel.hidden, queries]))
        tensors.append((prefix + "attn_k.weight", .q4_0, [TinyModel.hidden, keys]))
        tensors.append((prefix + "attn_v.weight", .q5_0, [TinyModel.hidden, keys]))
        if bias {
            tensors.append((prefix + "attn_q.bias", .f32, [queries]))
            tensors.append((prefix + "attn_k.bias", .f32, [keys]))
            tensors.append((prefix + "attn_v.bias", .f32, [keys]))
        }
        tensors.append((prefix + "attn_output.weight", .iq4_NL, [queries, TinyModel.hidden]))
        tensors.append((prefix + "ffn_norm.weight", .f32, [TinyModel.hidden]))
        tensors.append((prefix + "ffn_gate.weight", .q5_1, [TinyModel.hidden, TinyModel.feedForward]))
        tensors.append((prefix + "ffn_up.weight", .bf16, [TinyModel.hidden, TinyModel.feedForward]))
        tensors.append((prefix + "ffn_down.weight", .f16, [TinyModel.feedForward, TinyModel.hidden]))
    }

    /// A writer with weights drawn from `seed`: random codes with scales of about 1/64.
    func writer(seed: UInt64 = 1) -> GGUFWriter {
        var writer = GGUFWriter(metadata: metadata)
        for (index, tensor) in tensors.enumerated() {
            writer.add(tensor.name, type: tensor.type, shape: tensor.shape, bytes: bytes(index, seed: seed))
        }
        return writer
    }

    func bytes(seed: UInt64 = 1) throws -> [UInt8] { try writer(seed: seed).bytes() }

    func file(seed: UInt64 = 1) throws -> GGUFFile { try GGUFFile(parts: [bytes(seed: seed)]) }

    /// The bytes of tensor `index`.
    func bytes(_ index: Int, seed: UInt64) -> [UInt8] {
        var random = SeededRandom(seed: seed &+ UInt64(index) &* 7919)
        let (name, type, shape) = tensors[index]
        let blocks = shape.reduce(1, *) / type.blockSize
        switch type {
        case .f32:
            // Divisors of frequencies are positive.
            let divisors = [ModelTensors.ropeDivisors, ModelTensors.ropeShort, ModelTensors.ropeLong]
            let range: ClosedRange<Float> = divisors.contains(name) ? 1...8 : -1...1
            return (0..<blocks).flatMap { _ in little(Float.random(in: range, using: &random).bitPattern) }
        case .f16: return (0..<blocks).flatMap { _ in little(Float16.random(in: -1...1, using: &random).bitPattern) }
        case .bf16: return (0..<blocks).flatMap { _ in little(UInt16(Float.random(in: -1...1, using: &random).bitPattern >> 16)) }
        default:
            return (0..<blocks).flatMap { _ in
                // Every format used here begins with its scale; a minimum behind it may be any small half.
                let scale = Float16.random(in: 0.005...0.02, using: &random)
                let rest = (2..<type.blockBytes).map { _ in UInt8.random(in: 0...255, using: &random) }
                var block = little(scale.bitPattern) + rest
                if type == .q4_1 || type == .q5_1 { block.replaceSubrange(2..<4, with: little((-scale * 8).bitPattern)) }
                return block
            }
        }
    }
}

private func little(_ number: some FixedWidthInteger) -> [UInt8] {
    withUnsafeBytes(of: number.littleEndian, Array.init)
}
