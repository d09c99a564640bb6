/// Random weights, made directly in a file's format: nothing is quantised. Quants are random bits; scales are such that
/// the weights have the wanted standard deviation and no mean, and vary by a quarter from block to block as real ones do.
///
/// Integers, correctly rounded products and no library functions, so that a seed gives the same bytes everywhere.
struct SyntheticBlocks {
    let type: TensorType
    /// What a block's `d` may be: halves, chosen by its own random low byte.
    private let scales: [UInt16]
    /// The same for the minimum; empty where the type has none.
    private let minima: [UInt16]
    /// Elements of a float type, chosen by 12 random bits.
    private let values: [UInt32]

    private static let choices = 256
    private static let valueChoices = 4096

    init(type: TensorType, deviation: Float, mean: Float = 0) {
        precondition(mean == 0 || type == .f32, "only float vectors have a mean")
        self.type = type
        let unit = Self.unit(type)
        // 0.75 ... 1.25
        let jitter = (0..<Self.choices).map { 0.75 + Float($0) / Float(2 * (Self.choices - 1)) }
        scales = jitter.map { Float16(deviation / unit.deviation * $0).bitPattern }
        minima = unit.minimum == 0 ? [] : jitter.map { Float16(deviation / unit.deviation * unit.minimum * $0).bitPattern }
        values = type.isFloat ? Self.values(type, deviation: deviation, mean: mean) : []
    }

    /// Fills `bytes`, whole blocks, in a way that only `seed` decides.
    func fill(_ bytes: UnsafeMutableRawBufferPointer, seed: UInt64) {
        precondition(bytes.count % type.blockBytes == 0, "\(bytes.count) bytes are no whole blocks of \(type.name)")
        guard let base = bytes.baseAddress else { return }
        var random = SyntheticRandom(seed: seed)
        if type.isFloat {
            fillFloats(base, count: bytes.count / type.blockBytes, &random)
            return
        }
        random.fill(bytes)
        for offset in stride(from: 0, to: bytes.count, by: type.blockBytes) { settle(base + offset) }
    }

    // MARK: Quantised types

    /// Of a block with d = 1: the standard deviation of its elements, and the minimum that leaves them without a mean. The
    /// factors inside K-blocks are as `settle` leaves them.
    private static func unit(_ type: TensorType) -> (deviation: Float, minimum: Float) {
        switch type {
        case .f32, .f16, .bf16: (1, 0)
        case .q4_0: (4.6, 0)
        case .q4_1: (4.6, -7.5)
        case .q5_0: (9.2, 0)
        case .q5_1: (9.2, -15.5)
        case .q8_0: (73.6, 0)
        case .q2_K: (1.12 * 11.7, 1.5)
        case .q3_K: (2.3 * 24, 0)
        case .q4_K: (4.6 * 48.4, 7.5)
        case .q5_K: (9.2 * 48.4, 15.5)
        case .q6_K: (18.5 * 97, 0)
        case .iq4_NL: (67.4, 0)
        case .iq4_XS: (67.4 * 24, 0)
        }
    }

    /// Gives a block of random bytes its scales. What is signed keeps a random sign: a real block's sign is that of its largest
    /// weight.
    private func settle(_ block: UnsafeMutableRawPointer) {
        switch type {
        case .q4_0, .q5_0, .iq4_NL:
            setScale(block, signed: true)
        case .q4_1, .q5_1:
            setScaleAndMinimum(block)
        case .q8_0:
            setScale(block, signed: false)
            // Quantisers never make -128.
            forEachByte(block + 2, 32) { $0 == 0x80 ? 0x81 : $0 }
        case .q2_K:
            // Factors of 8...15, and minima that are the same but for their lowest bit.
            forEachByte(block, 16) { byte in
                let factor = byte & 7 | 8
                return factor | (factor & 14 | byte >> 4 & 1) << 4
            }
            setScaleAndMinimum(block + 80)
        case .q3_K:
            setSignedFactors(block + 104, bytes: 4)
            setScale(block + 108, signed: false)
        case .q4_K, .q5_K:
            setScaleAndMinimum(block)
            setFactorsAndMinima(block + 4)
        case .q6_K:
            // 64...127, or the same below zero.
            forEachByte(block + 192, 16) { byte in
                let magnitude = byte & 63 | 64
                return byte & 0x80 == 0 ? magnitude : 0 &- magnitude
            }
            setScale(block + 208, signed: false)
        case .iq4_XS:
            setScale(block, signed: true)
            setSignedFactors(block + 2, bytes: 2)
        case .f32, .f16, .bf16:
            break
        }
    }

    private func setScale(_ field: UnsafeMutableRawPointer, signed: Bool) {
        let choice = Int(field.load(as: UInt8.self))
        let isNegative = signed && field.load(fromByteOffset: 1, as: UInt8.self) & 1 == 1
        set(field, scales[choice] | (isNegative ? 0x8000 : 0))
    }

