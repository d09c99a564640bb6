import CKernels
import Foundation
import Testing

/// Floats to the blocks of files, against files made by ops/golden/make-quantise.py and against themselves.
@Suite struct QuantiseBlocksTests {
    /// A format by GGUF's number.
    struct Format: CustomTestStringConvertible, Sendable {
        var type: Int32
        var testDescription: String { name }

        private var format: sk_tensor_format { sk_tensor_format_find(type)!.pointee }
        var name: String { String(cString: format.name) }
        var elements: Int { Int(format.block_elements) }
        func bytes(_ count: Int) -> Int { count / elements * Int(format.block_bytes) }

        static let simple = [1, 30, 2, 3, 6, 7, 8].map { Format(type: $0) }
        static let searched = [10, 11, 12, 13, 14, 20, 23].map { Format(type: $0) }
        static let quantised = simple.dropFirst(2) + searched

        func quantise(_ x: [Float], importance: [Float]? = nil) throws -> [UInt8] {
            var blocks = [UInt8](repeating: 0xa5, count: bytes(x.count))
            let error = importance.map { sk_quantise_blocks(type, x, x.count, $0, &blocks) } ?? sk_quantise_blocks(type, x, x.count, nil, &blocks)
            guard error == SK_QUANTISE_OK else { throw Refusal(error: error) }
            return blocks
        }

        func floats(_ blocks: [UInt8]) -> [Float] {
            var out = [Float](repeating: .nan, count: blocks.count / Int(format.block_bytes) * elements)
            precondition(sk_dequantize_row(type, blocks, &out, out.count) == 0)
            return out
        }
    }

    struct Refusal: Error {
        var error: sk_quantise_error
    }

    // MARK: Foreign references

    @Test(arguments: Format.simple)
    func simpleFormatsEqualTheReference(format: Format) throws {
        var golden = try Golden("\(format.name).quantised", magic: "SGQT")
        try #require(golden.read(Int32.self) == format.type)
        let elements = Int(golden.read(UInt32.self)), bytes = Int(golden.read(UInt32.self))
        let values = (0..<elements).map { _ in golden.read(Float.self) }
        let expected = (0..<bytes).map { _ in golden.read(UInt8.self) }
        let found = try format.quantise(values)
        let wrong = found.indices.filter { found[$0] != expected[$0] }
        #expect(found.count == expected.count && wrong.isEmpty, "\(wrong.count) of \(bytes) bytes differ, the first at \(wrong.first ?? 0)")
    }

    /// What is searched need not equal llama.cpp's bytes, but should leave no larger error.
    @Test func searchedFormatsAreNoWorseThanThePeer() throws {
        var golden = try Golden("quantise-errors.golden", magic: "SGQE")
        let elements = Int(golden.read(UInt32.self)), formats = Int(golden.read(UInt32.self))
        let values = (0..<elements).map { _ in golden.read(Float.self) }
        let peers = (0..<formats).map { _ in (Format(type: golden.read(Int32.self)), golden.read(Double.self), golden.read(Double.self)) }
        let columns = golden.left / MemoryLayout<Float>.size
        let row = (0..<columns).map { _ in golden.read(Float.self) }
        let importance = (0..<elements).map { row[$0 % columns] }
        try #require(formats == Format.searched.count && columns > 0 && elements % columns == 0)
        for (format, plain, weighted) in peers {
            let error = squaredError(values, format.floats(try format.quantise(values)))
            #expect(error <= plain, "\(format.name): \(error) against \(plain)")
            let weightedError = squaredError(values, format.floats(try format.quantise(values, importance: importance)), importance)
            #expect(weightedError <= weighted, "\(format.name), weighted: \(weightedError) against \(weighted)")
        }
    }

    // MARK: Own promises

    /// The same bytes on every machine and with every compiler: recorded from x86-64.
    @Test func bytesArePinned() throws {
        var generator = SeededGenerator(seed: 51)
        let values = generator.ordinary(2048).map { $0 * 0.05 }, importance = (0..<2048).map { Float(1 + $0 * 7919 % 97) }
        for (format, plain, weighted) in Self.recorded {
            let bytes = digest(try format.quantise(values)), heavy = digest(try format.quantise(values, importance: importance))
            #expect(bytes == plain && heavy == weighted, "\(format.name): 0x\(String(bytes, radix: 16)), 0x\(String(heavy, radix: 16))")
        }
    }

