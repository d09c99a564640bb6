import ClusterCore
import Engine

// What a stage thread does for a hand-over: between two steps, and never for longer than a few hundred kilobytes take to copy.

extension StageHolder {
    /// The preparer loads what this stage lacks.
    mutating func prepare(_ assignment: StageAssignment) {
        takeAhead(assignment)
        incoming = nil
        let isSameModel = digest == assignment.modelDigest
        let kept = stage.map { $0.weights.slice.layers.clamped(to: assignment.layers) } ?? 0..<0
        preparer.prepare(
            SlicePreparer.Job(
                assignment: assignment, held: isSameModel ? weights?.part(StageSlice(assignment)) : nil, heldBytes: weights?.byteCount ?? 0,
                kept: isSameModel ? kept : 0..<0))
    }

    /// For a worker that has no stage: weights alone.
    mutating func loadAhead(_ assignment: StageAssignment) {
        guard stage == nil else { return }
        takeAhead(assignment)
        if configuration.weightsMemory != nil {
            // What was loaded ahead before goes first: its memory is what these may take.
            preparer.dispose(weights)
            (weights, digest) = (nil, nil)
        }
        preparer.prepare(
            SlicePreparer.Job(
                assignment: assignment, held: digest == assignment.modelDigest ? weights?.part(StageSlice(assignment)) : nil,
                kept: assignment.layers, isAhead: true))
    }

    /// What was loaded ahead is this thread's from now on, if the next slice may have some of it.
    mutating func takeAhead(_ assignment: StageAssignment) {
        guard stage == nil, let slice = preparer.takeAhead(), slice.assignment.modelDigest == assignment.modelDigest else { return }
        weights = slice.weights
        digest = slice.assignment.modelDigest
    }

    mutating func dropPrepared() {
        incoming = nil
        preparer.drop()
    }

    /// Block by block, each layer by layer.
    func read(_ frame: KVFrame) throws -> ActivationBuffer {
        let layers = try frame.layers.map { layer in
            guard let owner = stage?.keysAndValues(ofLayer: layer) else {
                throw NodeError(.wrongStep, "keys and values of layer \(layer) were asked for, which this stage does not have")
            }
            return owner
        }
        let bytes = layers[0].blockBytes
        let buffer = ActivationBuffer(byteCount: frame.blocks.count * layers.count * bytes)
        try forEachPlace(frame, layers, bytes: bytes, in: buffer) { owner, block, place in owner.read(block: block, to: place) }
        return buffer
    }

    mutating func write(_ frame: KVFrame, from buffer: ActivationBuffer) throws {
        let slice = try preparedSlice(frame.epoch)
        let layers = try frame.layers.map { layer in
            guard let owner = slice.keysAndValues[layer] else {
                throw NodeError(.wrongStep, "keys and values of layer \(layer) came, which this stage gets from nobody")
            }
            return owner
        }
        let bytes = layers[0].blockBytes
        guard buffer.count == frame.blocks.count * layers.count * bytes else {
            throw NodeError(
                .wrongStep,
                "\(buffer.count) bytes came for \(frame.blocks.count) blocks of \(layers.count) layers, which have \(bytes) each; run the same release on all machines")
        }
        try forEachPlace(frame, layers, bytes: bytes, in: buffer) { owner, block, place in owner.write(block: block, from: place) }
    }

    private func forEachPlace(
        _ frame: KVFrame, _ layers: [KVLayer], bytes: Int, in buffer: ActivationBuffer, _ body: (KVLayer, Int, UnsafeMutableRawPointer) -> Void
    ) throws {
        var place = buffer.bytes.baseAddress!
        for block in frame.blocks {
            for owner in layers {
                guard Int(block.value) < owner.blocks else { throw NodeError(.wrongStep, "block \(block.value) is none of \(owner.blocks)") }
                body(owner, Int(block.value), place)
                place += bytes
            }
        }
    }

    /// From here on the stage is the one that was prepared.
    mutating func adopt(_ assignment: StageAssignment) throws {
        let slice = try preparedSlice(assignment.epoch)
        let layers = try assignment.layers.map { layer in
            guard let owner = slice.keysAndValues[layer] ?? stage?.keysAndValues(ofLayer: layer), owner.blocks >= assignment.kvBlocks else {
                throw NodeError(.wrongStep, "there are no keys and values of layer \(layer) with \(assignment.kvBlocks) blocks")
            }
            return owner
        }
        let pool = try ownPool()
        let next = try Stage(
            weights: slice.weights, keysAndValues: layers, kvBlocks: assignment.kvBlocks, boundary: Engine.BoundaryType(assignment.boundary),
            rowsMax: Limits.stepRowsMax, pool: pool, instructionSet: configuration.instructionSet)
        // What only the old stage had goes with its last owner: not on this thread, which has a step to compute.
        try past.adopted(assignment, next, after: stage)
        if !slice.weights.isStreamed { preparer.dispose(weights) }
        for layer in stage?.weights.slice.layers ?? 0..<0 { preparer.dispose(stage?.keysAndValues(ofLayer: layer)) }
        stage = next
        foretells = assignment.foretells
        weights = slice.weights
        traffic = StageTraffic(weights: slice.weights, kvType: Engine.KVType(assignment.kvType))
        digest = assignment.modelDigest
        incoming = nil
        // Not before the old ones are gone: what weights may take of the memory holds for both together.
        try slice.weights.start(pool: pool)
        streamed = slice.weights.streamTotals
        keepNew(slice.weights)
    }

    private mutating func preparedSlice(_ epoch: Epoch) throws -> SlicePreparer.Slice {
        if incoming?.assignment.epoch != epoch { incoming = preparer.take(epoch) }
        guard let incoming, incoming.assignment.epoch == epoch else {
            throw NodeError(.wrongStep, "no slice was prepared for epoch \(epoch.value)")
        }
        return incoming
    }
}
