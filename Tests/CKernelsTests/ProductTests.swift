import CKernels
import Testing

@Suite struct ProductTests {
    /// Rows are no multiple of 16 or 64, columns are few, many, or leave a short float block.
    static let shapes: [(rows: Int, columns: Int)] = [(1, 32), (15, 64), (17, 96), (70, 288), (133, 544), (64, 256), (20, 1120)]

    @Test(arguments: FileMatrix.types, Variant.available)
    func followsTheTableOfTheHeader(type: sk_type, variant: Variant) {
        var generator = SeededGenerator(seed: 11)
        for (rows, columns) in [(1, 32), (19, 96), (35, 320)] {
            for hostile in [false, true] {
                let file = FileMatrix(type: type, rows: rows, columns: columns, hostileScales: hostile, using: &generator)
                let x = (0..<5).map { _ in hostile ? generator.hostile(columns) : generator.ordinary(columns) }
                let out = variant.multiply(file, file.packed(), x)
                let expected = x.flatMap { column in (0..<rows).map { file.contractProduct(row: $0, with: column) } }
                #expect(bits(out) == bits(expected), "\(rows)x\(columns) hostile: \(hostile)")
            }
        }
    }

    @Test(arguments: FileMatrix.types, Variant.faster)
    func equalsPlainCInEveryBit(type: sk_type, variant: Variant) {
        var generator = SeededGenerator(seed: 12)
        for (rows, columns) in Self.shapes {
            let hostile = Bool.random(using: &generator)
            let file = FileMatrix(type: type, rows: rows, columns: columns, hostileScales: hostile, using: &generator)
            let packed = file.packed()
            let x = (0..<9).map { _ in hostile ? generator.hostile(columns) : generator.ordinary(columns) }
            let expected = bits(Variant.plain.multiply(file, packed, x))
            #expect(bits(variant.multiply(file, packed, x)) == expected, "\(rows)x\(columns) hostile: \(hostile)")
        }
    }

    /// Every byte of a block may be anything: scales that are infinite, NaN, subnormal or of either sign.
    @Test(arguments: FileMatrix.types, Variant.faster)
    func equalsPlainCOnRandomBytes(type: sk_type, variant: Variant) {
        var generator = SeededGenerator(seed: 20)
        for (batch, (rows, columns)) in zip([1, 2, 5, 16, 17, 33], [(33, 96), (17, 64), (70, 160), (16, 32), (40, 96), (21, 64)]) {
            let bytes = (0..<rows * Int(sk_type_row_bytes(type, Int32(columns)))).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
            let file = FileMatrix(type: type, rows: rows, columns: columns, bytes: bytes)
            let packed = file.packed(), x = (0..<batch).map { _ in generator.hostile(columns) }
            #expect(bits(variant.multiply(file, packed, x)) == bits(Variant.plain.multiply(file, packed, x)), "\(rows)x\(columns)")
        }
    }

    /// A row too long for one panel of activations is multiplied in parts, whose sums must go on where the last part ended.
    @Test(arguments: [SK_TYPE_Q4_0, SK_TYPE_Q5_1, SK_TYPE_Q8_0], Variant.faster)
    func longRowsEqualPlainC(type: sk_type, variant: Variant) {
        var generator = SeededGenerator(seed: 23)
        let rows = 18, columns = 18_976
        let file = FileMatrix(type: type, rows: rows, columns: columns, using: &generator)
        let packed = file.packed(), x = (0..<33).map { _ in generator.ordinary(columns) }
        #expect(bits(variant.multiply(file, packed, x)) == bits(Variant.plain.multiply(file, packed, x)))
    }

    @Test(arguments: FileMatrix.types, Variant.available)
    func aColumnDoesNotDependOnItsNeighbours(type: sk_type, variant: Variant) {
        var generator = SeededGenerator(seed: 13)
        let rows = 83, columns = 160
        let file = FileMatrix(type: type, rows: rows, columns: columns, using: &generator)
        let packed = file.packed()
        let x = (0..<128).map { _ in generator.ordinary(columns) }
        let alone = x.map { bits(variant.multiply(file, packed, [$0])) }
        for batch in Array(2...33) + [128] {
            let together = bits(variant.multiply(file, packed, Array(x[0..<batch])))
            #expect(together == Array(alone[0..<batch].joined()), "\(batch) columns")
        }
    }

    @Test(arguments: FileMatrix.types)
    func threadsChangeNothing(type: sk_type) throws {
        var generator = SeededGenerator(seed: 14)
        for (rows, columns) in [(5, 64), (133, 96), (600, 64)] {
            let file = FileMatrix(type: type, rows: rows, columns: columns, using: &generator)
            let packed = file.packed()
            let x = (0..<3).map { _ in generator.ordinary(columns) }
            for variant in Variant.available {
                let expected = bits(variant.multiply(file, packed, x))
                for threads in 1...4 {
                    let pool = try #require(sk_pool_create(Int32(threads), nil))
                    defer { sk_pool_destroy(pool) }
                    #expect(bits(variant.multiply(file, packed, x, pool: pool)) == expected, "\(variant) \(threads) threads")
                }
            }
        }
    }

