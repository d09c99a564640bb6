import CKernels
import Testing

/// A matrix as a GGUF file holds it, the values it stands for, and the contract's product evaluated one number at a time:
/// a second, independent reading of the header's table.
struct FileMatrix {
    let type: sk_type
    let rows: Int
    let columns: Int
    let bytes: [UInt8]

    static let types: [sk_type] = [
        SK_TYPE_Q4_0, SK_TYPE_Q4_1, SK_TYPE_Q5_0, SK_TYPE_Q5_1, SK_TYPE_Q8_0, SK_TYPE_IQ4_NL, SK_TYPE_F32, SK_TYPE_F16, SK_TYPE_BF16,
    ]

    /// Formats with a minimum beside the scale.
    var hasMinimum: Bool { type == SK_TYPE_Q4_1 || type == SK_TYPE_Q5_1 }

    /// What the codes of IQ4_NL stand for.
    static let iq4Values = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]

    init(type: sk_type, rows: Int, columns: Int, bytes: [UInt8]) {
        self.type = type
        self.rows = rows
        self.columns = columns
        self.bytes = bytes
    }

    /// Random bits everywhere; scales and floats are kept finite unless `hostileScales`, which also allows f16 subnormals and extremes.
    init(type: sk_type, rows: Int, columns: Int, hostileScales: Bool = false, using generator: inout SeededGenerator) {
        self.type = type
        self.rows = rows
        self.columns = columns
        var bytes = [UInt8]()
        func half() -> UInt16 {
            let hostile: [UInt16] = [0, 0x8000, 1, 0x8001, 0x03ff, 0x0400, 0x7bff, 0xfbff, 0x3c00]
            if hostileScales && Bool.random(using: &generator) { return hostile.randomElement(using: &generator)! }
            return UInt16(truncatingIfNeeded: generator.next() & 0x83ff) | 0x2400
        }
        for _ in 0..<rows * columns / Int(sk_type_block(type)) {
            switch type {
            case SK_TYPE_F32:
                let value = hostileScales ? generator.hostile(1)[0] : Float.random(in: -1...1, using: &generator)
                withUnsafeBytes(of: value.bitPattern.littleEndian) { bytes += Array($0) }
            case SK_TYPE_F16:
                withUnsafeBytes(of: half()) { bytes += Array($0) }
            case SK_TYPE_BF16:
                let value = hostileScales ? generator.hostile(1)[0] : Float.random(in: -1...1, using: &generator)
                withUnsafeBytes(of: UInt16(truncatingIfNeeded: value.bitPattern >> 16)) { bytes += Array($0) }
            default:
                let heads = type == SK_TYPE_Q4_1 || type == SK_TYPE_Q5_1 ? 2 : 1
                for _ in 0..<heads { withUnsafeBytes(of: half()) { bytes += Array($0) } }
                let count = Int(sk_type_row_bytes(type, 32)) - 2 * heads
                let extreme = Int.random(in: 0..<4, using: &generator) == 0  // all weights at one end: the worst sums
                let end: UInt8 = (type == SK_TYPE_Q8_0 ? [0x80, 0x7f] : [0, 0xff]).randomElement(using: &generator)!
                for _ in 0..<count { bytes.append(extreme ? end : UInt8(truncatingIfNeeded: generator.next())) }
            }
        }
        self.bytes = bytes
    }

    var activationKind: sk_activation_kind { sk_type_activation(type) }

    func packed() -> Aligned<UInt8> {
        let out = Aligned<UInt8>(sk_packed_bytes(type, Int32(rows), Int32(columns)))
        bytes.withUnsafeBytes { sk_pack_rows(type, $0.baseAddress!, Int32(rows), Int32(columns), out.pointer) }
        return out
    }

    func matrix(_ packed: Aligned<UInt8>) -> sk_matrix {
        sk_matrix(type: type, rows: Int32(rows), columns: Int32(columns), packed: packed.pointer)
    }

    private func half(at offset: Int) -> Float { Float(Float16(bitPattern: UInt16(bytes[offset]) | UInt16(bytes[offset + 1]) << 8)) }

    /// One block: scale, minimum and integers of 32 columns, as the file has them.
    struct Block {
        var d: Float
        var m: Float
        var q: [Int]
    }

    func block(row: Int, _ b: Int) -> Block {
        let rowBytes = sk_type_row_bytes(type, Int32(columns)), start = row * rowBytes + b * (rowBytes / (columns / 32))
        let d = half(at: start)
        switch type {
        case SK_TYPE_Q8_0:
            return Block(d: d, m: 0, q: (0..<32).map { Int(Int8(bitPattern: bytes[start + 2 + $0])) })
        default:
            let fiveBits = type == SK_TYPE_Q5_0 || type == SK_TYPE_Q5_1
            let fifth = start + (hasMinimum ? 4 : 2), first = fifth + (fiveBits ? 4 : 0)
            let codes = (0..<32).map { i in
                let nibble = Int(i < 16 ? bytes[first + i] & 15 : bytes[first + i - 16] >> 4)
                return fiveBits ? nibble | Int(bytes[fifth + i / 8] >> UInt8(i % 8) & 1) << 4 : nibble
            }
            switch type {
            case SK_TYPE_Q4_0: return Block(d: d, m: 0, q: codes.map { $0 - 8 })
            case SK_TYPE_Q5_0: return Block(d: d, m: 0, q: codes.map { $0 - 16 })
            case SK_TYPE_IQ4_NL: return Block(d: d, m: 0, q: codes.map { Self.iq4Values[$0] })
            default: return Block(d: d, m: half(at: start + 2), q: codes)
            }
        }
    }

    func value(row: Int, column: Int) -> Float {
        let index = row * columns + column
        switch type {
        case SK_TYPE_F32:
            return Float(bitPattern: (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[4 * index + $1]) << (8 * UInt32($1)) })
        case SK_TYPE_F16: return half(at: 2 * index)
        case SK_TYPE_BF16: return Float(bitPattern: (UInt32(bytes[2 * index]) | UInt32(bytes[2 * index + 1]) << 8) << 16)
        default:
            let block = block(row: row, column / 32)
            let product = block.d * Float(block.q[column % 32])
            return hasMinimum ? product + block.m : product
        }
    }

    /// What the contract says of one output.
    func contractProduct(row: Int, with x: [Float]) -> Float {
        var acc: Float = 0
        if activationKind == SK_ACTIVATION_F32 {
            for start in stride(from: 0, to: columns, by: 256) {
                var block: Float = 0
                for k in start..<min(start + 256, columns) { block = block.addingProduct(value(row: row, column: k), x[k]) }
                acc = acc + block
            }
            return acc
        }
        for b in 0..<columns / 32 {
            let a = QuantisedBlock(x[b * 32..<b * 32 + 32]), w = block(row: row, b)
            let dot = zip(w.q, a.q).reduce(0) { $0 + $1.0 * $1.1 }
            acc = acc.addingProduct(w.d * a.scale, Float(dot))
            if hasMinimum { acc = acc.addingProduct(w.m, a.scaledSum) }
        }
        return acc
    }
}

