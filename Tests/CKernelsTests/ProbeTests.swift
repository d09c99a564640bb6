import CKernels
import Testing

@Suite struct ProbeTests {
    private static let sets = [SK_ISA_PORTABLE, SK_ISA_AVX2, SK_ISA_AVX512].filter { sk_isa_is_supported($0) }

    /// A rate is only as right as its count.
    @Test func peakCountsItsOperations() {
        for isa in Self.sets {
            for peak in [SK_PEAK_INT8, SK_PEAK_F32] {
                let one = sk_probe_peak(isa, peak, 1)
                #expect(one > 0 && one % (2 * 12 * 4) == 0)
                #expect(sk_probe_peak(isa, peak, 1_000) == 1_000 * one)
            }
        }
        if sk_isa_is_supported(SK_ISA_AVX512) {
            #expect(sk_probe_peak(SK_ISA_AVX512, SK_PEAK_INT8, 1) == 12 * 128)
            #expect(sk_probe_peak(SK_ISA_AVX512, SK_PEAK_F32, 1) == 12 * 32)
        }
    }

    /// A byte that no read reaches would make the memory faster than it is.
    @Test func everyByteIsRead() {
        let count = 3 * 2048
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: Int(SK_ALIGNMENT))
        defer { memory.deallocate() }
        memory.initializeMemory(as: UInt8.self, repeating: 0)
        #expect(sk_probe_read(memory.baseAddress, count) == 0)
        for index in 0..<count {
            memory[index] = 0x10
            if sk_probe_read(memory.baseAddress, count) == 0 { Issue.record("byte \(index) was not read") }
            memory[index] = 0
        }
    }
}
