import CKernels
import Testing

@Suite struct QuantiseTests {
    /// Reads a row back through the public product: weights that are 1 in one place and 0 elsewhere return s * a.
    @Test(arguments: Variant.available)
    func followsTheContract(variant: Variant) {
        var generator = SeededGenerator(seed: 21)
        let columns = 64
        // Ties: the largest is 127, so the factor is 1 and the halves stay halves.
        var ties = (0..<columns).map { Float($0 % 20) - 9.5 }
        ties[7] = 127
        ties[40] = -127
        let rows = [ties, generator.ordinary(columns), generator.hostile(columns), Array(repeating: 0, count: columns),
                    Array(repeating: 1e-35, count: columns)]
        // Q8_0 with scale 1: row r has weight 1 in column r.
        var bytes = [UInt8]()
        for row in 0..<columns {
            for b in 0..<columns / 32 {
                bytes += [0x00, 0x3c]
                for i in 0..<32 { bytes.append(b * 32 + i == row ? 1 : 0) }
            }
        }
        let packed = Aligned<UInt8>(sk_packed_bytes(SK_TYPE_Q8_0, Int32(columns), Int32(columns)))
        sk_pack_rows(SK_TYPE_Q8_0, bytes, Int32(columns), Int32(columns), packed.pointer)
        let activations = variant.quantise(rows, SK_ACTIVATION_Q8_32)
        let out = Aligned<Float>(rows.count * columns)
        var product = sk_product(
            matrix: sk_matrix(type: SK_TYPE_Q8_0, rows: Int32(columns), columns: Int32(columns), packed: packed.pointer),
            activations: activations.pointer, out: out.pointer, ldo: columns)
        sk_matmul(variant.kernels, nil, &product, 1, Int32(rows.count))
        for (r, row) in rows.enumerated() {
            for b in 0..<columns / 32 {
                let block = QuantisedBlock(row[b * 32..<b * 32 + 32])
                for i in 0..<32 {
                    let got = out.pointer[r * columns + b * 32 + i]
                    #expect(got == Float(0).addingProduct(block.scale, Float(block.q[i])), "row \(r) column \(b * 32 + i)")
                }
            }
        }
        #expect(QuantisedBlock(ties[0..<32]).q[0] == -10 && QuantisedBlock(ties[0..<32]).q[1] == -8, "halves go to even")
    }

    @Test(arguments: Variant.faster)
    func equalsPlainCInEveryByte(variant: Variant) {
        var generator = SeededGenerator(seed: 22)
        for columns in [32, 96, 576, 1536] {
            var rows = (0..<6).map { $0 % 2 == 0 ? generator.ordinary(columns) : generator.hostile(columns) }
            rows[1][columns / 2] = .infinity
            let bytes = sk_activation_bytes(SK_ACTIVATION_Q8_32, Int32(columns))
            #expect(bytes % SK_ALIGNMENT == 0)
            let plain = Variant.plain.quantise(rows, SK_ACTIVATION_Q8_32).values, out = variant.quantise(rows, SK_ACTIVATION_Q8_32).values
            for r in rows.indices where r != 1 { #expect(out[r * bytes..<(r + 1) * bytes] == plain[r * bytes..<(r + 1) * bytes]) }
            // The row that is not finite holds NaN, whose payload is open; everything else of it is equal.
            let values = bytes..<bytes + columns
            #expect(out[values] == plain[values])
        }
    }

    /// x - s a, rounded once, for both block sizes; against the same sum from what a product with single ones gives back.
    @Test(arguments: Variant.available, [SK_ACTIVATION_Q8_32, SK_ACTIVATION_Q8_256])
    func theRestIsWhatQuantisingLeavesOut(variant: Variant, kind: sk_activation_kind) {
        var generator = SeededGenerator(seed: 23)
        let columns = 1024, block = kind == SK_ACTIVATION_Q8_32 ? 32 : 256
        var rows = [generator.ordinary(columns), generator.hostile(columns), Array(repeating: 0, count: columns)]
        rows.append(generator.ordinary(columns))
        rows[3][5] = .nan
        let activations = variant.quantise(rows, kind), bytes = sk_activation_bytes(kind, Int32(columns))
        let flat = rows.flatMap(\.self), out = Aligned<Float>(flat.count)
        sk_quantisation_rest(variant.kernels, kind, flat, columns, activations.pointer, Int32(rows.count), Int32(columns), out.pointer, columns)
        for (r, row) in rows.enumerated() {
            for (i, x) in row.enumerated() {
                let inBlock = row[i / block * block..<(i / block + 1) * block]
                let a = Int8(bitPattern: activations.pointer[r * bytes + i])
                let largest = inBlock.map { abs($0) }.max()!
                let scale = inBlock.allSatisfy(\.isFinite) ? (largest >= 0x1p-100 ? largest / 127 : 0) : Float.nan
                let wanted = x.addingProduct(-scale, Float(a)), got = out.pointer[r * columns + i]
                #expect(got == wanted || got.isNaN && wanted.isNaN, "row \(r) column \(i)")
            }
        }
    }

    @Test func floatsLeaveNothing() {
        let x: [Float] = [1, .infinity, -3]
        var out: [Float] = [7, 7, 7]
        sk_quantisation_rest(Variant.plain.kernels, SK_ACTIVATION_F32, x, 3, x, 1, 3, &out, 3)
        #expect(out == [0, 0, 0])
    }
}