/// 32 activations as the contract quantises them.
struct QuantisedBlock {
    var scale: Float
    var q: [Int]
    var scaledSum: Float

    init(_ x: ArraySlice<Float>) {
        let largest = x.map { abs($0) }.max()!
        guard x.allSatisfy({ $0.isFinite }) else {
            self = .init(scale: .nan, q: Array(repeating: 0, count: 32))
            return
        }
        guard largest >= Float(sign: .plus, exponent: -100, significand: 1) else {
            self = .init(scale: 0, q: Array(repeating: 0, count: 32))
            return
        }
        let factor = 127 / largest
        self = .init(scale: largest / 127, q: x.map { Int(($0 * factor).rounded(.toNearestOrEven)) })
    }

    private init(scale: Float, q: [Int]) {
        self.scale = scale
        self.q = q
        scaledSum = scale * Float(q.reduce(0, +))
    }
}

extension Variant {
    /// x: [batch][columns] → [batch][columns of activations] as the type wants them.
    func quantise(_ x: [[Float]], _ kind: sk_activation_kind) -> Aligned<UInt8> {
        let columns = x[0].count, flat = x.flatMap { $0 }
        let out = Aligned<UInt8>(x.count * sk_activation_bytes(kind, Int32(columns)))
        sk_quantise(kernels, nil, kind, flat, columns, Int32(x.count), Int32(columns), out.pointer)
        return out
    }

    /// out: [batch][rows], computed as one product.
    func multiply(_ file: FileMatrix, _ packed: Aligned<UInt8>, _ x: [[Float]], pool: OpaquePointer? = nil) -> [Float] {
        let activations = quantise(x, file.activationKind), ldo = file.rows + 3
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