    /// The minimum follows the scale, by the same choice, so that the block keeps no mean.
    private func setScaleAndMinimum(_ field: UnsafeMutableRawPointer) {
        let choice = Int(field.load(as: UInt8.self))
        set(field, scales[choice])
        set(field + 2, minima[choice])
    }

    private func set(_ field: UnsafeMutableRawPointer, _ half: UInt16) {
        field.storeBytes(of: UInt8(truncatingIfNeeded: half), as: UInt8.self)
        field.storeBytes(of: UInt8(truncatingIfNeeded: half >> 8), toByteOffset: 1, as: UInt8.self)
    }

    /// Q3_K's sixteen and IQ4_XS's eight factors have 6 bits and are 32 too large; the two high ones of four factors share a byte.
    /// With both set a factor is 16...31, with neither -32...-17.
    private func setSignedFactors(_ highBits: UnsafeMutableRawPointer, bytes: Int) {
        forEachByte(highBits, bytes) { byte in
            let signs = byte & 0xAA
            return signs | signs >> 1
        }
    }

    /// Q4_K's and Q5_K's eight factors and eight minima of 6 bits: 32...63, each minimum its factor but for the lowest two bits.
    private func setFactorsAndMinima(_ scales: UnsafeMutableRawPointer) {
        var factors = (UInt64(0), UInt64(0))
        for s in 0..<4 {
            let first = UInt64(scales.load(fromByteOffset: s, as: UInt8.self))
            let second = UInt64(scales.load(fromByteOffset: 4 + s, as: UInt8.self))
            let third = UInt64(scales.load(fromByteOffset: 8 + s, as: UInt8.self))
            let low = first & 31 | 32, lowMinimum = low & 60 | second & 3
            let high = third & 31 | 32, highMinimum = high & 60 | second >> 2 & 3
            factors.0 |= (low | (high >> 4) << 6) << UInt64(8 * s)
            factors.0 |= (lowMinimum | (highMinimum >> 4) << 6) << UInt64(8 * s + 32)
            factors.1 |= (high & 15 | (highMinimum & 15) << 4) << UInt64(8 * s)
        }
        for byte in 0..<8 { scales.storeBytes(of: UInt8(truncatingIfNeeded: factors.0 >> UInt64(8 * byte)), toByteOffset: byte, as: UInt8.self) }
        for byte in 0..<4 { scales.storeBytes(of: UInt8(truncatingIfNeeded: factors.1 >> UInt64(8 * byte)), toByteOffset: 8 + byte, as: UInt8.self) }
    }

    private func forEachByte(_ start: UnsafeMutableRawPointer, _ count: Int, _ change: (UInt8) -> UInt8) {
        for index in 0..<count { start.storeBytes(of: change(start.load(fromByteOffset: index, as: UInt8.self)), toByteOffset: index, as: UInt8.self) }
    }

    // MARK: Float types

    /// 4096 draws of a sum of twelve uniform numbers, which is near a normal distribution; every type has the same draws.
    private static func values(_ type: TensorType, deviation: Float, mean: Float) -> [UInt32] {
        var random = SyntheticRandom(seed: 12)
        return (0..<valueChoices).map { _ in
            let sum = (0..<12).reduce(Float(-6)) { partial, _ in partial + Float(random.next() >> 40) * 0x1p-24 }
            let value = mean + deviation * sum
            return switch type {
            case .f16: UInt32(Float16(value).bitPattern)
            case .bf16: value.bitPattern >> 16
            default: value.bitPattern
            }
        }
    }

    private func fillFloats(_ base: UnsafeMutableRawPointer, count: Int, _ random: inout SyntheticRandom) {
        values.withUnsafeBufferPointer { values in
            for first in stride(from: 0, to: count, by: 4) {
                var bits = random.next()
                for index in first..<min(first + 4, count) {
                    let value = values[Int(bits >> 52)]
                    bits <<= 12
                    if type == .f32 {
                        base.storeBytes(of: value.littleEndian, toByteOffset: 4 * index, as: UInt32.self)
                    } else {
                        base.storeBytes(of: UInt16(truncatingIfNeeded: value).littleEndian, toByteOffset: 2 * index, as: UInt16.self)
                    }
                }
            }
        }
    }
}

/// SplitMix64: one multiplication chain a number, any seed, and the same numbers everywhere.
struct SyntheticRandom {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        return Self.mixed(state)
    }

    static func mixed(_ number: UInt64) -> UInt64 {
        var z = number
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// Little-endian numbers end to end; a last one is cut.
    mutating func fill(_ bytes: UnsafeMutableRawBufferPointer) {
        guard let base = bytes.baseAddress else { return }
        let words = bytes.count / 8
        for word in 0..<words { base.storeBytes(of: next().littleEndian, toByteOffset: 8 * word, as: UInt64.self) }
        var last = next()
        for index in (8 * words)..<bytes.count {
            base.storeBytes(of: UInt8(truncatingIfNeeded: last), toByteOffset: index, as: UInt8.self)
            last >>= 8
        }
    }
}
