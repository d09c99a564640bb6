import Engine
import ModelFiles

/// A model of random weights, small enough that a test runs it hundreds of times.
struct TinyModel {
    let configuration: ModelConfiguration
    let file: GGUFFile

    /// What a test may want otherwise; `edit` changes one tensor's floats (F32 tensors and vectors only).
    struct Options {
        var seed: UInt64 = 1
        var layers = 3
        var tiedHead = true
        var qkvBias = false
        var vocabulary = 173
        var contextLength = 640
        var architecture = ModelConfiguration.Architecture.llama
        /// Granite's four numbers, others than 1.
        var multipliers = false
        var experts: ModelConfiguration.Experts?
        /// By layer, as `ModelConfiguration.windows`.
        var windows: [Int] = []
        /// Of attention's output and of the head.
        var furtherBiases = false
        var edit: (_ tensor: String, _ floats: inout [Float]) -> Void = { _, _ in }
    }

    init(_ type: TensorType, _ options: Options = Options()) throws {
        // Every matrix's columns must be whole blocks of its type.
        let isWide = type.blockSize == 256
        let model = try ModelConfiguration(
            architecture: options.architecture, hidden: isWide ? 256 : 64, layers: options.layers, heads: 4, kvHeads: 2,
            headDimension: isWide ? 64 : 24, feedForward: isWide ? 512 : 96,
            vocabulary: options.vocabulary, contextLength: options.contextLength,
            rope: .init(
                base: 10_000, dimensions: 24, pairing: [.qwen2, .phi3].contains(options.architecture) ? .halves : .adjacent, scaling: .none),
            attentionScale: options.multipliers ? 0.3 : nil, embeddingScale: options.multipliers ? 1.7 : 1,
            residualScale: options.multipliers ? 0.22 : 1, logitDivisor: options.multipliers ? 6 : 1, tiedHead: options.tiedHead,
            qkvBias: options.qkvBias, outputBias: options.furtherBiases, headBias: options.furtherBiases, experts: options.experts,
            windows: options.windows)
        var random = SeededRandom(seed: options.seed)
        var writer = GGUFWriter(metadata: Self.metadata(model))
        var wanted = ModelTensors.wantedOutsideLayers(model)
        for layer in 0..<model.layers { wanted += ModelTensors.wanted(layer: layer, model) }
        for tensor in wanted {
            let elements = tensor.shape.reduce(1, *)
            if tensor.isVector || type == .f32 {
                let deviation = tensor.isVector ? 0.3 : Self.deviation(columns: tensor.shape[0], tensor.name)
                let mean: Float = tensor.isVector && !tensor.name.hasSuffix("bias") ? 1 : 0
                var floats = (0..<elements).map { _ in mean + deviation * random.normal() }
                options.edit(tensor.name, &floats)
                writer.add(tensor.name, shape: tensor.shape, floats: floats)
            } else {
                let deviation = Self.deviation(columns: tensor.shape[0], tensor.name)
                writer.add(tensor.name, type: type, shape: tensor.shape, bytes: Self.blocks(type, elements, deviation, &random))
            }
        }
        file = try GGUFFile(parts: [try writer.bytes()])
        configuration = try ModelConfiguration(file: file)
    }

    private static func deviation(columns: Int, _ name: String) -> Float {
        name == ModelTensors.embedding ? 1 : 1.5 / Float(columns).squareRoot()
    }

