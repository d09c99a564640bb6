import CKernels
import ModelFiles

/// What a stage has to read of its memory for a batch: each weight once, and the keys and values of each sequence once, however many rows there
/// are. Held against the bandwidth of the memory it says how near decoding is to its bound.
package struct StageTraffic: Hashable, Sendable {
    private let layerBytes: Int
    /// Of the output matrix; read where something is sampled.
    private let headBytes: Int
    /// Of keys and values, in all layers.
    private let bytesPerPosition: Int

    package init(weights: StageWeights, kvType: KVType) {
        func bytes(_ projection: Projection) -> Int {
            projection.matrices.reduce(0) { $0 + sk_packed_bytes($1.type, $1.rows, $1.columns) }
        }
        layerBytes = weights.layers.reduce(0) { $0 + bytes($1.qkv) + bytes($1.attentionOutput) + bytes($1.gateUp) + bytes($1.down) }
        headBytes = weights.head.map { bytes($0.output) } ?? 0
        bytesPerPosition = weights.layers.count * KVMemory.blockBytes(model: weights.model, type: kvType) / KVMemory.positionsPerBlock
    }

    package func bytes(_ batch: StageBatch) -> Int {
        var positions = 0
        var samples = false
        for segment in batch.segments {
            positions += segment.start + segment.tokens.count
            samples = samples || segment.samples
        }
        return batch.segments.isEmpty ? 0 : layerBytes + (samples ? headBytes : 0) + positions * bytesPerPosition
    }
}
