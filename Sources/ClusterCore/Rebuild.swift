/// A step whose rows were computed before: layers of a stage that was lost are computed again, the others still have what the rows left.
///
/// A stage computes those of its layers that lie in `computed`. What it does not compute it does not touch: rows pass on only where the stage
/// after it needs them, and nothing is drawn. With the inputs at hand (a stage keeps the rows that it handed on) nobody else computes; without, the
/// stages before make the inputs once more, which leaves in their memory the bits that are there already.
package struct Rebuild: Hashable, Sendable {
    /// Never empty.
    package var layers: Range<Int>
    /// The stage with the layer before these has their inputs.
    package var hasInputs: Bool

    package init(layers: Range<Int>, hasInputs: Bool) {
        self.layers = layers
        self.hasInputs = hasInputs
    }

    /// The layers that the rows pass through.
    package var computed: Range<Int> { (hasInputs ? layers.lowerBound : 0)..<layers.upperBound }

    /// Whether rows come with the step to a stage that begins with layer `first`.
    package func reaches(_ first: Int) -> Bool { computed.contains(first) }

    /// Whether something is wrong with it for a model of so many layers, as far as one stage knows.
    package var isSound: Bool {
        (hasInputs ? 1 : 0) <= layers.lowerBound && !layers.isEmpty && layers.upperBound <= Limits.layersMax
    }
}

/// What recoveries cost, since the coordinator's start. A *layer position* is one position in one layer.
package struct RebuildCounts: Hashable, Sendable {
    /// Epochs that ended while sequences ran and left them their keys and values, in some layers at least.
    package var recoveries: UInt64 = 0
    /// Of the positions computed until then, the layer positions that were still there, and all: what computing everything again would have taken.
    package var layerPositionsKept: UInt64 = 0
    package var layerPositionsAll: UInt64 = 0
    /// Those that were computed again, inputs included; and the positions for which the inputs were at hand.
    package var layerPositionsRebuilt: UInt64 = 0
    package var positionsFromInputs: UInt64 = 0

    package init() {}

    package static func + (a: RebuildCounts, b: RebuildCounts) -> RebuildCounts {
        var sum = a
        sum.recoveries += b.recoveries
        sum.layerPositionsKept += b.layerPositionsKept
        sum.layerPositionsAll += b.layerPositionsAll
        sum.layerPositionsRebuilt += b.layerPositionsRebuilt
        sum.positionsFromInputs += b.positionsFromInputs
        return sum
    }
}
