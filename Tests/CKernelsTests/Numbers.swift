import CKernels
import Testing

/// Seeded, so a failing test fails again: SplitMix64.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    /// Ordinary values, as a model's activations look.
    mutating func ordinary(_ count: Int) -> [Float] {
        (0..<count).map { _ in
            let sum = (0..<4).reduce(Float(0)) { total, _ in total + Float.random(in: -1...1, using: &self) }
            return Int.random(in: 0..<50, using: &self) == 0 ? sum * 30 : sum
        }
    }

    /// Zeros of both signs, subnormals, extremes and ordinary values, all finite.
    mutating func hostile(_ count: Int) -> [Float] {
        let special: [Float] = [
            0, -0.0, .leastNonzeroMagnitude, -.leastNonzeroMagnitude, .leastNormalMagnitude, Float(bitPattern: 0x000a_0000), -1e-30, 1e-20, 1, -1,
            0.5, 65504, -65520, 1e10, -1e18, 3e18,
        ]
        return (0..<count).map { _ in
            switch Int.random(in: 0..<4, using: &self) {
            case 0: special.randomElement(using: &self)!
            case 1: Float.random(in: -1...1, using: &self) * Float(sign: .plus, exponent: Int.random(in: -140...40, using: &self), significand: 1)
            default: Float.random(in: -2...2, using: &self)
            }
        }
    }
}

/// Memory as the kernels want it, filled with a pattern that no kernel writes by chance.
final class Aligned<Element: BitwiseCopyable> {
    let pointer: UnsafeMutablePointer<Element>
    let count: Int

    init(_ count: Int, fill: UInt8 = 0xa5) {
        self.count = count
        let bytes = max(64, (count * MemoryLayout<Element>.stride + 63) & ~63)
        let raw = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: SK_ALIGNMENT)
        raw.initializeMemory(as: UInt8.self, repeating: fill, count: bytes)
        pointer = raw.bindMemory(to: Element.self, capacity: max(1, count))
    }

    convenience init(_ values: [Element]) {
        self.init(values.count)
        for (i, value) in values.enumerated() { pointer[i] = value }
    }

    deinit { UnsafeMutableRawPointer(pointer).deallocate() }

    var values: [Element] { Array(UnsafeBufferPointer(start: pointer, count: count)) }
}

/// Bits for comparison. All NaN are one: the contract leaves their payload open.
func bits(_ values: [Float]) -> [UInt32] { values.map { $0.isNaN ? 0x7fc0_0000 : $0.bitPattern } }

/// Distance in units in the last place of the nearest float to `exact`, subnormal spacing included.
func ulps(_ value: Float, from exact: Double) -> Double {
    let nearest = Float(exact)
    if nearest.isNaN || value.isNaN { return nearest.isNaN && value.isNaN ? 0 : .infinity }
    if nearest.isInfinite || value.isInfinite {
        if value == nearest { return 0 }
        return abs(exact) > 3.4028234e38 && abs(value) > 3.4028230e38 ? 1 : .infinity
    }
    return abs(Double(value) - exact) / Double(nearest.ulp)
}

/// One table of kernels. `plain` is portable C without FMA instructions.
enum Variant: String, CaseIterable, CustomTestStringConvertible {
    case plain, portable, avx2, avx512, neon

    static let available = allCases.filter { $0.kernelsIfSupported != nil }
    static let faster = available.filter { $0 != .plain }

    var testDescription: String { rawValue }
    var kernels: OpaquePointer { kernelsIfSupported! }

    private var kernelsIfSupported: OpaquePointer? {
        switch self {
        case .plain: sk_kernels_plain()
        case .portable: sk_kernels_for(SK_ISA_PORTABLE)
        case .avx2: sk_kernels_for(SK_ISA_AVX2)
        case .avx512: sk_kernels_for(SK_ISA_AVX512)
        case .neon: sk_kernels_for(SK_ISA_NEON)
        }
    }
}
