import CKernels
#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Measures how fast the threads of a pool read memory together: the bound on decoding, which reads every weight for every token.
package final class ReadProbe {
    private let memory: AlignedMemory
    private let kernels: OpaquePointer

    /// `bytes`: what one measurement reads. Far more than the caches hold, or it measures these.
    package init(bytes: Int = 256 << 20, instructionSet: InstructionSet) throws(EngineError) {
        memory = try AlignedMemory(byteCount: bytes, for: "the read probe")
        kernels = instructionSet.kernels
        // Pages that were never written are all the same page of zeros.
        memset(memory.base, 1, bytes)
    }

    /// Bytes read in a second, in one pass over the memory.
    package func bytesPerSecond(_ pool: ComputePool) -> Double {
        let floats = memory.bound(to: Float.self, count: memory.byteCount / MemoryLayout<Float>.stride)
        let share = memory.byteCount / MemoryLayout<Float>.stride / pool.threads
        let time = ContinuousClock().measure {
            pool.run { thread, _ in
                // The one kernel that reads every byte and writes none.
                precondition(sk_all_finite(kernels, floats + thread * share, share), "the probe's memory changed")
            }
        }
        return Double(share * pool.threads * MemoryLayout<Float>.stride) / (time / .seconds(1))
    }
}
