import CKernels
import Testing

/// Products of the types with 256-column blocks.
@Suite struct SuperProductTests {
    @Test(arguments: SuperMatrix.types, Variant.available)
    func followsTheTableOfTheHeader(type: sk_type, variant: Variant) {
        var generator = SeededGenerator(seed: 81)
        for (rows, columns, batch) in [(1, 256, 1), (19, 768, 3), (35, 512, 43)] {
            for content in SuperMatrix.Content.allCases {
                let file = SuperMatrix(type: type, rows: rows, columns: columns, content: content, using: &generator)
                var x = (0..<batch).map { content == .ordinary || $0 % 2 == 0 ? generator.ordinary(columns) : generator.hostile(columns) }
                // All at full scale, all of one sign: the largest integers there can be.
                if content == .extremes { x[0] = (0..<columns).map { _ in -3 } }
                let out = variant.multiply(file, file.packed(), x)
                let expected = x.map(QuantisedSuperBlock.row).flatMap { a in (0..<rows).map { file.contractProduct(row: $0, with: a) } }
                #expect(bits(out) == bits(expected), "\(rows)x\(columns), \(batch) columns, \(content)")
            }
        }
    }

    @Test(arguments: SuperMatrix.types, Variant.faster)
    func equalsPlainCInEveryBit(type: sk_type, variant: Variant) {
        var generator = SeededGenerator(seed: 82)
        for (rows, columns, batches) in [(15, 256, [1, 2, 3, 4, 5, 6, 7]), (33, 1280, [8, 9, 16, 17]), (17, 2048, [1, 31]), (20, 512, [70])] {
            for content in SuperMatrix.Content.allCases {
                let file = SuperMatrix(type: type, rows: rows, columns: columns, content: content, using: &generator)
                let packed = file.packed()
                for batch in batches {
                    let x = (0..<batch).map { $0 % 3 == 1 ? generator.hostile(columns) : generator.ordinary(columns) }
                    let expected = bits(Variant.plain.multiply(file, packed, x))
                    #expect(bits(variant.multiply(file, packed, x)) == expected, "\(rows)x\(columns), \(batch) columns, \(content)")
                }
            }
        }
    }

    @Test(arguments: SuperMatrix.types, Variant.available)
    func aColumnDoesNotDependOnItsNeighbours(type: sk_type, variant: Variant) {
        var generator = SeededGenerator(seed: 83)
        let rows = 37, columns = 512
        let file = SuperMatrix(type: type, rows: rows, columns: columns, using: &generator)
        let packed = file.packed()
        let x = (0..<131).map { _ in generator.ordinary(columns) }
        let alone = x.map { bits(variant.multiply(file, packed, [$0])) }
        for batch in Array(2...33) + [64, 65, 131] {
            let together = bits(variant.multiply(file, packed, Array(x[0..<batch])))
            #expect(together == Array(alone[0..<batch].joined()), "\(batch) columns")
        }
    }

