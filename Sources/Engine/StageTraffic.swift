import CKernels
import ModelFiles

/// What a stage has to read of its memory for a batch: each weight once, and the keys and values of each sequence once, however many rows there
/// are. Held against the bandwidth of the memory it says how near decoding is to its bound.
package struct StageTraffic: Hashable, Sendable {
    private let layerBytes: Int
    /// Of all experts; a batch reads those that its rows choose.
    private let expertBytes: Int
    /// Of the experts, the part that a row leaves out.
    private let unusedShare: Double
    /// Of the output matrix; read where something is sampled.
    private let headBytes: Int
    /// Of keys and values in one layer.
    private let bytesPerPosition: Int
    /// How many layers let rows see so many positions; 0: all.
    private let windows: [Window]

    private struct Window: Hashable {
        let positions: Int
        var layers: Int
    }

    package init(weights: StageWeights, kvType: KVType) {
        func bytes(_ matrices: [sk_matrix]) -> Int { matrices.reduce(0) { $0 + sk_packed_bytes($1.type, $1.rows, $1.columns) } }
        layerBytes = weights.layers.reduce(0) { $0 + bytes($1.commonMatrices) }
        expertBytes = weights.layers.reduce(0) { sum, layer in
            guard case .experts(let experts) = layer.feedForward else { return sum }
            return sum + bytes(experts.gates) + bytes(experts.ups) + bytes(experts.downs)
        }
        unusedShare = weights.model.experts.map { 1 - Double($0.used) / Double($0.count) } ?? 0
        headBytes = weights.head.map { bytes($0.output.matrices) } ?? 0
        bytesPerPosition = KVMemory.blockBytes(model: weights.model, type: kvType) / KVMemory.positionsPerBlock
        var windows: [Window] = []
        for positions in weights.slice.layers.map(weights.model.window) {
            if let index = windows.firstIndex(where: { $0.positions == positions }) {
                windows[index].layers += 1
            } else {
                windows.append(Window(positions: positions, layers: 1))
            }
        }
        self.windows = windows
    }

    package func bytes(_ batch: StageBatch) -> Int {
        guard !batch.segments.isEmpty else { return 0 }
        var positions = 0
        var samples = false
        for segment in batch.segments {
            let end = segment.start + segment.tokens.count
            for window in windows {
                let seen = window.positions == 0 ? end : min(end, window.positions + segment.tokens.count - 1)
                positions += seen * window.layers
            }
            samples = samples || segment.samples
        }
        return layerBytes + chosenBytes(rows: batch.rowCount) + (samples ? headBytes : 0) + positions * bytesPerPosition
    }

    /// Of the experts that so many rows read: each is left out by a row with `unusedShare`, as if rows chose alike and for themselves.
    private func chosenBytes(rows: Int) -> Int {
        guard expertBytes > 0 else { return 0 }
        var untouched = 1.0
        for _ in 0..<rows where untouched > 1e-6 { untouched *= unusedShare }
        return Int(Double(expertBytes) * (1 - untouched))
    }
}
