import ClusterCore
import Engine

/// What stages leave behind when their epoch ends: keys and values, and rows that they handed on. The next stage on this thread takes of it what its
/// assignment wants kept, however many loads between were given up.
struct StagePast {
    private var keysAndValues: [Int: KVLayer] = [:]
    private var stores: [BoundaryStore] = []
    /// The epoch whose steps left what is in memory.
    private var content: Epoch?
    /// That of the stage, whether a step of it came or not.
    private var loaded: Epoch?

    /// A step of this epoch is computed.
    mutating func began(_ epoch: Epoch) { content = epoch }

    /// The stage is about to go.
    mutating func setAside(_ stage: Stage?, for assignment: StageAssignment) {
        if let stage {
            let layers = stage.weights.slice.layers
            keysAndValues = Dictionary(uniqueKeysWithValues: layers.map { ($0, stage.keysAndValues(ofLayer: $0)!) })
            stores = stage.stores
        }
        let isWanted = assignment.keeping.map { $0 == content || $0 == loaded } ?? false
        loaded = nil
        guard isWanted else { return forget() }
        keysAndValues = keysAndValues.filter { assignment.layers.contains($0.key) }
        stores.removeAll { $0.boundary <= assignment.layers.lowerBound || $0.boundary > assignment.layers.upperBound }
    }

    private mutating func forget() {
        keysAndValues = [:]
        stores = []
        content = nil
    }

    /// The stage of `assignment`, and which of its layers still have what the assignment wants kept.
    mutating func stage(
        _ assignment: StageAssignment, _ weights: StageWeights, _ pool: ComputePool, _ instructionSet: InstructionSet
    ) throws -> (Stage, kept: Range<Int>) {
        let type = Engine.KVType(assignment.kvType)
        let blockBytes = Stage.kvBlockBytes(model: weights.model, layers: 1, kvType: type)
        let isUsable = keysAndValues.values.allSatisfy { $0.blocks >= assignment.kvBlocks && $0.blockBytes == blockBytes }
        if !isUsable { forget() }
        let layers = try assignment.layers.map { layer in
            try keysAndValues[layer] ?? KVLayer(model: weights.model, blocks: assignment.kvBlocks, type: type)
        }
        let stage = try Stage(
            weights: weights, keysAndValues: layers, kvBlocks: assignment.kvBlocks, boundary: Engine.BoundaryType(assignment.boundary),
            rowsMax: Limits.stepRowsMax, pool: pool, instructionSet: instructionSet)
        stage.stores = try Self.stores(stores, assignment, stage)
        let kept = keysAndValues.keys.min().map { $0..<keysAndValues.keys.max()! + 1 } ?? 0..<0
        if kept.isEmpty { content = assignment.epoch }
        loaded = assignment.epoch
        keysAndValues = [:]
        stores = []
        return (stage, kept)
    }

    /// A hand-over made the stage; `old` is the one before it.
    mutating func adopted(_ assignment: StageAssignment, _ stage: Stage, after old: Stage?) throws {
        stage.stores = try Self.stores(old?.stores.filter { $0.boundary == assignment.layers.upperBound } ?? [], assignment, stage)
        forget()
        (content, loaded) = (assignment.epoch, assignment.epoch)
    }

    /// Those that are there, and one for what the stage hands on.
    private static func stores(_ kept: [BoundaryStore], _ assignment: StageAssignment, _ stage: Stage) throws -> [BoundaryStore] {
        let end = assignment.layers.upperBound
        guard assignment.inputBlocks > 0, !kept.contains(where: { $0.boundary == end }) else { return kept }
        return try kept + [BoundaryStore(boundary: end, blocks: assignment.inputBlocks, rowBytes: stage.boundaryRowBytes)]
    }
}
