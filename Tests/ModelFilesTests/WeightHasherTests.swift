import Crypto
import Testing

@testable import ModelFiles

/// Extents and hashes of a model's bytes.
@Suite struct WeightHasherTests {
    private let folder: TemporaryFolder
    private let file: GGUFFile

    init() throws {
        folder = try TemporaryFolder()
        var writer = GGUFWriter(metadata: Metadata())
        for (index, columns) in [5, 700, 64, 3_000].enumerated() {
            writer.add("t\(index)", shape: [columns, 3], floats: (0..<columns * 3).map { Float($0 * (index + 1)) })
        }
        try writer.write(to: folder.file("model.gguf"))
        file = try GGUFFile(path: folder.file("model.gguf"))
    }

    @Test func extentsAreTheHeaderAndTheTensorsInTheirOrder() {
        let extents = file.extents
        #expect(extents.map(\.name) == ["", "t0", "t1", "t2", "t3"])
        #expect(extents[0].offset == 0 && extents[0].byteCount > file.headerBytes.count, "the tensors' descriptions too")
        for extent in extents.dropFirst() {
            let tensor = file.tensor(extent.name)!
            #expect(extent.offset == tensor.fileOffset && extent.byteCount == tensor.byteCount && extent.shape == tensor.shape)
        }
    }

    @Test(arguments: [1, 2, 3]) func hashesAreThoseOfTheBytes(threads: Int) throws {
        let chunkBytes = 1_000
        var told: [Int] = []
        let hashes = try WeightHasher(file, chunkBytes: chunkBytes).hashes(threads: threads) { done, total in
            told.append(done)
            #expect(done <= total)
        }
        #expect(told == told.sorted() && told.last == file.extents.reduce(0) { $0 + $1.byteCount })
        for (extent, found) in zip(file.extents, hashes) {
            var expected: [UInt8] = []
            for start in stride(from: 0, to: extent.byteCount, by: chunkBytes) {
                var bytes = [UInt8](repeating: 0, count: min(chunkBytes, extent.byteCount - start))
                try bytes.withUnsafeMutableBytes { try file.read(part: 0, at: extent.offset + start, into: $0) }
                expected += Array(SHA256.hash(data: bytes))
            }
            #expect(found == expected, "\(extent.name)")
        }
    }

    @Test func whatProgressThrowsEndsIt() {
        struct Enough: Error {}
        #expect(throws: Enough.self) { try WeightHasher(file, chunkBytes: 100).hashes(threads: 2) { _, _ in throw Enough() } }
    }
}
