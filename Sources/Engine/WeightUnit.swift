/// The parts into which a slice's weights are cut for keeping: each has a piece of memory and a cache file of its own.
///
/// One layer and not one slice, because a plan moves cuts: after a worker was lost or has joined, a stage that gets two
/// layers more finds the others, and two stages of one machine share what both hold.
package enum WeightUnit: Hashable, Sendable {
    /// The token embedding; also the head's matrix where the model ties them.
    case embedding
    case layer(Int)
    /// The last norm, and the head's matrix unless it is the embedding.
    case head

    /// As files and messages call it.
    package var name: String {
        switch self {
        case .embedding: "embedding"
        case .layer(let index): "layer-\(index)"
        case .head: "head"
        }
    }

    /// As cache files number it.
    var code: (kind: UInt32, layer: UInt32) {
        switch self {
        case .layer(let index): (0, UInt32(index))
        case .embedding: (1, 0)
        case .head: (2, 0)
        }
    }
}

/// A unit's packed weights, wherever they lie. Read only, and valid while this value lives.
struct WeightBytes {
    let base: UnsafeRawPointer
    let byteCount: Int
    /// The memory or mapping that holds them.
    private let owner: AnyObject

    init(base: UnsafeRawPointer, byteCount: Int, owner: AnyObject) {
        self.base = base
        self.byteCount = byteCount
        self.owner = owner
    }

    var buffer: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: byteCount) }
}