    /// Blocks of random bits whose scales give about the deviation wanted.
    private static func blocks(_ type: TensorType, _ elements: Int, _ deviation: Float, _ random: inout SeededRandom) -> [UInt8] {
        var bytes: [UInt8] = []
        func half(_ value: Float) { withUnsafeBytes(of: Float16(value).bitPattern.littleEndian) { bytes += $0 } }
        func raw(_ count: Int) { for _ in 0..<count { bytes.append(UInt8(truncatingIfNeeded: random.next())) } }
        for _ in 0..<(elements / type.blockSize) {
            let jitter = 0.75 + Float(random.next() >> 40) * 0x1p-25
            switch type {
            case .f16: half(deviation * random.normal())
            case .bf16:
                let bits = UInt16((deviation * random.normal()).bitPattern >> 16)
                withUnsafeBytes(of: bits.littleEndian) { bytes += $0 }
            case .q4_0:
                half(deviation / 4.6 * jitter)
                raw(16)
            case .q4_1:
                half(deviation / 4.6 * jitter)
                half(-7.5 * deviation / 4.6 * jitter)
                raw(16)
            case .q5_0:
                half(deviation / 9.2 * jitter)
                raw(20)
            case .q5_1:
                half(deviation / 9.2 * jitter)
                half(-15.5 * deviation / 9.2 * jitter)
                raw(20)
            case .iq4_NL:
                half(deviation / 71 * jitter)
                raw(16)
            case .q8_0:
                half(deviation / 74 * jitter)
                raw(32)
            case .q2_K:
                raw(80)
                half(deviation / 20 * jitter)
                half(deviation / 20 * 1.5 * jitter)
            case .q3_K:
                raw(108)
                half(deviation / 42 * jitter)
            case .q4_K:
                half(deviation / 250 * jitter)
                half(deviation / 250 * 7.5 * jitter)
                raw(140)
            case .q5_K:
                half(deviation / 500 * jitter)
                half(deviation / 500 * 15.5 * jitter)
                raw(172)
            case .q6_K:
                raw(208)
                half(deviation / 1370 * jitter)
            case .iq4_XS:
                half(deviation / 1260 * jitter)
                raw(134)
            default: preconditionFailure("no random blocks of \(type.name)")
            }
        }
        return bytes
    }

    private static func metadata(_ model: ModelConfiguration) -> Metadata {
        var metadata = Metadata()
        let prefix = model.architecture.rawValue + "."
        metadata.set("general.architecture", .string(model.architecture.rawValue))
        let counts = [
            ("embedding_length", model.hidden), ("block_count", model.layers), ("attention.head_count", model.heads),
            ("attention.head_count_kv", model.kvHeads), ("attention.key_length", model.headDimension),
            ("attention.value_length", model.headDimension), ("feed_forward_length", model.feedForward),
            ("vocab_size", model.vocabulary), ("context_length", model.contextLength), ("rope.dimension_count", model.rope.dimensions),
        ]
        for (key, count) in counts { metadata.set(prefix + key, .uint32(UInt32(count))) }
        metadata.set(prefix + "attention.layer_norm_rms_epsilon", .float32(model.normEpsilon))
        metadata.set(prefix + "rope.freq_base", .float32(Float(model.rope.base)))
        metadata.set(prefix + "attention.scale", .float32(model.attentionScale))
        metadata.set(prefix + "embedding_scale", .float32(model.embeddingScale))
        metadata.set(prefix + "residual_scale", .float32(model.residualScale))
        metadata.set(prefix + "logit_scale", .float32(model.logitDivisor))
        if let experts = model.experts {
            metadata.set(prefix + "expert_count", .uint32(UInt32(experts.count)))
            metadata.set(prefix + "expert_used_count", .uint32(UInt32(experts.used)))
        }
        // GGUF has one window, for the layers that are marked.
        if let window = model.windows.max() {
            metadata.set(prefix + "attention.sliding_window", .uint32(UInt32(window)))
            metadata.set(prefix + "attention.sliding_window_pattern", .array(.bool(model.windows.map { $0 > 0 })))
        }
        return metadata
    }

    /// Types that have kernels.
    static let types: [TensorType] = [
        .f32, .f16, .bf16, .q4_0, .q4_1, .q5_0, .q5_1, .q8_0, .iq4_NL, .q2_K, .q3_K, .q4_K, .q5_K, .q6_K, .iq4_XS,
    ]

    /// `count` tokens of the vocabulary.
    func tokens(_ count: Int, seed: UInt64) -> [Int32] {
        var random = SeededRandom(seed: seed)
        return (0..<count).map { _ in Int32.random(in: 0..<Int32(configuration.vocabulary), using: &random) }
    }
}
