import CKernels
import Foundation
import Testing

@Suite struct FunctionTests {
    static let functions: [sk_function] = [
        SK_FUNCTION_SILU, SK_FUNCTION_GELU_ERF, SK_FUNCTION_GELU_TANH, SK_FUNCTION_GELU_QUICK, SK_FUNCTION_TANH,
        SK_FUNCTION_SOFTPLUS, SK_FUNCTION_EXP,
    ]

    /// The real value to about 1e-15, written so that neither tail cancels.
    static func reference(_ function: sk_function, _ x: Double) -> Double {
        func timesSigmoid(_ x: Double, _ u: Double) -> Double { u < 0 ? x * exp(u) / (1 + exp(u)) : x / (1 + exp(-u)) }
        switch function {
        case SK_FUNCTION_SILU: return timesSigmoid(x, x)
        case SK_FUNCTION_GELU_ERF: return 0.5 * x * erfc(-x / 2.0.squareRoot())
        case SK_FUNCTION_GELU_TANH: return timesSigmoid(x, 2 * (2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x))
        case SK_FUNCTION_GELU_QUICK: return timesSigmoid(x, 1.702 * x)
        case SK_FUNCTION_TANH: return tanh(x)
        case SK_FUNCTION_SOFTPLUS: return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x))
        default: return exp(x)
        }
    }

    /// Every 4,099th float of both signs, and a dense sweep where the functions bend.
    static let sweep: [Float] = stride(from: UInt32(0), through: 0xff7f_ffff, by: 4099).map { Float(bitPattern: $0) }.filter { $0.isFinite }
        + stride(from: Float(-110), through: 110, by: 1 / 64).map { $0 }

    @Test(arguments: functions)
    func liesWithinTwoUlpOfTheRealValue(function: sk_function) {
        var out = [Float](repeating: 0, count: Self.sweep.count)
        sk_apply(Variant.portable.kernels, function, Self.sweep, &out, out.count)
        var worst = 0.0, at: Float = 0
        for (x, y) in zip(Self.sweep, out) {
            let distance = ulps(y, from: Self.reference(function, Double(x)))
            if distance > worst { (worst, at) = (distance, x) }
        }
        #expect(worst <= 2, "worst at \(at)")
    }

    @Test(arguments: functions, Variant.faster)
    func equalsPlainCInEveryBit(function: sk_function, variant: Variant) {
        var expected = [Float](repeating: 0, count: Self.sweep.count), out = expected
        sk_apply(Variant.plain.kernels, function, Self.sweep, &expected, out.count)
        sk_apply(variant.kernels, function, Self.sweep, &out, out.count)
        #expect(bits(out) == bits(expected))
    }

    @Test(arguments: Variant.available)
    func specialValues(variant: Variant) {
        let x: [Float] = [-.infinity, .infinity, 0, -0.0, .nan, -.greatestFiniteMagnitude, .greatestFiniteMagnitude]
        let inf = Float.infinity, top = Float.greatestFiniteMagnitude, nan = Float.nan
        let expected: [(sk_function, [Float])] = [
            (SK_FUNCTION_EXP, [0, inf, 1, 1, nan, 0, inf]),
            (SK_FUNCTION_SILU, [-0.0, inf, 0, -0.0, nan, -0.0, top]),
            (SK_FUNCTION_GELU_ERF, [-0.0, inf, 0, -0.0, nan, -0.0, top]),
            (SK_FUNCTION_GELU_TANH, [-0.0, inf, 0, -0.0, nan, -0.0, top]),
            (SK_FUNCTION_GELU_QUICK, [-0.0, inf, 0, -0.0, nan, -0.0, top]),
            (SK_FUNCTION_TANH, [-1, 1, 0, -0.0, nan, -1, 1]),
        ]
        for (function, values) in expected {
            var out = [Float](repeating: 0, count: x.count)
            sk_apply(variant.kernels, function, x, &out, x.count)
            #expect(bits(out) == bits(values), "function \(function.rawValue): \(out)")
        }
        var out = [Float](repeating: 0, count: x.count)
        sk_apply(variant.kernels, SK_FUNCTION_SOFTPLUS, x, &out, x.count)
        #expect(bits(Array(out[0..<2])) == bits([0, inf]) && out[2] == Float(log(2.0)) && out[4].isNaN && out[5] == 0 && out[6] == top)
    }

    /// Odd counts go through the short end of the loop, and may not write past it.
    @Test(arguments: Variant.available)
    func everyCountAndInPlace(variant: Variant) {
        var generator = SeededGenerator(seed: 31)
        let x = generator.ordinary(70)
        var whole = [Float](repeating: 0, count: 70)
        sk_apply(variant.kernels, SK_FUNCTION_SILU, x, &whole, 70)
        for count in 0...70 {
            let memory = Aligned<Float>(x)
            sk_apply(variant.kernels, SK_FUNCTION_SILU, memory.pointer, memory.pointer, count)
            #expect(bits(memory.values) == bits(Array(whole[0..<count] + x[count...])))
        }
    }

    @Test(arguments: Variant.available)
    func aGateIsTheFunctionTimesUpAndItsQuantisation(variant: Variant) throws {
        var generator = SeededGenerator(seed: 32)
        let rows = 5, columns = 96
        let gate = generator.ordinary(rows * columns), up = generator.ordinary(rows * columns)
        let pool = try #require(sk_pool_create(2, nil))
        defer { sk_pool_destroy(pool) }
        var silu = gate
        sk_apply(variant.kernels, SK_FUNCTION_SILU, gate, &silu, gate.count)
        let expected = zip(silu, up).map { $0 * $1 }
        let stride = sk_activation_bytes(SK_ACTIVATION_Q8_32, Int32(columns))
        let out = Aligned<Float>(rows * columns), activations = Aligned<UInt8>(rows * stride)
        sk_gate(variant.kernels, pool, SK_FUNCTION_SILU, gate, up, columns, Int32(rows), Int32(columns), out.pointer, columns,
                SK_ACTIVATION_Q8_32, activations.pointer)
        #expect(bits(out.values) == bits(expected))
        let quantised = variant.quantise((0..<rows).map { Array(expected[$0 * columns..<($0 + 1) * columns]) }, SK_ACTIVATION_Q8_32)
        #expect(activations.values == quantised.values)
    }
}
