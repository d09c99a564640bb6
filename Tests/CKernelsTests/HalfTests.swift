import CKernels
import Testing

@Suite struct HalfTests {
    @Test(arguments: Variant.available)
    func everyHalfWidensExactly(variant: Variant) {
        let halves = (0...UInt16.max).map { $0 }
        var out = [Float](repeating: 0, count: halves.count)
        sk_from_f16(variant.kernels, halves, &out, halves.count)
        #expect(bits(out) == bits(halves.map { Float(Float16(bitPattern: $0)) }))
        sk_from_bf16(variant.kernels, halves, &out, halves.count)
        #expect(bits(out) == bits(halves.map { Float(bitPattern: UInt32($0) << 16) }))
    }

    /// Around every half: the half itself, both neighbours, the midpoint to the next and its neighbours. Then random bits.
    static let floats: [Float] = {
        var generator = SeededGenerator(seed: 41)
        var floats = [Float]()
        for pattern in UInt16(0)..<0x7c00 {
            let value = Float(Float16(bitPattern: pattern)), next = pattern == 0x7bff ? 65536 : Float(Float16(bitPattern: pattern + 1))
            let middle = (value + next) / 2
            for x in [value, value.nextUp, middle.nextDown, middle, middle.nextUp] { floats += [x, -x] }
        }
        for _ in 0..<100_000 { floats.append(Float(bitPattern: UInt32(truncatingIfNeeded: generator.next()))) }
        return floats + [.infinity, -.infinity, .nan, .greatestFiniteMagnitude, .leastNonzeroMagnitude, 65519.996, 65520]
    }()

    @Test(arguments: Variant.available)
    func narrowingRoundsToNearestEven(variant: Variant) {
        let x = Self.floats
        var out = [UInt16](repeating: 0, count: x.count)
        sk_to_f16(variant.kernels, x, &out, x.count)
        var wrong = zip(x, out).filter { x, half in
            x.isNaN ? !Float16(bitPattern: half).isNaN : Float16(x).bitPattern != half
        }
        #expect(wrong.isEmpty, "f16: \(wrong.prefix(5))")

        sk_to_bf16(variant.kernels, x, &out, x.count)
        wrong = zip(x, out).filter { x, half in
            if x.isNaN { return !Float(bitPattern: UInt32(half) << 16).isNaN }
            let low = x.bitPattern & 0xffff, high = UInt16(x.bitPattern >> 16)
            return half != (low > 0x8000 || (low == 0x8000 && high & 1 == 1) ? high + 1 : high)
        }
        #expect(wrong.isEmpty, "bf16: \(wrong.prefix(5))")

        let rounded = Aligned<Float>(x)
        sk_round_bf16(variant.kernels, rounded.pointer, x.count)
        #expect(bits(rounded.values) == bits(out.map { Float(bitPattern: UInt32($0) << 16) }))
    }
}
