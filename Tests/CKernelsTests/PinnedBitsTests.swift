import CKernels
import Testing

/// Functions and tables may differ from the real value by an ulp, so nothing but these digests says which bits they give. They were
/// recorded once, from equal runs on x86-64 (every instruction set) and AArch64. A change here changes the tokens that requests get:
/// it needs a new version of the arithmetic contract, not a new number.
@Suite struct PinnedBitsTests {
    static func digest(_ values: [Float]) -> UInt64 {
        bits(values).reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
    }

    /// Every 8,191st bit pattern, finite or not.
    static let patterns = stride(from: UInt32(0), to: .max - 8191, by: 8191).map { Float(bitPattern: $0) }

    static let recorded: [(function: sk_function, digest: UInt64)] = [
        (SK_FUNCTION_SILU, 0x60dbbef08715cc97),
        (SK_FUNCTION_GELU_ERF, 0x41cfda5e6c1e3df2),
        (SK_FUNCTION_GELU_TANH, 0x6ed5e1cd966ac281),
        (SK_FUNCTION_GELU_QUICK, 0xa8aa78817bebb570),
        (SK_FUNCTION_TANH, 0xc2665bfc39784dd5),
        (SK_FUNCTION_SOFTPLUS, 0x670bdeb1058314d3),
        (SK_FUNCTION_EXP, 0xfc90dc394722ec2b),
    ]

    @Test(arguments: recorded.indices, Variant.available)
    func functions(index: Int, variant: Variant) {
        var out = [Float](repeating: 0, count: Self.patterns.count)
        sk_apply(variant.kernels, Self.recorded[index].function, Self.patterns, &out, out.count)
        #expect(Self.digest(out) == Self.recorded[index].digest)
    }

    @Test func ropeTables() {
        var frequencies = [Double](repeating: 0, count: 64)
        sk_rope_frequencies(5e5, 128, nil, &frequencies)
        sk_rope_scale_llama3(&frequencies, 64, 8, 1, 4, 8192)
        var cosines = [Float](repeating: 0, count: 64 * 300), sines = cosines
        sk_rope_table(frequencies, 64, 130_000, 300, 1, &cosines, &sines)
        #expect(Self.digest(cosines + sines) == 0x7c49251ac3ab6b17)
        let folded = frequencies.reduce(0 as UInt64) { ($0 ^ $1.bitPattern) &* 0x100_0000_01b3 }
        #expect(folded == 0xa67c96d4d9faa886)
    }

    @Test func logSumExp() {
        let x = (0..<5000).map { Float(($0 * 7919) % 1000) / 64 - 8 }
        for variant in Variant.available { #expect(sk_log_sum_exp(variant.kernels, x, 5000).bitPattern == 0x402ac55ffeb1a268, "\(variant)") }
    }

    /// One product of every type, five columns: its bits may not move, however kernels are rearranged.
    static let recordedProducts: [(type: sk_type, digest: UInt64)] = [
        (SK_TYPE_Q4_0, 0xc1e149241f743cee), (SK_TYPE_Q4_1, 0x1f1bc9a2b2a486c5), (SK_TYPE_Q5_0, 0x47db8ae1d2028ba7),
        (SK_TYPE_Q5_1, 0x1193538568156cd7), (SK_TYPE_Q8_0, 0xcbc9ae7af8eb0e78), (SK_TYPE_IQ4_NL, 0x5510b6dda6cac8a4),
        (SK_TYPE_F32, 0x0357c25724373a18), (SK_TYPE_F16, 0xdfcabf0fd4352220), (SK_TYPE_BF16, 0xf201c3200ae1ce68),
    ]

    @Test(arguments: recordedProducts.indices, Variant.available)
    func products(index: Int, variant: Variant) {
        let (type, digest) = Self.recordedProducts[index]
        var generator = SeededGenerator(seed: 24)
        let file = FileMatrix(type: type, rows: 37, columns: 544, using: &generator)
        let out = variant.multiply(file, file.packed(), (0..<5).map { _ in generator.ordinary(544) })
        #expect(Self.digest(out) == digest, "\(type.testDescription) \(String(Self.digest(out), radix: 16))")
    }
}