    /// A row given in pieces, or at any alignment, becomes the same bytes.
    @Test(arguments: Format.simple + Format.searched)
    func blocksStandAlone(format: Format) throws {
        var generator = SeededGenerator(seed: 52)
        let values = generator.ordinary(1024)
        let whole = try format.quantise(values)
        let pieces = try stride(from: 0, to: 1024, by: 256).flatMap { try format.quantise(Array(values[$0..<$0 + 256])) }
        #expect(whole == pieces)
        let memory = UnsafeMutableRawPointer.allocate(byteCount: whole.count + 1, alignment: 64)
        defer { memory.deallocate() }
        #expect(sk_quantise_blocks(format.type, values, values.count, nil, memory + 1) == SK_QUANTISE_OK)
        #expect(Array(UnsafeRawBufferPointer(start: memory + 1, count: whole.count)) == whole)
    }

    /// Equal weights are no weights for the searched formats; for the simple ones they may only make the error smaller.
    @Test(arguments: Format.quantised)
    func importanceCounts(format: Format) throws {
        var generator = SeededGenerator(seed: 53)
        let values = generator.ordinary(2048)
        let plain = try format.quantise(values)
        let equal = try format.quantise(values, importance: [Float](repeating: 3e-9, count: 2048))
        if Format.searched.contains(where: { $0.type == format.type }) { #expect(equal == plain) }
        #expect(squaredError(values, format.floats(equal)) <= squaredError(values, format.floats(plain)) * 1.0001)

        let importance = (0..<2048).map { Float($0 % 5 == 0 ? 100 : 1) }
        let weighted = squaredError(values, format.floats(try format.quantise(values, importance: importance)), importance)
        #expect(weighted < squaredError(values, format.floats(plain), importance))

        // A column that does not count, with a number that would spoil its group; and a block where nothing counts.
        var spoiled = values
        for index in stride(from: 0, to: 1024, by: 16) { spoiled[index] = 4 }
        let blind = (0..<2048).map { Float($0 >= 1024 || $0 % 16 == 0 ? 0 : 1) }
        let seen = squaredError(spoiled, format.floats(try format.quantise(spoiled, importance: blind)), blind)
        #expect(seen <= squaredError(spoiled, format.floats(try format.quantise(spoiled)), blind))
    }

    @Test(arguments: Format.quantised)
    func zerosAndTheSmallestNumbers(format: Format) throws {
        let zeros = format.floats(try format.quantise([Float](repeating: 0, count: 512)))
        #expect(zeros.allSatisfy { $0 == 0 })
        let negative = format.floats(try format.quantise([Float](repeating: -0.0, count: 512)))
        #expect(negative.allSatisfy { $0 == 0 })
        for size in [Float.leastNonzeroMagnitude, .leastNormalMagnitude, 1e-20, 1e-9, 3e-8, 1e-7, 1e-6, 1e-5, 1e-4] {
            let values = (0..<512).map { size * Float($0 % 7 - 3) }
            let found = format.floats(try format.quantise(values))
            #expect(found.allSatisfy { $0.isFinite })
            // Never worse than calling all of them zero by more than the rounding of a scale to the smallest halves.
            #expect(squaredError(values, found) <= squaredError(values, [Float](repeating: 0, count: 512)) + 512 * 0x1p-48 * 64, "\(size)")
        }
    }

    /// A block of one number comes back as that number, but for the roundings of scales; one huge number among small ones stays.
    @Test(arguments: Format.quantised)
    func constantsAndOutliers(format: Format) throws {
        for constant in [Float(0.37), -0.37, 1000, -1000] {
            let found = format.floats(try format.quantise([Float](repeating: constant, count: 256)))
            #expect(found.allSatisfy { abs($0 - constant) <= abs(constant) * 0.07 }, "\(constant): \(found[0])")
        }
        var values = (0..<256).map { Float($0 % 11 - 5) * 0.01 }
        values[77] = -50
        #expect(abs(format.floats(try format.quantise(values))[77] + 50) < 4)
    }

    // MARK: Refusals

    @Test(arguments: Format.quantised)
    func refusesWhatHasNoCode(format: Format) {
        var generator = SeededGenerator(seed: 54)
        let values = generator.ordinary(512)
        for hostile in [Float.nan, .infinity, -.infinity] {
            var wrong = values
            wrong[300] = hostile
            #expect(refusal(format, wrong) == SK_QUANTISE_NOT_FINITE)
        }
        for large in [Float(1e9), -3e38, .greatestFiniteMagnitude] {
            var wrong = values
            wrong[511] = large
            #expect(refusal(format, wrong) == SK_QUANTISE_TOO_LARGE)
            #expect(refusal(format, wrong, importance: [Float](repeating: 1, count: 512)) == SK_QUANTISE_TOO_LARGE)
        }
        // The largest scale is used, none is infinite.
        for size in stride(from: Float(1e4), to: 2.6e8, by: 3.7e6) {
            guard let blocks = try? format.quantise(values.map { $0 / 120 * size }) else { continue }
            #expect(format.floats(blocks).allSatisfy { $0.isFinite })
        }
        for weight in [Float.nan, .infinity, -1] {
            var importance = [Float](repeating: 1, count: 512)
            importance[400] = weight
            #expect(refusal(format, values, importance: importance) == SK_QUANTISE_WRONG_IMPORTANCE)
        }
        #expect(refusal(format, Array(values[..<500])) == SK_QUANTISE_RAGGED)
    }

    @Test func refusesUnknownTypesAndTooLargeFloats() {
        var out = [UInt8](repeating: 7, count: 8)
        #expect(sk_quantise_blocks(9, [1, 2], 2, nil, &out) == SK_QUANTISE_UNKNOWN_TYPE)
        #expect(out == [7, 7, 7, 7, 7, 7, 7, 7])
        #expect(refusal(Format(type: 1), [65520]) == SK_QUANTISE_TOO_LARGE)
        #expect(refusal(Format(type: 30), [.greatestFiniteMagnitude]) == SK_QUANTISE_TOO_LARGE)
        #expect(refusal(Format(type: 1), [.infinity, 65519, .nan]) == nil)
        #expect(refusal(Format(type: 30), [.infinity, 3.38e38, .nan]) == nil)
    }

    private func refusal(_ format: Format, _ values: [Float], importance: [Float]? = nil) -> sk_quantise_error? {
        do {
            _ = try format.quantise(values, importance: importance)
            return nil
        } catch { return (error as? Refusal)?.error }
    }

    // MARK: Recorded

    static let recorded: [(format: Format, plain: UInt64, weighted: UInt64)] = [
        (Format(type: 2), 0x3b5766429dcc4c91, 0x61fb8be96e7c9803),
        (Format(type: 3), 0xaeced7cc4be06322, 0x13eb82c51e0b4e9d),
        (Format(type: 6), 0x7c56eaabec67530c, 0xde0c32df3830eec7),
        (Format(type: 7), 0x69eb259cfb72c73d, 0x59abe3dde063246d),
        (Format(type: 8), 0xdb239b55d57b1573, 0x76e1f3942f6bb8dd),
        (Format(type: 10), 0x594a6f8d1df3ff9e, 0xf5aa3c2016e51a6b),
        (Format(type: 11), 0x091ec4786e4d79ab, 0xecc18b9d9ad2f545),
        (Format(type: 12), 0x95bd44fd6b02a2c7, 0x6720f1bd0da96ec1),
        (Format(type: 13), 0x17b2bfe1b0e309d7, 0x4554f211677efba2),
        (Format(type: 14), 0xab32d0bfd40572df, 0x2f06a08a242ae9e9),
        (Format(type: 20), 0xdcf0f9c7c8135fe4, 0xc441a280802114fe),
        (Format(type: 23), 0x357a5fcedb57a3bc, 0xc7d9fb3d6d98ff79),
    ]
}

private func digest(_ bytes: [UInt8]) -> UInt64 {
    bytes.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
}

private func squaredError(_ values: [Float], _ found: [Float], _ weights: [Float]? = nil) -> Double {
    values.indices.reduce(0) { total, index in
        let off = Double(values[index]) - Double(found[index])
        return total + off * off * Double(weights?[index] ?? 1)
    }
}

/// A file of little-endian numbers behind a magic of four letters.
private struct Golden {
    private let data: [UInt8]
    private var position = 4
    var left: Int { data.count - position }

    init(_ name: String, magic: String) throws {
        let folder = try #require(Bundle.module.resourceURL)
        data = [UInt8](try Data(contentsOf: folder.appendingPathComponent("Fixtures").appendingPathComponent(name)))
        try #require(Array(data.prefix(4)) == Array(magic.utf8))
    }

    mutating func read<Number: BitwiseCopyable>(_: Number.Type) -> Number {
        defer { position += MemoryLayout<Number>.size }
        return data.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: position, as: Number.self) }
    }
}