    @Test func severalProductsInOneRunEqualEachAlone() throws {
        var generator = SeededGenerator(seed: 15)
        let columns = 128, x = [generator.ordinary(columns), generator.ordinary(columns)]
        let files = [(SK_TYPE_Q4_0, 96), (SK_TYPE_Q8_0, 33), (SK_TYPE_Q4_1, 7)].map {
            FileMatrix(type: $0.0, rows: $0.1, columns: columns, using: &generator)
        }
        let packed = files.map { $0.packed() }
        let pool = try #require(sk_pool_create(3, nil))
        defer { sk_pool_destroy(pool) }
        for variant in Variant.available {
            let activations = variant.quantise(x, SK_ACTIVATION_Q8_32)
            let outs = files.map { Aligned<Float>(x.count * $0.rows) }
            let products = files.indices.map {
                sk_product(matrix: files[$0].matrix(packed[$0]), activations: activations.pointer, out: outs[$0].pointer, ldo: files[$0].rows)
            }
            sk_matmul(variant.kernels, pool, products, Int32(products.count), Int32(x.count))
            for i in files.indices { #expect(bits(outs[i].values) == bits(variant.multiply(files[i], packed[i], x))) }
        }
    }

    /// A wrong formula that all instruction sets share would pass the tests above, but not this: the plain sum in double, within
    /// what rounding activations to 8 bits and 24-bit sums can cost.
    @Test(arguments: FileMatrix.types)
    func liesWithinRoundingOfTheRealProduct(type: sk_type) {
        var generator = SeededGenerator(seed: 16)
        let rows = 24, columns = 1024
        let file = FileMatrix(type: type, rows: rows, columns: columns, using: &generator)
        let x = generator.ordinary(columns)
        let out = Variant.portable.multiply(file, file.packed(), [x])
        for row in 0..<rows {
            var exact = 0.0, bound = 0.0
            for k in 0..<columns {
                let w = Double(file.value(row: row, column: k)), v = Double(x[k])
                exact += w * v
                bound += abs(w * v) * 1e-5
                if file.activationKind == SK_ACTIVATION_Q8_32 {
                    let largest = x[k / 32 * 32..<k / 32 * 32 + 32].map { abs($0) }.max()!
                    bound += abs(w) * Double(largest) / 127 / 2
                }
            }
            #expect(abs(Double(out[row]) - exact) <= bound, "row \(row)")
            if file.activationKind == SK_ACTIVATION_F32 { #expect(abs(Double(out[row]) - exact) < 1e-3) }
        }
    }

    @Test(arguments: FileMatrix.types, Variant.available)
    func whatIsNotFiniteReachesEveryOutput(type: sk_type, variant: Variant) {
        var generator = SeededGenerator(seed: 17)
        let file = FileMatrix(type: type, rows: 21, columns: 96, using: &generator)
        for bad in [Float.nan, .infinity, -.infinity] {
            var x = generator.ordinary(96)
            x[40] = bad
            let out = variant.multiply(file, file.packed(), [generator.ordinary(96), x])
            #expect(out[0..<21].allSatisfy { $0.isFinite })
            #expect(out[21...].allSatisfy { !$0.isFinite })
        }
    }

    @Test(arguments: FileMatrix.types)
    func aPackedRowIsTheFilesRow(type: sk_type) {
        var generator = SeededGenerator(seed: 18)
        let file = FileMatrix(type: type, rows: 37, columns: 96, hostileScales: true, using: &generator)
        let packed = file.packed()
        var matrix = file.matrix(packed)
        for row in 0..<file.rows {
            var out = [Float](repeating: 0, count: file.columns)
            sk_packed_row_to_f32(&matrix, Int32(row), &out)
            #expect(bits(out) == bits((0..<file.columns).map { file.value(row: row, column: $0) }))
        }
    }

    @Test(arguments: FileMatrix.types)
    func packingInPartsEqualsPackingAtOnce(type: sk_type) {
        var generator = SeededGenerator(seed: 19)
        let file = FileMatrix(type: type, rows: 53, columns: 64, using: &generator)
        let whole = file.packed(), parts = Aligned<UInt8>(whole.count)
        let rowBytes = sk_type_row_bytes(type, 64)
        #expect(whole.count == 64 * rowBytes)
        for (first, count) in [(0, 16), (16, 32), (48, 5)] {
            file.bytes.withUnsafeBytes {
                sk_pack_rows(type, $0.baseAddress! + first * rowBytes, Int32(count), 64, parts.pointer + sk_packed_offset(type, Int32(first), 64))
            }
        }
        #expect(parts.values == whole.values)
    }
}

extension sk_type: @retroactive CustomTestStringConvertible {
    public var testDescription: String {
        switch self {
        case SK_TYPE_F32: "F32"
        case SK_TYPE_F16: "F16"
        case SK_TYPE_BF16: "BF16"
        case SK_TYPE_Q4_0: "Q4_0"
        case SK_TYPE_Q4_1: "Q4_1"
        case SK_TYPE_Q5_0: "Q5_0"
        case SK_TYPE_Q5_1: "Q5_1"
        case SK_TYPE_Q8_0: "Q8_0"
        case SK_TYPE_Q2_K: "Q2_K"
        case SK_TYPE_Q3_K: "Q3_K"
        case SK_TYPE_Q4_K: "Q4_K"
        case SK_TYPE_Q5_K: "Q5_K"
        case SK_TYPE_Q6_K: "Q6_K"
        case SK_TYPE_IQ4_XS: "IQ4_XS"
        case SK_TYPE_IQ4_NL: "IQ4_NL"
        default: "type \(rawValue)"
        }
    }
}
