import CKernels

/// A matrix of 256-column blocks as a GGUF file holds it, and the contract's product evaluated one number at a time: a second, independent
/// reading of the file formats and of the header's table.
struct SuperMatrix {
    let type: sk_type
    let rows: Int
    let columns: Int
    let bytes: [UInt8]

    static let types: [sk_type] = [SK_TYPE_Q4_K, SK_TYPE_Q5_K, SK_TYPE_Q6_K, SK_TYPE_Q2_K, SK_TYPE_Q3_K, SK_TYPE_IQ4_XS]

    enum Content: CaseIterable {
        /// Random bits, scales of ordinary size.
        case ordinary
        /// Random bits everywhere: subnormal, huge, infinite and NaN scales among them.
        case anything
        /// All bits set or none, or only the sign bit: the ends of every integer's range.
        case extremes
    }

    /// Bytes of a block, and where its f16 scales lie.
    static func layout(_ type: sk_type) -> (bytes: Int, d: Int, dmin: Int?) {
        switch type {
        case SK_TYPE_Q2_K: (84, 80, 82)
        case SK_TYPE_Q3_K: (110, 108, nil)
        case SK_TYPE_Q4_K: (144, 0, 2)
        case SK_TYPE_Q5_K: (176, 0, 2)
        case SK_TYPE_Q6_K: (210, 208, nil)
        default: (136, 0, nil)
        }
    }

    init(type: sk_type, rows: Int, columns: Int, content: Content = .ordinary, using generator: inout SeededGenerator) {
        let layout = Self.layout(type)
        var bytes = [UInt8]()
        for _ in 0..<rows * columns / 256 {
            let end: UInt8 = [0, 0xff, 0x80, 0x7f].randomElement(using: &generator)!
            var block = (0..<layout.bytes).map { _ in content == .extremes ? end : UInt8(truncatingIfNeeded: generator.next()) }
            if content != .anything {
                for at in [layout.d, layout.dmin].compactMap({ $0 }) {
                    let half = UInt16(truncatingIfNeeded: generator.next() & 0x83ff) | 0x2400
                    block[at] = UInt8(half & 0xff)
                    block[at + 1] = UInt8(half >> 8)
                }
            }
            bytes += block
        }
        self.init(type: type, rows: rows, columns: columns, bytes: bytes)
    }

    init(type: sk_type, rows: Int, columns: Int, bytes: [UInt8]) {
        self.type = type
        self.rows = rows
        self.columns = columns
        self.bytes = bytes
    }

    func packed() -> Aligned<UInt8> {
        let out = Aligned<UInt8>(sk_packed_bytes(type, Int32(rows), Int32(columns)))
        bytes.withUnsafeBytes { sk_pack_rows(type, $0.baseAddress!, Int32(rows), Int32(columns), out.pointer) }
        return out
    }

    func matrix(_ packed: Aligned<UInt8>) -> sk_matrix {
        sk_matrix(type: type, rows: Int32(rows), columns: Int32(columns), packed: packed.pointer)
    }

    /// One block: w = d * scale * q - dmin * minimum, scales and minima for each of the 256 columns.
    struct Block {
        var d: Float
        var dmin: Float
        var q: [Int] = []
        var scale: [Int] = []
        var minimum: [Int] = []
    }

    func block(row: Int, _ b: Int) -> Block {
        let layout = Self.layout(type), start = (row * columns / 256 + b) * layout.bytes
        func byte(_ at: Int) -> Int { Int(bytes[start + at]) }
        func half(_ at: Int) -> Float { Float(Float16(bitPattern: UInt16(byte(at)) | UInt16(byte(at + 1)) << 8)) }
        var block = Block(d: half(layout.d), dmin: layout.dmin.map(half) ?? 0)
        for e in 0..<256 {
            let (q, scale, minimum) = Self.element(type, e, byte)
            block.q.append(q)
            block.scale.append(scale)
            block.minimum.append(minimum)
        }
        return block
    }

