/// Which units of a slice stay in memory and which come from the disk with every step, where the slice is larger than the memory that its
/// weights may take.
///
/// Every layer is read once a step, so it does not matter which of them stay, only how many bytes: it is the first ones that fit. The last norm
/// and the head stay always, and so does the embedding where it is the head's matrix; otherwise only the rows of a step's tokens are read of it.
/// The other layers go through a ring of `slots` places: one is computed while the rest are filled.
struct WeightResidency: Hashable {
    /// What a ring must have, and what it has where there is room: a third place takes up what layers vary in.
    static let slotsMin = 2
    static let slotsMax = 3

    /// Indices of layouts that stay in memory.
    let resident: [Int]
    /// Of layers that go through the ring, in their order. More than `slots`, or none.
    let streamed: [Int]
    /// Of the embedding, where it stays on the disk.
    let embedding: Int?
    let slots: Int
    /// As large as the largest layer.
    let slotBytes: Int
    /// Memory in all.
    let byteCount: Int

    /// nil where all fits, unless it is `isForAll`: then all stays. Throws `memoryUnavailable` where less than the smallest ring would.
    ///
    /// - Parameter embeddingIsHead: whether the slice needs all of the embedding, as the head's matrix.
    init?(_ layouts: [WeightLayout], bytesMax: Int, embeddingIsHead: Bool, isForAll: Bool = false) throws(EngineError) {
        let sizes = layouts.map { Self.pages($0.byteCount) }
        guard layouts.reduce(0, { $0 + $1.byteCount }) > bytesMax else {
            guard isForAll else { return nil }
            (resident, streamed, embedding, slots, slotBytes, byteCount) = (Array(layouts.indices), [], nil, 0, 0, sizes.reduce(0, +))
            return
        }
        let layers = layouts.indices.filter { layouts[$0].unit.isLayer }
        let looked = embeddingIsHead ? nil : layouts.firstIndex { $0.unit == .embedding }
        let window = looked.map { EmbeddingRows.windowBytes(layouts[$0].matrices[0].place) } ?? 0
        let always = layouts.indices.filter { $0 != looked && !layouts[$0].unit.isLayer }
        let fixed = window + always.reduce(0) { $0 + sizes[$1] }
        let allLayers = layers.reduce(0) { $0 + sizes[$1] }
        embedding = looked
        if fixed + allLayers <= bytesMax {
            (resident, streamed, slots, slotBytes, byteCount) = (layouts.indices.filter { $0 != looked }, [], 0, 0, fixed + allLayers)
            return
        }
        let largest = layers.map { sizes[$0] }.max() ?? 0
        let needed = fixed + Self.slotsMin * largest
        guard needed <= bytesMax else {
            throw EngineError(
                .memoryUnavailable,
                "The weights of this stage may take \(bytesMax) bytes of memory (--weights-memory), but need \(needed) even when its layers are streamed from disk: \(fixed) for what always stays, the head above all, and \(Self.slotsMin) places of \(largest) for layers. Allow so much, or use a type of fewer bits."
            )
        }
        let slots = fixed + Self.slotsMax * largest <= bytesMax ? Self.slotsMax : Self.slotsMin
        var left = bytesMax - fixed - slots * largest
        var staying: [Int] = []
        for layer in layers where sizes[layer] <= left {
            staying.append(layer)
            left -= sizes[layer]
        }
        self.slots = slots
        slotBytes = largest
        resident = (always + staying).sorted()
        streamed = layers.filter { !staying.contains($0) }
        byteCount = bytesMax - left
        precondition(streamed.count > slots, "a ring of more places than layers would hold them all")
    }

    /// Reads past the system's cache are of whole pages.
    static func pages(_ bytes: Int) -> Int { (bytes + PackedTable.pageBytes - 1) / PackedTable.pageBytes * PackedTable.pageBytes }
}

extension WeightUnit {
    fileprivate var isLayer: Bool { if case .layer = self { true } else { false } }
}
