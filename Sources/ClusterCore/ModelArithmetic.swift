/// What a model's parts multiply, beside the bytes that `ModelProfile` counts: what a prediction of times needs. With `.unknown` a prediction
/// counts bytes only.
package struct ModelArithmetic: Hashable, Sendable {
    /// The matrices of one layer, or of the head, by the arithmetic that their formats take.
    package struct Products: Hashable, Sendable {
        /// Elements of matrices whose products are sums of 8-bit integers (all quantised formats).
        package var int8Weights: UInt64
        /// Elements of matrices that are multiplied as floats.
        package var floatWeights: UInt64
        /// Packed bytes of those. The part's other bytes belong to the first kind.
        package var floatBytes: UInt64

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

    package static let unknown = ModelArithmetic(layers: [], head: Products(), queryWidth: 0, workspaceBytes: 0, headWorkspaceBytes: 0)

    package init(layers: [Products], head: Products, queryWidth: Int, workspaceBytes: UInt64, headWorkspaceBytes: UInt64) {
        self.layers = layers
        self.head = head
        self.queryWidth = queryWidth
        self.workspaceBytes = workspaceBytes
        self.headWorkspaceBytes = headWorkspaceBytes
    }
}
