import CKernels
import ModelFiles

/// The keys and values of one layer, in memory of its own: so a layer can stay where it is while the stage around it changes, and go when it
/// has moved elsewhere. Block b lies at `b * blockBytes`; blocks that were never written cost no memory.
///
/// `@unchecked Sendable`, because pointers are not: one thread at a time reads or writes it.
package final class KVLayer: @unchecked Sendable {
    /// Blocks that are kept; those that a smaller plan gave back are not there again under a larger one.
    package private(set) var blocks: Int
    /// Of one block, as it lies in memory: what `read` gives and `write` takes.
    package let blockBytes: Int
    let view: sk_kv
    private let memory: AlignedMemory

    /// Throws `memoryUnavailable`.
    package init(model: ModelConfiguration, blocks: Int, type: KVType) throws(EngineError) {
        guard blocks > 0, blocks <= Int(Int32.max) else {
            throw EngineError(.memoryUnavailable, "\(blocks) KV blocks were asked for; 1 to \(Int32.max) are possible.")
        }
        let stride = KVMemory.blockBytes(model: model, type: type)
        let (bytes, overflow) = stride.multipliedReportingOverflow(by: blocks)
        guard !overflow else {
            throw EngineError(.memoryUnavailable, "\(blocks) KV blocks of \(stride) bytes are more than a machine can have. Ask for fewer.")
        }
        let memory = try AlignedMemory(byteCount: bytes, for: "keys and values")
        self.memory = memory
        self.blocks = blocks
        blockBytes = stride
        view = sk_kv(
            type: type.kernelType, kv_heads: Int32(model.kvHeads), head_dim: Int32(model.headDimension), base: memory.base, stride: stride)
    }

    /// Copies a block's bytes to `place`, which has room for `blockBytes`.
    package func read(block: Int, to place: UnsafeMutableRawPointer) {
        precondition((0..<blocks).contains(block), "a block outside of its layer")
        place.copyMemory(from: memory.base + block * blockBytes, byteCount: blockBytes)
    }

    /// Copies a block's bytes from `place`.
    package func write(block: Int, from place: UnsafeRawPointer) {
        precondition((0..<blocks).contains(block), "a block outside of its layer")
        (memory.base + block * blockBytes).copyMemory(from: place, byteCount: blockBytes)
    }

    func copy(from: Int, to: Int) {
        guard from != to else { return }
        (memory.base + to * blockBytes).copyMemory(from: memory.base + from * blockBytes, byteCount: blockBytes)
    }

    /// Blocks from `count` on are not used any more: their memory is given back.
    func limit(to count: Int) {
        guard count < blocks else { return }
        memory.giveBack(count * blockBytes..<blocks * blockBytes)
        blocks = count
    }
}

extension KVType {
    var kernelType: sk_kv_type {
        switch self {
        case .f32: SK_KV_F32
        case .f16: SK_KV_F16
        case .q8: SK_KV_Q8
        }
    }
}
