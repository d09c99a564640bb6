/// Philox 4×32-10: random numbers as a function of a key and a counter, without state. After Salmon, Moraes, Dror and
/// Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3" (2011).
struct Philox {
    private static let rounds = 10
    private static let multipliers: (UInt32, UInt32) = (0xD251_1F53, 0xCD9E_8D57)
    private static let keySteps: (UInt32, UInt32) = (0x9E37_79B9, 0xBB67_AE85)

    static func block(counter: SIMD4<UInt32>, key: SIMD2<UInt32>) -> SIMD4<UInt32> {
        var x = counter
        var k = key
        for round in 0..<rounds {
            if round > 0 { k = SIMD2(k.x &+ keySteps.0, k.y &+ keySteps.1) }
            let a = multipliers.0.multipliedFullWidth(by: x.x)
            let b = multipliers.1.multipliedFullWidth(by: x.z)
            x = SIMD4(b.high ^ x.y ^ k.x, b.low, a.high ^ x.w ^ k.y, a.low)
        }
        return x
    }

    /// A number in 0..<1 with 53 random bits for one token of one choice of a request.
    static func uniform(seed: UInt64, choice: UInt32, position: Int) -> Double {
        let place = UInt64(position)
        let bits = block(
            counter: SIMD4(UInt32(truncatingIfNeeded: place), UInt32(truncatingIfNeeded: place >> 32), choice, 0),
            key: SIMD2(UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32)))
        return Double((UInt64(bits.x) << 32 | UInt64(bits.y)) >> 11) * 0x1p-53
    }
}
