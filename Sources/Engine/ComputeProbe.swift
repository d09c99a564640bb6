import CKernels
import Synchronization

/// Measures how many operations (a multiplication and an addition count as two) the threads of a pool do together.
package enum ComputeProbe {
    // MARK: What the machine allows

    /// Which instruction's limit.
    package enum Peak: Sendable {
        /// 8-bit dot products: the bound on products of quantised weights.
        case int8
        /// f32 fused multiply-add: the bound on products of float weights.
        case float32

        var kernelPeak: sk_peak { self == .int8 ? SK_PEAK_INT8 : SK_PEAK_F32 }
    }

    /// Rounds of `sk_probe_peak` a thread: about two milliseconds with the widest registers.
    private static let peakRounds: UInt64 = 500_000

    /// Does about two milliseconds of work at the most that any kernel of the instruction set can reach, on registers alone; the caller has the
    /// clock. Returns the operations done.
    package static func peakOperations(_ peak: Peak, _ pool: ComputePool, instructionSet: InstructionSet) -> Double {
        let isa = instructionSet.isa
        let done = Atomic<UInt64>(0)
        pool.runEach { _, _ in
            _ = done.add(sk_probe_peak(isa, peak.kernelPeak, peakRounds), ordering: .relaxed)
        }
        return Double(done.load(ordering: .relaxed))
    }

    // MARK: What products reach

    private static let rows: Int32 = 2048
    private static let columns: Int32 = 2048
    private static let batch: Int32 = 128
    private static let rounds = 4

    /// Integer operations in the products of a prompt with 4-bit weights: what prefill gets of the peak, and so what a plan counts with. Takes a
    /// few hundredths of a second; the best of some rounds, since a first one wakes threads and caches.
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
