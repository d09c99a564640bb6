import CKernels
import Foundation
import Testing

/// The contract's sum over a row, one number at a time.
func contractSum(_ x: [Float], _ step: (Float, Float) -> Float) -> Float {
    var partial = [Float](repeating: 0, count: 16)
    for (i, value) in x.enumerated() { partial[i % 16] = step(partial[i % 16], value) }
    for half in [8, 4, 2, 1] { for j in 0..<half { partial[j] = partial[j] + partial[j + half] } }
    return partial[0]
}

@Suite struct RowTests {
    static let widths = [1, 15, 16, 17, 96, 576, 1003]

    func normalise(_ variant: Variant, _ kind: sk_norm_kind, _ x: [Float], _ weight: [Float], _ bias: [Float]?) -> [Float] {
        let weight = Aligned(weight), bias = bias.map { Aligned($0) }, out = Aligned<Float>(x.count)
        var norm = sk_norm(kind: kind, epsilon: 1e-5, weight: weight.pointer, bias: bias?.pointer)
        sk_normalise(variant.kernels, nil, &norm, x, x.count, 1, Int32(x.count), out.pointer, x.count)
        return out.values
    }

    @Test(arguments: Variant.available)
    func rmsNormFollowsTheContract(variant: Variant) {
        var generator = SeededGenerator(seed: 51)
        for n in Self.widths {
            let x = n == 96 ? generator.hostile(n).map { $0.magnitude > 1e15 ? 1 : $0 } : generator.ordinary(n), weight = generator.ordinary(n)
            let sum = contractSum(x) { $0.addingProduct($1, $1) }
            let r = 1 / (sum / Float(n) + 1e-5).squareRoot()
            let out = normalise(variant, SK_NORM_RMS, x, weight, nil)
            #expect(bits(out) == bits(zip(x, weight).map { $0 * r * $1 }), "\(n)")
        }
    }

    @Test(arguments: Variant.available)
    func layerNormFollowsTheContract(variant: Variant) {
        var generator = SeededGenerator(seed: 52)
        for n in Self.widths {
            let x = generator.ordinary(n), weight = generator.ordinary(n), bias = generator.ordinary(n)
            let mean = contractSum(x) { $0 + $1 } / Float(n), centred = x.map { $0 - mean }
            let r = 1 / (contractSum(centred) { $0.addingProduct($1, $1) } / Float(n) + 1e-5).squareRoot()
            let expected = (0..<n).map { bias[$0].addingProduct(centred[$0] * r, weight[$0]) }
            #expect(bits(normalise(variant, SK_NORM_LAYER, x, weight, bias)) == bits(expected), "\(n)")
            let unbiased = (0..<n).map { Float(0).addingProduct(centred[$0] * r, weight[$0]) }
            #expect(bits(normalise(variant, SK_NORM_LAYER, x, weight, nil)) == bits(unbiased), "\(n)")
        }
    }

    @Test func normAndQuantiseInOneEqualBothInTurn() throws {
        var generator = SeededGenerator(seed: 53)
        let rows = 7, n = 96, x = generator.ordinary(rows * n), weight = Aligned(generator.ordinary(n))
        let pool = try #require(sk_pool_create(3, nil))
        defer { sk_pool_destroy(pool) }
        for variant in Variant.available {
            var norm = sk_norm(kind: SK_NORM_RMS, epsilon: 1e-6, weight: weight.pointer, bias: nil)
            for kind in [SK_ACTIVATION_Q8_32, SK_ACTIVATION_F32] {
                let stride = sk_activation_bytes(kind, Int32(n))
                let normed = Aligned<Float>(rows * n), out = Aligned<UInt8>(rows * stride)
                sk_normalise_quantise(variant.kernels, pool, &norm, x, n, Int32(rows), Int32(n), normed.pointer, n, kind, out.pointer)
                let apart = Aligned<Float>(rows * n)
                sk_normalise(variant.kernels, nil, &norm, x, n, Int32(rows), Int32(n), apart.pointer, n)
                #expect(bits(normed.values) == bits(apart.values))
                let quantised = variant.quantise((0..<rows).map { Array(apart.values[$0 * n..<($0 + 1) * n]) }, kind)
                #expect(out.values == quantised.values)
            }
        }
    }

