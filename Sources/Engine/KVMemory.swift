import CKernels
import ModelFiles

/// The keys and values of a stage's layers, cut into blocks of 32 positions. A block id means the same block in every layer.
final class KVMemory {
    static let positionsPerBlock = Int(SK_KV_BLOCK)

    let blocks: Int
    /// In the order of the stage's layers.
    let owners: [KVLayer]
    /// One view for each layer of the stage.
    let layers: [sk_kv]

    convenience init(model: ModelConfiguration, layers count: Int, blocks: Int, type: KVType) throws(EngineError) {
        var owners: [KVLayer] = []
        for _ in 0..<count { owners.append(try KVLayer(model: model, blocks: blocks, type: type)) }
        self.init(owners, blocks: blocks)
    }

    /// Of layers that are there already, each with room for `blocks` blocks at least.
    init(_ owners: [KVLayer], blocks: Int) {
        precondition(owners.allSatisfy { $0.blocks >= blocks }, "every layer has all blocks")
        self.owners = owners
        self.blocks = blocks
        layers = owners.map(\.view)
        for owner in owners { owner.limit(to: blocks) }
    }

    /// Block `from` into block `to`, in all layers.
    func copy(from: Int, to: Int) {
        for layer in owners { layer.copy(from: from, to: to) }
    }

    /// Bytes of one block of one layer.
    static func blockBytes(model: ModelConfiguration, type: KVType) -> Int {
        sk_kv_block_bytes(type.kernelType, Int32(model.kvHeads), Int32(model.headDimension))
    }
}