    /// Column `e` of a block, from the file format's description.
    private static func element(_ type: sk_type, _ e: Int, _ byte: (Int) -> Int) -> (q: Int, scale: Int, minimum: Int) {
        func twoBits(_ first: Int) -> Int { byte(first + e / 128 * 32 + e % 32) >> (e % 128 / 32 * 2) & 3 }
        func nibble(_ first: Int) -> Int { byte(first + e / 64 * 32 + e % 32) >> (e / 32 % 2 * 4) & 15 }
        switch type {
        case SK_TYPE_Q2_K: return (twoBits(16), byte(e / 16) & 15, byte(e / 16) >> 4)
        case SK_TYPE_Q3_K:
            let s = e / 16, low = s < 8 ? byte(96 + s) & 15 : byte(96 + s - 8) >> 4, high = byte(104 + s % 4) >> (s / 4 * 2) & 3
            return (twoBits(32) - (byte(e % 32) >> (e / 32) & 1 == 1 ? 0 : 4), (low | high << 4) - 32, 0)
        case SK_TYPE_Q4_K, SK_TYPE_Q5_K:
            let s = e / 32
            let scale = s < 4 ? byte(4 + s) & 63 : byte(8 + s) & 15 | (byte(s) >> 6) << 4
            let minimum = s < 4 ? byte(8 + s) & 63 : byte(8 + s) >> 4 | (byte(4 + s) >> 6) << 4
            if type == SK_TYPE_Q4_K { return (nibble(16), scale, minimum) }
            return (nibble(48) | (byte(16 + e % 32) >> s & 1) << 4, scale, minimum)
        case SK_TYPE_Q6_K:
            let low = byte(e / 128 * 64 + e % 64) >> (e % 128 / 64 * 4) & 15
            return ((low | twoBits(128) << 4) - 32, Int(Int8(bitPattern: UInt8(byte(192 + e / 16)))), 0)
        default:
            let values = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]
            let s = e / 32, low = byte(4 + s / 2) >> (s % 2 * 4) & 15, high = (byte(2) | byte(3) << 8) >> (2 * s) & 3
            return (values[byte(8 + 16 * s + e % 16) >> (e % 32 / 16 * 4) & 15], (low | high << 4) - 32, 0)
        }
    }

    private var hasMinima: Bool { Self.layout(type).dmin != nil }

    /// What the contract says of one output. `x`: quantised blocks of one row.
    func contractProduct(row: Int, with x: [QuantisedSuperBlock]) -> Float {
        var acc: Float = 0
        for b in 0..<columns / 256 {
            let w = block(row: row, b), a = x[b]
            var dot = 0, minima = 0
            for e in 0..<256 {
                dot += w.scale[e] * w.q[e] * a.q[e]
                minima -= w.minimum[e] * a.q[e]
            }
            precondition(abs(dot) <= Int(Int32.max) && abs(minima) <= Int(Int32.max), "the header's bounds are wrong")
            acc = acc.addingProduct(w.d * a.scale, Float(dot))
            if hasMinima { acc = acc.addingProduct(w.dmin * a.scale, Float(minima)) }
        }
        return acc
    }
}

/// 256 activations as the contract quantises them.
struct QuantisedSuperBlock {
    var scale: Float
    var q: [Int]

    init(_ x: ArraySlice<Float>) {
        let largest = x.map { abs($0) }.max()!
        if !x.allSatisfy({ $0.isFinite }) {
            (scale, q) = (.nan, Array(repeating: 0, count: 256))
        } else if largest < Float(sign: .plus, exponent: -100, significand: 1) {
            (scale, q) = (0, Array(repeating: 0, count: 256))
        } else {
            let factor = 127 / largest
            (scale, q) = (largest / 127, x.map { Int(($0 * factor).rounded(.toNearestOrEven)) })
        }
    }

    /// The blocks of a row.
    static func row(_ x: [Float]) -> [QuantisedSuperBlock] {
        stride(from: 0, to: x.count, by: 256).map { QuantisedSuperBlock(x[$0..<$0 + 256]) }
    }
}

extension Variant {
    /// out: [batch][rows], computed as one product.
    func multiply(_ file: SuperMatrix, _ packed: Aligned<UInt8>, _ x: [[Float]], pool: OpaquePointer? = nil) -> [Float] {
        let activations = quantise(x, SK_ACTIVATION_Q8_256), ldo = file.rows + 3
        let out = Aligned<Float>(x.count * ldo)
        var product = sk_product(matrix: file.matrix(packed), activations: activations.pointer, out: out.pointer, ldo: ldo)
        sk_matmul(kernels, pool, &product, 1, Int32(x.count))
        let untouched = Aligned<Float>(1).values[0].bitPattern
        for column in 0..<x.count {
            for gap in file.rows..<ldo { precondition(out.pointer[column * ldo + gap].bitPattern == untouched, "wrote past the rows") }
        }
        return (0..<x.count).flatMap { Array(UnsafeBufferPointer(start: out.pointer + $0 * ldo, count: file.rows)) }
    }
}