    @Test(arguments: Variant.available)
    func residualsBiasAndScale(variant: Variant) throws {
        var generator = SeededGenerator(seed: 54)
        let rows = 3, n = 37, ld = 41
        let x = generator.hostile(rows * ld), y = generator.hostile(rows * ld), pool = try #require(sk_pool_create(2, nil))
        defer { sk_pool_destroy(pool) }
        func check(_ name: String, _ run: (UnsafeMutablePointer<Float>) -> Void, _ rule: (Int) -> Float) {
            let memory = Aligned(x)
            run(memory.pointer)
            #expect(bits(memory.values) == bits(x.indices.map { $0 % ld < n ? rule($0) : x[$0] }), "\(name)")
        }
        let k = variant.kernels
        check("add", { sk_add(k, pool, $0, ld, y, ld, 3, Int32(n)) }, { x[$0] + y[$0] })
        check("add scaled", { sk_add_scaled(k, pool, $0, ld, y, ld, 0.22, 3, Int32(n)) }, { x[$0].addingProduct(0.22, y[$0]) })
        check("bias", { sk_add_bias(k, pool, $0, ld, y, 3, Int32(n)) }, { x[$0] + y[$0 % ld] })
        let scaled = Aligned(x)
        sk_scale(k, scaled.pointer, 12, x.count)
        #expect(bits(scaled.values) == bits(x.map { $0 * 12 }))
    }

    @Test(arguments: Variant.available)
    func softmaxAndLogSumExpFollowTheContract(variant: Variant) {
        var generator = SeededGenerator(seed: 55)
        for n in [1, 16, 33, 1000] {
            let x = generator.ordinary(n).map { $0 * 5 }, top = x.max()!
            var e = x.map { $0 - top }
            sk_apply(Variant.plain.kernels, SK_FUNCTION_EXP, e, &e, n)
            let sum = contractSum(e) { $0 + $1 }
            let out = Aligned<Float>(n)
            sk_softmax(variant.kernels, x, out.pointer, Int32(n))
            #expect(bits(out.values) == bits(e.map { $0 / sum }))
            let exact = Double(top) + log(Double(sum))
            #expect(abs(sk_log_sum_exp(variant.kernels, x, Int32(n)) - exact) <= 1e-14 * max(1, abs(exact)))
        }
        #expect(sk_log_sum_exp(variant.kernels, [1, .nan], 2).isNaN)
        #expect(sk_log_sum_exp(variant.kernels, [1, .infinity], 2).isNaN)
    }

    @Test func logSumExpIsTheSameDoubleEverywhere() {
        var generator = SeededGenerator(seed: 56)
        for n in [5, 49_152] {
            let x = generator.ordinary(n)
            let all = Set(Variant.available.map { sk_log_sum_exp($0.kernels, x, Int32(n)).bitPattern })
            #expect(all.count == 1)
        }
    }

    @Test(arguments: Variant.available)
    func argmaxTakesTheLowestOfEquals(variant: Variant) {
        var generator = SeededGenerator(seed: 57)
        for n in [1, 5, 16, 31, 200] {
            for _ in 0..<50 {
                let x = (0..<n).map { _ in Float([-3, -0.0, 0, 1, 1, 2].randomElement(using: &generator)!) }
                #expect(sk_argmax(variant.kernels, x, Int32(n)) == Int32(x.firstIndex(of: x.max()!)!))
            }
        }
        #expect(sk_argmax(variant.kernels, [-.infinity, -.infinity], 2) == 0)
        #expect(sk_argmax(variant.kernels, [1, .infinity, .infinity], 3) == 1)
    }

    @Test(arguments: Variant.available)
    func whatIsCollectedIsAtLeastLowAndBelowHigh(variant: Variant) {
        var generator = SeededGenerator(seed: 58)
        for n in [1, 15, 16, 33, 1000] {
            let x = (0..<n).map { _ in [-Float.infinity, -2, -0.0, 0, 0.5, 1, 1, 3].randomElement(using: &generator)! }
            for (low, high) in [(-Float.infinity, Float.infinity), (0, 1), (-2, 0), (1, .infinity), (3, 3), (-.infinity, -1)] {
                let ids = Aligned<Int32>(n), found = sk_collect(variant.kernels, x, Int32(n), low, high, ids.pointer)
                #expect(Array(ids.values.prefix(Int(found))) == x.indices.filter { x[$0] >= low && x[$0] < high }.map(Int32.init))
            }
            var out = [Float](repeating: 0, count: n)
            sk_temper(variant.kernels, x, 3, 0.7, &out, Int32(n))
            #expect(bits(out) == bits(x.map { ($0 - 3) / 0.7 }))
        }
    }

    @Test(arguments: Variant.available)
    func oneBadValueIsFoundAnywhere(variant: Variant) {
        for n in [1, 16, 35] {
            let good = [Float](repeating: -.greatestFiniteMagnitude, count: n)
            #expect(sk_all_finite(variant.kernels, good, n))
            for i in 0..<n {
                for bad in [Float.nan, -.nan, .infinity, -.infinity] {
                    var x = good
                    x[i] = bad
                    #expect(!sk_all_finite(variant.kernels, x, n))
                }
            }
        }
    }
}
