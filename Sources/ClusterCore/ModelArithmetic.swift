/// What a model's parts multiply, beside the bytes that `ModelProfile` counts: what a prediction of times needs. With `.unknown` a prediction
/// counts bytes only.
package struct ModelArithmetic: Hashable, Sendable {
    /// The matrices of one layer, or of the head, by the arithmetic that their formats take. Of experts the weights of those that a row uses
    /// count, and the bytes of all.
    package struct Products: Hashable, Sendable {
        /// Elements of matrices whose products are sums of 8-bit integers (all quantised formats).
        package var int8Weights: UInt64
        /// Elements of matrices that are multiplied as floats.
        package var floatWeights: UInt64
        /// Packed bytes of those. The part's other bytes belong to the first kind.
        package var floatBytes: UInt64
        /// Bytes of all experts, and of these the ones in floats: a step reads those that its rows choose.
        package var expertBytes: UInt64 = 0
        package var expertFloatBytes: UInt64 = 0

        package init(int8Weights: UInt64 = 0, floatWeights: UInt64 = 0, floatBytes: UInt64 = 0) {
            self.int8Weights = int8Weights
            self.floatWeights = floatWeights
            self.floatBytes = floatBytes
        }
    }

    /// One for each layer; empty when nothing is known.
    package var layers: [Products]
    package var head: Products
    /// Elements of all query heads of a layer: attention costs 4 × this for each position that a row sees.
    package var queryWidth: Int
    /// Working memory of a stage beside weights and KV, and what the last one needs in addition.
    package var workspaceBytes: UInt64
    package var headWorkspaceBytes: UInt64
    /// Part of a layer's experts that a row leaves out; 0 where there are none.
    package var unusedExperts = 0.0
    /// By layer: positions that a row sees at most; 0: all. Empty where no layer has a window.
    package var windows: [Int] = []

    package static let unknown = ModelArithmetic(layers: [], head: Products(), queryWidth: 0, workspaceBytes: 0, headWorkspaceBytes: 0)

    package init(layers: [Products], head: Products, queryWidth: Int, workspaceBytes: UInt64, headWorkspaceBytes: UInt64) {
        self.layers = layers
        self.head = head
        self.queryWidth = queryWidth
        self.workspaceBytes = workspaceBytes
        self.headWorkspaceBytes = headWorkspaceBytes
    }
}
