import CKernels
import Foundation
import ModelFiles
import Testing

/// The meaning of every tensor format, against files made by ops/golden/make-modelfiles.py.
@Suite struct DequantizeTests {
    /// A golden file: blocks of one format and the floats that the reference makes of them.
    struct Golden {
        var type: TensorType
        var blocks: [UInt8]
        var floats: [Float]

        init(_ type: TensorType) throws {
            let data = try Fixture.bytes("\(type.name).golden")
            try #require(Array(data.prefix(4)) == Array("SGLD".utf8))
            let header = data.withUnsafeBytes { raw in
                [4, 8, 12].map { raw.loadUnaligned(fromByteOffset: $0, as: Int32.self) }
            }
            self.type = try #require(TensorType(rawValue: header[0]))
            let elements = Int(header[1])
            let blockBytes = Int(header[2])
            try #require(data.count == 16 + blockBytes + 4 * elements)
            blocks = Array(data[16..<(16 + blockBytes)])
            floats = data.withUnsafeBytes { raw in
                (0..<elements).map { raw.loadUnaligned(fromByteOffset: 16 + blockBytes + 4 * $0, as: Float.self) }
            }
        }
    }

    @Test(arguments: TensorType.allCases)
    func equalsTheReferenceBitForBit(type: TensorType) throws {
        let golden = try Golden(type)
        #expect(golden.type == type)
        #expect(golden.floats.count / type.blockSize * type.blockBytes == golden.blocks.count)
        #expect(golden.floats.contains { $0.isNaN } && golden.floats.contains { $0.isFinite && $0 != 0 })

        var found = [Float](repeating: 0, count: golden.floats.count)
        #expect(sk_dequantize_row(type.rawValue, golden.blocks, &found, found.count) == 0)
        let wrong = found.indices.filter { !sameNumber(found[$0], golden.floats[$0]) }
        #expect(
            wrong.isEmpty,
            "\(wrong.count) of \(found.count) differ, the first at \(wrong.first ?? 0): \(wrong.first.map { "\(found[$0]) instead of \(golden.floats[$0])" } ?? "")")
    }

    /// Blocks lie at any byte offset in a mapped file.
    @Test(arguments: TensorType.allCases)
    func readsUnalignedBlocks(type: TensorType) throws {
        let golden = try Golden(type)
        let shifted: [UInt8] = [0] + golden.blocks
        var found = [Float](repeating: 0, count: golden.floats.count)
        shifted.withUnsafeBytes { raw in
            #expect(sk_dequantize_row(type.rawValue, raw.baseAddress! + 1, &found, found.count) == 0)
        }
        #expect(zip(found, golden.floats).allSatisfy(sameNumber))
    }

    @Test func refusesUnknownTypesAndRaggedRows() {
        var out: [Float] = [7, 7]
        #expect(sk_dequantize_row(9, [0, 0, 0, 0], &out, 1) == -1)
        #expect(sk_dequantize_row(TensorType.q8_0.rawValue, [UInt8](repeating: 0, count: 34), &out, 2) == -1)
        #expect(sk_tensor_format_find(-1) == nil)
        #expect(out == [7, 7])
    }

    @Test func widensEveryHalfExactly() {
        let halves = (0...UInt16.max).map { $0 }
        var found = [Float](repeating: 0, count: halves.count)
        #expect(sk_dequantize_row(TensorType.f16.rawValue, halves, &found, found.count) == 0)
        let wrong = halves.filter { !sameNumber(found[Int($0)], Float(Float16(bitPattern: $0))) }
        #expect(wrong.isEmpty)
    }
}

/// Equal bits, or both NaN: the reference does not promise a payload either.
private func sameNumber(_ left: Float, _ right: Float) -> Bool {
    left.bitPattern == right.bitPattern || (left.isNaN && right.isNaN)
}
