import CKernels
import Foundation
import ModelFiles
import Testing

@testable import Engine

@Suite struct WeightPackerTests {
    /// What packing takes beside the weights: one piece a thread, and a piece is half a megabyte or sixteen rows.
    @Test(arguments: [1, 2, 5]) func buffersAreBoundedByConstruction(threads: Int) throws {
        let tiny = try TinyModel(.f16)
        var wide = GGUFWriter()
        wide.add("wide", type: .f32, shape: [20_000, 40], bytes: [UInt8](repeating: 0, count: 40 * 80_000))
        var layouts: [WeightLayout] = []
        for (name, rows, columns, file) in [
            (ModelTensors.embedding, 173, 64, tiny.file), ("wide", 40, 20_000, try GGUFFile(parts: [try wide.bytes()]))
        ] {
            var layout = WeightLayout(.embedding, source: file)
            _ = try layout.matrix(.init(name, columns: columns, rows: rows))
            layouts.append(layout)
        }
        #expect(WeightPacker.bufferBytes([layouts[0]], threads: threads) == AlignedMemory.aligned(173 * 64 * 2) * threads)
        #expect(WeightPacker.bufferBytes(layouts, threads: threads) == AlignedMemory.aligned(16 * 80_000) * threads)
        for layout in layouts {
            let largest = max(WeightLoader.pieceBytes, layout.matrices.map { Int(SK_ROW_GROUP) * $0.tensor.rowBytes }.max()!)
            #expect(WeightPacker.bufferBytes([layout], threads: threads) <= threads * AlignedMemory.aligned(largest))
        }
    }

    /// Pieces, waves and threads change nothing: against one call that packs the whole matrix.
    @Test(arguments: [(TensorType.q4_0, 2_001, 1_024), (.q8_0, 517, 2_048), (.f32, 33, 10_000), (.bf16, 16, 40_000)])
    func piecesMakeTheSameBytesAsOneCall(type: TensorType, rows: Int, columns: Int) throws {
        var random = SeededRandom(seed: 11)
        var bytes = [UInt8](repeating: 0, count: rows * type.rowBytes(columns: columns))
        for index in stride(from: 0, to: bytes.count, by: 3) { bytes[index] = UInt8(truncatingIfNeeded: random.next()) }
        var writer = GGUFWriter()
        writer.add("m", type: type, shape: [columns, rows], bytes: bytes)
        let file = try GGUFFile(parts: [try writer.bytes()])
        var layout = WeightLayout(.layer(0), source: file)
        let place = try layout.matrix(.init("m", columns: columns, rows: rows))
        let whole = try AlignedMemory(byteCount: layout.byteCount, for: "a test")
        sk_pack_rows(place.type, bytes, Int32(rows), Int32(columns), whole.base)
        for threads in [1, 3] {
            let memory = try AlignedMemory(byteCount: layout.byteCount, for: "a test")
            let pool = try ComputePool(threads: threads)
            WeightPlacement.touch([(layout, memory.base)], pool: pool)
            var told = (0, 0)
            var progress = LoadProgress(bytesTotal: layout.sourceBytes) { told = ($0, $1) }
            try WeightPacker(pool: pool).pack([(layout, memory.base)], &progress)
            #expect(memcmp(memory.base, whole.base, layout.byteCount) == 0)
            #expect(told == (bytes.count, bytes.count))
        }
    }

    /// A thread's shares follow each other, are whole row groups, and are the matrix together.
    @Test(arguments: [1, 2, 7, 64]) func sharesAreTheMatrix(threads: Int) {
        for rows in [1, 16, 17, 173, 4_096] {
            let place = WeightLayout.MatrixPlace(type: SK_TYPE_Q4_0, rows: rows, columns: 64, offset: 0)
            let shares = (0..<threads).map { WeightPlacement.rows(place, thread: $0, threads: threads) }
            #expect(shares.first?.lowerBound == 0 && shares.last?.upperBound == (rows + 15) / 16 * 16)
            #expect(zip(shares, shares.dropFirst()).allSatisfy { $0.upperBound == $1.lowerBound })
            #expect(shares.allSatisfy { $0.lowerBound % 16 == 0 })
        }
    }

    /// A model file that becomes shorter while it is packed is an error, not a signal.
    @Test func aFileCutShortIsAnError() throws {
        let folder = try TemporaryFolder()
        let tiny = try TinyModel(.f16)
        var writer = GGUFWriter(metadata: tiny.file.metadata)
        for tensor in tiny.file.tensors { writer.add(tensor.name, type: tensor.type, shape: tensor.shape, bytes: Array(tensor.bytes)) }
        let path = folder.file("model.gguf")
        try writer.write(to: path)
        let file = try GGUFFile(path: path)
        #expect(truncate(path, off_t(file.fileBytes / 2)) == 0)
        let error = #expect(throws: ModelFileError.self) {
            try StageWeights(file: file, model: tiny.configuration, slice: .whole(tiny.configuration), pool: ComputePool(threads: 2))
        }
        #expect(error?.code == .cannotRead && error?.message.contains("became shorter") == true)
    }

    @Test func aChecksumSeesEveryBitAndEveryLength() {
        var random = SeededRandom(seed: 3)
        for count in [0, 1, 7, 63, 64, 65, 200, 4_096] {
            var bytes = (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
            let sum = PackedChecksum.of(bytes)
            #expect(sum == PackedChecksum.of(bytes) && sum != PackedChecksum.of(bytes + [0]))
            for bit in stride(from: 0, to: count * 8, by: count > 200 ? 97 : 1) {
                bytes[bit / 8] ^= 1 << (bit % 8)
                #expect(PackedChecksum.of(bytes) != sum)
                bytes[bit / 8] ^= 1 << (bit % 8)
            }
        }
    }
}
