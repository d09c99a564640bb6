/// What a stage's weights take of memory and of the disk's time, where a worker may not keep all of them: what does not fit is read from disk with
/// every step, through a ring of places for layers. The head stays, and of an embedding that is no head only rows are read.
///
/// As the engine divides it, to within one layer: that one keeps whole layers.
extension StageCost {
    /// Places for layers that a ring has at least, and at most.
    private static let placesMin: UInt64 = 2
    private static let placesMax: UInt64 = 3
    /// What is read of an embedding at once: whole pieces of so many bytes, in one more of them than a row's group can fill.
    private static let pieceBytes: UInt64 = 2 << 20
    private static let rowGroup: UInt64 = 16
    /// Each part of the weights begins at a page.
    private static let pageBytes: UInt64 = 4096

    /// Of a stage without KV: weights as far as the worker keeps them, and working memory. More than any memory has where not even the ring fits.
    package func fixedBytes(_ worker: Planner.Candidate, _ layers: Range<Int>, hasHead: Bool) -> UInt64 {
        guard isStreamed(worker, layers, hasHead: hasHead) else { return fixedBytes(layers, hasHead: hasHead) }
        let always = alwaysHeldBytes(layers, hasHead: hasHead)
        guard always + Self.placesMin * largestLayerBytes <= worker.weightsMemoryBytes else { return .max >> 2 }
        return fixedBytes(layers, hasHead: hasHead) - weightBytes(layers, hasHead: hasHead) + worker.weightsMemoryBytes
    }

    /// From the disk for each step.
    package func streamedBytes(_ worker: Planner.Candidate, _ layers: Range<Int>, hasHead: Bool) -> UInt64 {
        guard isStreamed(worker, layers, hasHead: hasHead) else { return 0 }
        let ofLayers = layers.reduce(0) { $0 + model.layerBytes[$1] }
        let always = alwaysHeldBytes(layers, hasHead: hasHead)
        let memory = worker.weightsMemoryBytes
        guard always + ofLayers > memory else { return 0 }
        let places = always + Self.placesMax * largestLayerBytes <= memory ? Self.placesMax : Self.placesMin
        let used = always + places * largestLayerBytes
        return ofLayers - min(ofLayers, memory - min(memory, used))
    }

    func diskSeconds(_ worker: Planner.Candidate, _ layers: Range<Int>, hasHead: Bool) -> Double {
        guard worker.weightsMemoryBytes > 0 else { return 0 }
        return Double(streamedBytes(worker, layers, hasHead: hasHead)) / worker.diskBytesPerSecond
    }

    private func isStreamed(_ worker: Planner.Candidate, _ layers: Range<Int>, hasHead: Bool) -> Bool {
        worker.weightsMemoryBytes > 0 && weightBytes(layers, hasHead: hasHead) > worker.weightsMemoryBytes
    }

    private var largestLayerBytes: UInt64 { (model.layerBytes.max() ?? 0) + Self.pageBytes }

    private func alwaysHeldBytes(_ layers: Range<Int>, hasHead: Bool) -> UInt64 {
        var bytes = hasHead ? model.headBytes : 0
        if layers.lowerBound == 0, !(hasHead && model.headIsTied) {
            let group = model.embeddingBytes / UInt64(max(1, model.vocabulary)) * Self.rowGroup
            bytes += min(((group + Self.pieceBytes - 1) / Self.pieceBytes + 1) * Self.pieceBytes, model.embeddingBytes)
        }
        return bytes + UInt64(layers.count + 2) * Self.pageBytes
    }
}
