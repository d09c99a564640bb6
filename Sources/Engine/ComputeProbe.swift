import CKernels

/// Measures how many integer operations (a multiplication and an addition count as two) the threads of a pool do together in a prompt's
/// products: the bound on prefill.
package enum ComputeProbe {
    private static let rows: Int32 = 2048
    private static let columns: Int32 = 2048
    private static let batch: Int32 = 128
    private static let rounds = 4

    /// Takes a few hundredths of a second; the best of some rounds, since a first one wakes threads and caches.
    package static func operationsPerSecond(_ pool: ComputePool, instructionSet: InstructionSet) throws(EngineError) -> Double {
        let kernels = instructionSet.kernels
        let weights = try AlignedMemory(byteCount: sk_packed_bytes(SK_TYPE_Q4_0, rows, columns), for: "the compute probe")
        let rowBytes = sk_activation_bytes(sk_type_activation(SK_TYPE_Q4_0), columns)
        let activations = try AlignedMemory(byteCount: rowBytes * Int(batch), for: "the compute probe")
        let outputs = try AlignedMemory(byteCount: Int(rows) * Int(batch) * MemoryLayout<Float>.stride, for: "the compute probe")
        let product = sk_product(
            matrix: sk_matrix(type: SK_TYPE_Q4_0, rows: rows, columns: columns, packed: weights.base), activations: activations.base,
            out: outputs.bound(to: Float.self, count: Int(rows) * Int(batch)), ldo: Int(rows))
        var best = Double.infinity
        for _ in 0..<rounds {
            let time = ContinuousClock().measure {
                withUnsafePointer(to: product) { sk_matmul(kernels, pool.pool, $0, 1, batch) }
            }
            best = min(best, Double(time.components.seconds) + Double(time.components.attoseconds) * 1e-18)
        }
        return 2 * Double(rows) * Double(columns) * Double(batch) / max(best, 1e-9)
    }
}
