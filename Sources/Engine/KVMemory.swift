import CKernels
import ModelFiles

/// The keys and values of a stage's layers: one piece of memory, cut into layers, each cut into blocks of 32 positions.
/// A block id means the same block in every layer. Blocks that were never written cost no memory.
final class KVMemory {
    static let positionsPerBlock = Int(SK_KV_BLOCK)

    let blocks: Int
    /// One view for each layer of the stage.
    let layers: [sk_kv]
    private let memory: AlignedMemory

    init(model: ModelConfiguration, layers count: Int, blocks: Int, type: KVType) throws(EngineError) {
        guard blocks > 0, blocks <= Int(Int32.max) else {
            throw EngineError(.memoryUnavailable, "\(blocks) KV blocks were asked for; 1 to \(Int32.max) are possible.")
        }
        let stride = Self.blockBytes(model: model, type: type)
        let (bytes, overflow) = (stride * count).multipliedReportingOverflow(by: blocks)
        guard !overflow else {
            throw EngineError(.memoryUnavailable, "\(blocks) KV blocks of \(stride * count) bytes are more than a machine can have. Ask for fewer.")
        }
        let memory = try AlignedMemory(byteCount: bytes, for: "keys and values")
        self.memory = memory
        self.blocks = blocks
        layers = (0..<count).map { layer in
            sk_kv(
                type: type.kernelType, kv_heads: Int32(model.kvHeads), head_dim: Int32(model.headDimension),
                base: memory.base + layer * blocks * stride, stride: stride)
        }
    }

    /// Bytes of one block of one layer.
    static func blockBytes(model: ModelConfiguration, type: KVType) -> Int {
        sk_kv_block_bytes(type.kernelType, Int32(model.kvHeads), Int32(model.headDimension))
    }
}

extension KVType {
    fileprivate var kernelType: sk_kv_type {
        switch self {
        case .f32: SK_KV_F32
        case .f16: SK_KV_F16
        case .q8: SK_KV_Q8
        }
    }
}