    @Test(arguments: SuperMatrix.types)
    func threadsChangeNothing(type: sk_type) throws {
        var generator = SeededGenerator(seed: 84)
        for (rows, batch) in [(5, 1), (133, 3), (300, 20)] {
            let file = SuperMatrix(type: type, rows: rows, columns: 256, using: &generator)
            let packed = file.packed()
            let x = (0..<batch).map { _ in generator.ordinary(256) }
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

    /// A wrong formula that all share would pass the tests above, but not this: the plain sum in double over the values that `dequant.c`
    /// gives, within what rounding activations to 8 bits (half a step, M / 254 each) and a few float roundings can cost.
    @Test(arguments: SuperMatrix.types)
    func liesWithinRoundingOfTheRealProduct(type: sk_type) {
        var generator = SeededGenerator(seed: 85)
        let rows = 21, columns = 1024
        let file = SuperMatrix(type: type, rows: rows, columns: columns, using: &generator)
        let x = generator.ordinary(columns), out = Variant.plain.multiply(file, file.packed(), [x])
        for row in 0..<rows {
            let w = dequantised(file, row: row)
            var exact = 0.0, bound = 1e-5
            for b in 0..<columns / 256 {
                let step = Double(x[b * 256..<b * 256 + 256].map { abs($0) }.max()!) / 254
                for k in b * 256..<b * 256 + 256 {
                    exact += Double(w[k]) * Double(x[k])
                    bound += abs(Double(w[k])) * (step * 1.001 + abs(Double(x[k])) * 1e-6)
                }
            }
            #expect(abs(Double(out[row]) - exact) <= bound, "row \(row)")
        }
    }

    @Test(arguments: SuperMatrix.types, Variant.available)
    func whatIsNotFiniteReachesEveryOutput(type: sk_type, variant: Variant) {
        var generator = SeededGenerator(seed: 86)
        let file = SuperMatrix(type: type, rows: 21, columns: 768, using: &generator)
        for bad in [Float.nan, .infinity, -.infinity] {
            var x = generator.ordinary(768)
            x[700] = bad
            let out = variant.multiply(file, file.packed(), [generator.ordinary(768), x])
            #expect(out[0..<21].allSatisfy { $0.isFinite })
            #expect(out[21...].allSatisfy { $0.isNaN })
        }
    }

    private func dequantised(_ file: SuperMatrix, row: Int) -> [Float] {
        let rowBytes = sk_type_row_bytes(file.type, Int32(file.columns))
        var out = [Float](repeating: 0, count: file.columns)
        file.bytes.withUnsafeBytes {
            #expect(sk_dequantize_row(Int32(file.type.rawValue), $0.baseAddress! + row * rowBytes, &out, file.columns) == 0)
        }
        return out
    }

    @Test(arguments: SuperMatrix.types, SuperMatrix.Content.allCases)
    func aPackedRowIsTheFilesRow(type: sk_type, content: SuperMatrix.Content) {
        var generator = SeededGenerator(seed: 87)
        let file = SuperMatrix(type: type, rows: 37, columns: 768, content: content, using: &generator)
        let packed = file.packed()
        var matrix = file.matrix(packed)
        for row in 0..<file.rows {
            var out = [Float](repeating: 0, count: file.columns)
            sk_packed_row_to_f32(&matrix, Int32(row), &out)
            #expect(bits(out) == bits(dequantised(file, row: row)), "row \(row)")
        }
    }

    @Test(arguments: SuperMatrix.types)
    func packingInPartsEqualsPackingAtOnce(type: sk_type) {
        var generator = SeededGenerator(seed: 88)
        let file = SuperMatrix(type: type, rows: 53, columns: 512, content: .anything, using: &generator)
        let whole = file.packed(), parts = Aligned<UInt8>(whole.count), rowBytes = sk_type_row_bytes(type, 512)
        #expect(whole.count == 64 * rowBytes, "nothing is added but rows")
        #expect(rowBytes == file.bytes.count / 53 && sk_type_block(type) == 256 && sk_type_activation(type) == SK_ACTIVATION_Q8_256)
        for (first, count) in [(0, 16), (16, 32), (48, 5)] {
            file.bytes.withUnsafeBytes {
                sk_pack_rows(type, $0.baseAddress! + first * rowBytes, Int32(count), 512, parts.pointer + sk_packed_offset(type, Int32(first), 512))
            }
        }
        #expect(parts.values == whole.values)
    }
}

/// Equality among instruction sets would not see all of them change at once: these digests, recorded from equal runs, would. A change here
/// changes the tokens that requests get.
@Suite struct SuperPinnedBitsTests {
    static let recorded: [(type: sk_type, digest: UInt64)] = [
        (SK_TYPE_Q2_K, 0xf10bd0aa2fbd5944),
        (SK_TYPE_Q3_K, 0x852610c3d0cab8b6),
        (SK_TYPE_Q4_K, 0xe00990ef324225ea),
        (SK_TYPE_Q5_K, 0xffa9c29a46d123f3),
        (SK_TYPE_Q6_K, 0xf2352817855a5f73),
        (SK_TYPE_IQ4_XS, 0x1f5ec972c1e4141d),
    ]

    @Test(arguments: recorded.indices, Variant.available)
    func products(index: Int, variant: Variant) {
        let (type, digest) = Self.recorded[index], rows = 20, columns = 512, batch = 18
        let layout = SuperMatrix.layout(type)
        var bytes = (0..<rows * columns / 256 * layout.bytes).map { UInt8(truncatingIfNeeded: (UInt32($0) &* 2_654_435_761) >> 13) }
        for block in stride(from: 0, to: bytes.count, by: layout.bytes) {
            for half in [layout.d, layout.dmin].compactMap({ $0 }) { bytes[block + half + 1] = bytes[block + half + 1] & 0x83 | 0x24 }
        }
        let file = SuperMatrix(type: type, rows: rows, columns: columns, bytes: bytes)
        let x = (0..<batch).map { c in (0..<columns).map { Float((c * columns + $0) * 7919 % 2001 - 1000) / 64 } }
        let out = variant.multiply(file, file.packed(), x)
        #expect(out.allSatisfy { $0.isFinite })
        #expect(PinnedBitsTests.digest(out) == digest)
    }
}

@Suite struct SuperQuantiseTests {
    /// Reads a row back through the public product: Q6_K weights that are 1 in one place and 0 elsewhere return s * a.
    @Test(arguments: Variant.available)
    func followsTheContract(variant: Variant) {
        var generator = SeededGenerator(seed: 91)
        let columns = 512
        // The largest of a block is 127, so the factor is 1 and the halves stay halves.
        var ties = (0..<columns).map { Float($0 % 20) - 9.5 }
        ties[7] = 127
        ties[300] = -127
        var edge = Array(repeating: Float(0), count: columns)  // just below and at the smallest magnitude that counts
        edge[3] = -Float(sign: .plus, exponent: -100, significand: 1).nextDown
        edge[259] = Float(sign: .plus, exponent: -100, significand: 1)
        let rows = [ties, edge, generator.ordinary(columns), generator.hostile(columns), Array(repeating: -0.0, count: columns),
                    Array(repeating: .greatestFiniteMagnitude, count: columns), Array(repeating: -.leastNonzeroMagnitude, count: columns)]
        let one = (0..<columns).flatMap { row in
            (0..<columns / 256).flatMap { b in
                var block = [UInt8](repeating: 0, count: 128) + [UInt8](repeating: 0b10101010, count: 64)
                block += [UInt8](repeating: 1, count: 16) + [0, 0x3c]
                let e = row - b * 256  // q = 32 means 0; one element gets 33
                if (0..<256).contains(e) { block[e / 128 * 64 + e % 64] |= e % 128 < 64 ? 1 : 16 }
                return block
            }
        }
        let file = SuperMatrix(type: SK_TYPE_Q6_K, rows: columns, columns: columns, bytes: one)
        let out = variant.multiply(file, file.packed(), rows)
        for (r, row) in rows.enumerated() {
            let blocks = QuantisedSuperBlock.row(row)
            let expected = (0..<columns).map { Float(0).addingProduct(blocks[$0 / 256].scale, Float(blocks[$0 / 256].q[$0 % 256])) }
            #expect(out[r * columns..<(r + 1) * columns].elementsEqual(expected), "row \(r)")
        }
        #expect(QuantisedSuperBlock(ties[0..<256]).q[0] == -10 && QuantisedSuperBlock(ties[0..<256]).q[1] == -8, "halves go to even")
    }

    @Test(arguments: Variant.faster)
    func equalsPlainCInEveryByte(variant: Variant) {
        var generator = SeededGenerator(seed: 92)
        for columns in [256, 768, 2560] {
            var rows = (0..<6).map { $0 % 2 == 0 ? generator.ordinary(columns) : generator.hostile(columns) }
            rows[1][columns / 2] = -.infinity
            let size = sk_activation_bytes(SK_ACTIVATION_Q8_256, Int32(columns))
            #expect(size % SK_ALIGNMENT == 0)
            let plain = Variant.plain.quantise(rows, SK_ACTIVATION_Q8_256).values, out = variant.quantise(rows, SK_ACTIVATION_Q8_256).values
            for r in rows.indices where r != 1 { #expect(out[r * size..<(r + 1) * size] == plain[r * size..<(r + 1) * size]) }
            // The row that is not finite holds NaN, whose payload is open; its values are equal.
            #expect(out[size..<size + columns] == plain[size..<size + columns])
        }
    }
}
