import ClusterCore
import Foundation
import ModelFiles
import Testing

@testable import Node

/// The file of a fetched slice: what it keeps, what it believes of its record, and what it gives back.
@Suite struct SliceFileTests {
    private let folder: TemporaryFolder
    private let tiny: TinyModel
    private let manifest: EncodedManifest

    init() throws {
        folder = try TemporaryFolder()
        tiny = try TinyModel(folder)
        let hashes = try WeightHasher(tiny.file, chunkBytes: WeightManifest.chunkBytes).hashes(threads: 1) { _, _ in }
        manifest = EncodedManifest(try WeightManifest(tiny.file, hashes: hashes))
    }

    private func bytes(_ index: Int) throws -> [UInt8] {
        let place = manifest.manifest.place(of: index)
        var bytes = [UInt8](repeating: 0, count: place.byteCount)
        try bytes.withUnsafeMutableBytes { try tiny.file.read(part: place.part, at: place.offset, into: $0) }
        return bytes
    }

    private func open() throws -> SliceFile { try SliceFile(folder: folder.file("slice"), manifest: manifest) }

    private func store(_ indices: [Int], in slice: SliceFile) throws {
        for index in indices { try bytes(index).withUnsafeBytes { try slice.store(index, $0) } }
    }

    private var all: [Int] { Array(0..<manifest.manifest.chunkCount) }

    @Test func aWholeSliceIsTheModel() throws {
        let slice = try open()
        #expect(try slice.lacking(all) { _ in } == all)
        try store(all, in: slice)
        try slice.seal()
        let file = try GGUFFile(path: slice.path)
        #expect(ModelFiles.ModelDigest(file).bytes == tiny.digest.bytes && file.fileBytes == tiny.file.fileBytes)
        for tensor in tiny.file.tensors { #expect(file.tensor(tensor.name)?.dequantized() == tensor.dequantized()) }
        #expect(manifest.manifest.fits(tiny.file) && manifest.manifest.fits(file))
    }

    @Test func aStageLoadsFromItsSliceAlone() throws {
        let slice = try open()
        let wanted = manifest.manifest.chunks(ofLayers: 1..<2, isFirst: false, isLast: false)
        try store(wanted, in: slice)
        let file = try GGUFFile(path: slice.path)
        for tensor in file.tensors {
            let isWanted = tensor.name.hasPrefix("blk.1.")
            #expect((tensor.dequantized() == tiny.file.tensor(tensor.name)!.dequantized()) == isWanted, "\(tensor.name)")
        }
        let first = manifest.manifest.chunks(ofLayers: 0..<1, isFirst: true, isLast: false)
        let sizes = try ModelSizes(file: tiny.file, model: ModelConfiguration(file: tiny.file))
        let header = manifest.manifest.extents[0].byteCount
        #expect(first.reduce(0) { $0 + manifest.manifest.place(of: $1).byteCount } == sizes.stage(layers: 0..<1) + header)
        let last = manifest.manifest.chunks(ofLayers: 2..<4, isFirst: false, isLast: true)
        let lastBytes = last.reduce(0) { $0 + manifest.manifest.place(of: $1).byteCount }
        #expect(lastBytes == sizes.stage(layers: 2..<4) + header, "a tied head is the embedding")
    }

    /// What is not sealed is looked at again; what was damaged meanwhile is fetched again.
    @Test func theRecordIsBelievedOnlyAsFarAsItIsSealed() throws {
        do {
            let slice = try open()
            try store([0, 1, 2], in: slice)
            try slice.seal()
            try store([3, 4], in: slice)
        }
        // The record says that 4 is there; the disk has lost it.
        let place = manifest.manifest.place(of: 4)
        let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: folder.file("slice/model.gguf")))
        try handle.seek(toOffset: UInt64(place.offset))
        try handle.write(contentsOf: Data([UInt8](repeating: 0xEE, count: place.byteCount)))
        try handle.close()
        var looked = 0
        let slice = try open()
        #expect(try slice.lacking(all) { looked += $0 } == Array(all.dropFirst(4)))
        #expect(looked == [3, 4].reduce(0) { $0 + manifest.manifest.place(of: $1).byteCount }, "sealed chunks are not hashed again")
        #expect(!slice.held.contains(4) && slice.held.contains(3))
    }

    @Test(arguments: ["chunk 5", "chunk 5\nchunk 999999\nhello\nchunk x\n\u{0}\u{0}\nsealed 99999999\n", "sealed -1\n"])
    func aDamagedRecordSaysNothingWrong(tail: String) throws {
        do { try store([0, 1], in: open()) }
        let path = folder.file("slice/" + SliceFile.recordName)
        let record = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
        try record.seekToEnd()
        try record.write(contentsOf: Data(tail.utf8))
        try record.close()
        let slice = try open()
        #expect(try slice.lacking(all) { _ in } == Array(all.dropFirst(2)), "a chunk that was never written is not believed")
        // And goes on behind it.
        try store([2], in: slice)
        #expect(try open().lacking(all) { _ in } == Array(all.dropFirst(3)))
    }

    @Test func whatIsDroppedIsAskedForAgain() throws {
        let slice = try open()
        try store([0, 1, 2, 3], in: slice)
        try slice.seal()
        try store([4, 5], in: slice)
        slice.rollBack()
        #expect(slice.held.contains(3) && !slice.held.contains(4) && !slice.held.contains(5), "only what was not sealed")
        slice.drop([1])
        #expect(try open().lacking(all) { _ in } == [1] + Array(all.dropFirst(4)))
        var neighbours = [UInt8](repeating: 0, count: manifest.manifest.place(of: 2).byteCount)
        try neighbours.withUnsafeMutableBytes { try slice.read(chunk: 2, into: $0) }
        #expect(try neighbours == bytes(2), "a hole takes nothing from its neighbours")
    }

    @Test func theCacheMakesRoomOfWhatIsUsedNoMore() throws {
        let cache = SliceCache(folder: folder.file("slices"), bytesMax: 1 << 20, freeBytesMin: 0)
        let old = cache.folder + "/" + String(repeating: "a", count: 32), used = cache.folder + "/" + String(repeating: "b", count: 32)
        for path in [old, used] {
            let other = try SliceFile(folder: path, manifest: manifest)
            try store(all, in: other)
        }
        let user = try SliceFile(folder: used, manifest: manifest)
        defer { withExtendedLifetime(user) {} }
        let slice = try SliceFile(folder: cache.folder(of: manifest.digest), manifest: manifest)
        let error = try #require(throws: NodeError.self) { try cache.makeRoom(1 << 20, for: slice, wanted: []) }
        #expect(error.code == .diskFull && error.message.contains("--slices-limit"))
        #expect(!FileManager.default.fileExists(atPath: old) && FileManager.default.fileExists(atPath: used), "what somebody uses stays")
        try cache.makeRoom(1 << 10, for: slice, wanted: [])
    }

    @Test func aManifestIsKeptForTheVeryFileOnly() throws {
        let kept = ManifestFile(of: tiny.file, fallback: folder.file("fallback"))
        #expect(kept.read() == nil)
        #expect(kept.write(manifest))
        #expect(kept.read()?.digest == manifest.digest)
        // Another file of the same size and headers under the same path.
        _ = try TinyModel(folder, seed: 2)
        #expect(ManifestFile(of: try GGUFFile(path: tiny.path), fallback: nil).read() == nil)
    }
}
