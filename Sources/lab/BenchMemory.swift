import CKernels
import Engine
import Foundation
import ModelFiles

/// Memory of a benchmark, in huge pages as the engine's is, all written to.
final class BenchMemory {
    let base: UnsafeMutableRawPointer
    let byteCount: Int
    private static let hugePageBytes = 2 << 20

    init(byteCount: Int) {
        self.byteCount = byteCount
        base = .allocate(byteCount: max(1, byteCount), alignment: Self.hugePageBytes)
        #if canImport(Glibc)
            madvise(base, byteCount, MADV_HUGEPAGE)
        #endif
        base.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
    }

    /// Random floats of deviation 1.
    convenience init(floats count: Int, seed: UInt64) {
        self.init(byteCount: 4 * count)
        SyntheticBlocks(type: .f32, deviation: 1).fill(UnsafeMutableRawBufferPointer(start: base, count: byteCount), seed: seed)
    }

    /// Rows of `columns` random values as matrix products take them.
    convenience init(activations rows: Int, columns: Int, kind: sk_activation_kind, instructionSet: InstructionSet) {
        self.init(byteCount: rows * sk_activation_bytes(kind, Int32(columns)))
        let floats = BenchMemory(floats: rows * columns, seed: UInt64(columns))
        sk_quantise(instructionSet.table, nil, kind, floats.floats, columns, Int32(rows), Int32(columns), base)
    }

    deinit { base.deallocate() }

    var floats: UnsafeMutablePointer<Float> { base.assumingMemoryBound(to: Float.self) }
}

/// Numbers that a seed decides: SplitMix64.
struct BenchRandom: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
