import CKernels
import Foundation
import Testing

@Suite struct RopeTests {
    @Test(arguments: [1e4, 1e5, 5e5, 1e6, 1e7, 1])
    func frequenciesAreThoseOfLibm(theta: Double) {
        for dims in [2, 64, 96, 128] {
            var frequencies = [Double](repeating: 0, count: dims / 2)
            sk_rope_frequencies(theta, Int32(dims), nil, &frequencies)
            for i in 0..<dims / 2 {
                let exact = pow(theta, -2 * Double(i) / Double(dims))
                #expect(abs(frequencies[i] / exact - 1) < 5e-15, "\(i) of \(dims)")
            }
        }
    }

    @Test func divisorsAndLinearScalingDivide() {
        var plain = [Double](repeating: 0, count: 32), divided = plain
        let divisors = (0..<32).map { Float(1 + $0 % 8) }
        sk_rope_frequencies(5e5, 64, nil, &plain)
        sk_rope_frequencies(5e5, 64, divisors, &divided)
        #expect(divided == zip(plain, divisors).map { $0 / Double($1) })
        sk_rope_scale_linear(&divided, 32, 4)
        #expect(divided == zip(plain, divisors).map { $0 / Double($1) / 4 })
    }

    /// Long wavelengths are divided by the factor, short ones stay, and the blend between them is continuous at both ends.
    @Test func llama3ScalingBlends() {
        let context = 8192.0
        let wavelengths: [(Double, Double)] = [
            (context + 1, 8), (1e6, 8), (context / 4 - 1, 1), (10, 1), (context / 4 + 1e-6, 1), (context - 1e-6, 8),
        ]
        for (wavelength, divisor) in wavelengths {
            var frequency = [2 * Double.pi / wavelength]
            let before = frequency[0]
            sk_rope_scale_llama3(&frequency, 1, 8, 1, 4, context)
            #expect(abs(before / frequency[0] / divisor - 1) < 1e-8, "wavelength \(wavelength)")
        }
        // Half way in frequency between both ends: s = 1/2.
        let middle = context / 2.5
        var frequency = [2 * Double.pi / middle]
        let before = frequency[0]
        sk_rope_scale_llama3(&frequency, 1, 8, 1, 4, context)
        #expect(abs(frequency[0] / before - (0.5 / 8 + 0.5)) < 1e-12)
    }

    /// YaRN by its formula, with libm.
    @Test func yarn() {
        let dims = 64, theta = 1e6, factor = 4.0, context = 32_768.0
        var plain = [Double](repeating: 0, count: dims / 2)
        sk_rope_frequencies(theta, Int32(dims), nil, &plain)
        var found = plain
        sk_rope_scale_yarn(&found, Int32(dims / 2), theta, factor, 32, 1, context)
        func pair(_ turns: Double) -> Double { Double(dims) * log(context / (turns * 2 * .pi)) / (2 * log(theta)) }
        let low = floor(pair(32)), high = ceil(pair(1))
        #expect(low > 0 && high < Double(dims / 2))
        for i in 0..<dims / 2 {
            let ramp = min(max((Double(i) - low) / (high - low), 0), 1)
            let expected = plain[i] / factor * ramp + plain[i] * (1 - ramp)
            #expect(abs(found[i] / expected - 1) < 1e-12, "pair \(i)")
        }
        #expect(found[0] == plain[0] && found[dims / 2 - 1] == plain[dims / 2 - 1] / factor)
        // A range of one pair, as short heads have it.
        var short = [1.0, 0.5]
        sk_rope_scale_yarn(&short, 2, 4, factor, 1, 1, 2 * .pi)
        #expect(short[0] == 1 && short[1] == 0.125)
    }

    @Test(arguments: [1, 2, 10, 0.001, 32_768, 1e300]) func logarithms(x: Double) {
        #expect(abs(sk_natural_log(x) - log(x)) <= 2 * log(x).ulp)
    }

    @Test func tablesAreThoseOfLibm() {
        let dims = 128
        var frequencies = [Double](repeating: 0, count: dims / 2)
        sk_rope_frequencies(1e6, Int32(dims), nil, &frequencies)
        for first in [0, 1000, 131_000, 1_048_000] {
            var cosines = [Float](repeating: 0, count: 200 * dims / 2), sines = cosines
            sk_rope_table(frequencies, Int32(dims / 2), Int32(first), 200, 1.19, &cosines, &sines)
            for p in 0..<200 {
                for i in 0..<dims / 2 {
                    let angle = Double(first + p) * frequencies[i], at = p * dims / 2 + i
                    #expect(abs(Double(cosines[at]) - 1.19 * cos(angle)) < 1e-7 && abs(Double(sines[at]) - 1.19 * sin(angle)) < 1e-7)
                }
            }
        }
    }

    @Test(arguments: [SK_ROPE_HALVES.rawValue, SK_ROPE_ADJACENT.rawValue], Variant.available)
    func turnsPairsByTheRule(pairing: UInt32, variant: Variant) throws {
        var generator = SeededGenerator(seed: 61)
        let pairing = sk_rope_pairing(rawValue: pairing), rows = 5, heads = 3
        let pool = try #require(sk_pool_create(2, nil))
        defer { sk_pool_destroy(pool) }
        for (headDim, dims) in [(64, 64), (96, 96), (80, 40), (10, 6)] {
            let ld = heads * headDim + 5, half = dims / 2
            let x = generator.hostile(rows * ld), cosines = generator.ordinary(9 * half), sines = generator.ordinary(9 * half)
            let positions = (0..<rows).map { _ in Int32.random(in: 0..<9, using: &generator) }
            var expected = x
            for row in 0..<rows {
                for head in 0..<heads {
                    for i in 0..<half {
                        let start = row * ld + head * headDim
                        let a = start + (pairing == SK_ROPE_HALVES ? i : 2 * i), b = pairing == SK_ROPE_HALVES ? a + half : a + 1
                        let c = cosines[Int(positions[row]) * half + i], s = sines[Int(positions[row]) * half + i]
                        expected[a] = (-(x[b] * s)).addingProduct(x[a], c)
                        expected[b] = (x[a] * s).addingProduct(x[b], c)
                    }
                }
            }
            let memory = Aligned(x)
            sk_rope(variant.kernels, pool, pairing, memory.pointer, ld, Int32(rows), Int32(heads), Int32(headDim), Int32(dims),
                    positions, cosines, sines)
            #expect(bits(memory.values) == bits(expected), "head \(headDim), \(dims) turned")
        }
    }
}
