import CKernels
#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Measures how fast the threads of a pool read memory together: the bound on decoding, which reads every weight for every token.
package final class ReadProbe {
    private let memory: AlignedMemory
    /// Bytes of one thread's streams must be whole steps of `sk_probe_read`.
    private static let granuleBytes = 2048

    /// `bytes`: what one measurement reads. Far more than the caches hold, or it measures these.
    package init(bytes: Int = 256 << 20, instructionSet: InstructionSet) throws(EngineError) {
        memory = try AlignedMemory(byteCount: bytes, for: "the read probe")
        #if canImport(Glibc)
            // With small pages a core waits for translations: it would measure these.
            madvise(memory.base, bytes, MADV_HUGEPAGE)
        #endif
        // Pages that were never written are all the same page of zeros.
        memset(memory.base, 1, bytes)
    }

    /// Bytes read in a second, in one pass over the memory.
    package func bytesPerSecond(_ pool: ComputePool) -> Double {
        var bytes = 0
        let time = ContinuousClock().measure { bytes = read(pool, bytes: memory.byteCount) }
        return Double(bytes) / (time / .seconds(1))
    }

    /// Reads most of the first `bytes` of the memory once, for callers with a clock of their own. Returns the bytes read.
    package func read(_ pool: ComputePool, bytes: Int) -> Int {
        precondition((1...memory.byteCount).contains(bytes), "the probe has \(memory.byteCount) bytes, not \(bytes)")
        // Less than all, because streams at a distance of nearly a power of two meet in the same banks of memory: that cost a seventh.
        let share = max(1, bytes / pool.threads / Self.granuleBytes * 25 / 32) * Self.granuleBytes
        precondition(share * pool.threads <= memory.byteCount, "\(pool.threads) threads share \(memory.byteCount) bytes")
        let base = memory.base
        pool.runEach { thread, _ in
            precondition(sk_probe_read(base + thread * share, share) & 1 == 1, "the probe's memory changed")
        }
        return share * pool.threads
    }
}
