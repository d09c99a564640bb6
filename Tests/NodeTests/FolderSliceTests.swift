import ClusterCore
import Engine
import Foundation
import ModelFiles
import Testing

@testable import Node

/// Slices of Hugging Face folders: several named parts, of which a stage fetches its own tensors and all that describes the model.
@Suite struct FolderSliceTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private static func manifest(_ model: HFModel) throws -> EncodedManifest {
        let hashes = try WeightHasher(model, chunkBytes: WeightManifest.chunkBytes).hashes(threads: 2) { _, _ in }
        return EncodedManifest(try WeightManifest(model, hashes: hashes))
    }

    private func store(_ indices: [Int], of model: HFModel, in slice: SliceFile) throws {
        for index in indices {
            let place = slice.manifest.manifest.place(of: index)
            var bytes = [UInt8](repeating: 0, count: place.byteCount)
            try bytes.withUnsafeMutableBytes { try model.read(part: place.part, at: place.offset, into: $0) }
            try bytes.withUnsafeBytes { bytes in
                #expect(slice.isIntact(index, bytes))
                try slice.store(index, bytes)
            }
        }
    }

    @Test func aWholeSliceIsTheFolder() throws {
        let tiny = try FolderModel(folder)
        let manifest = try Self.manifest(tiny.model)
        #expect(manifest.manifest.partNames == tiny.model.folder.fileNames && manifest.manifest.partBytes.contains(0))
        let encoded = try manifest.bytes.withUnsafeBytes(EncodedManifest.init(bytes:))
        #expect(encoded.manifest == manifest.manifest && encoded.digest == manifest.digest)
        let slice = try SliceFile(folder: folder.file("slice"), manifest: manifest)
        let all = Array(0..<manifest.manifest.chunkCount)
        #expect(try slice.lacking(all) { _ in } == all)
        try store(all, of: tiny.model, in: slice)
        try slice.seal()
        let found = try #require(ModelOpener.open(path: slice.path) as? HFModel)
        #expect(ModelFiles.ModelDigest(found).bytes == tiny.digest.bytes && manifest.manifest.fits(found) && manifest.manifest.fits(tiny.model))
        #expect(found.configuration.layers == FolderModel.layers)
        for tensor in tiny.model.roles { #expect(found.tensor(tensor.name)?.dequantized() == tensor.dequantized()) }
        // What no stage computes with was not asked for, and is not hashed.
        #expect(!manifest.manifest.extents.contains { $0.name.hasSuffix("inv_freq") })
        #expect(try SliceFile(folder: folder.file("slice"), manifest: manifest).lacking(all) { _ in } == [], "another start finds it all")
    }

    @Test(arguments: [(true, false), (true, true), (false, false)]) func aStageLoadsFromItsSliceAlone(tied: Bool, headBeside: Bool) throws {
        let tiny = try FolderModel(folder, tied: tied, headBeside: headBeside)
        let manifest = try Self.manifest(tiny.model)
        let sizes = ModelSizes(source: tiny.model, model: tiny.model.configuration)
        let headers = manifest.manifest.extents.filter(\.isHeader).reduce(0) { $0 + $1.byteCount }
        for (number, layers) in [0..<1, 1..<3, 3..<4].enumerated() {
            let (isFirst, isLast) = (number == 0, number == 2)
            let wanted = manifest.manifest.chunks(ofLayers: layers, isFirst: isFirst, isLast: isLast)
            #expect(wanted.reduce(0) { $0 + manifest.manifest.place(of: $1).byteCount } == sizes.stage(layers: layers) + headers)
            let slice = try SliceFile(folder: folder.file("slice-\(number)"), manifest: manifest)
            try store(wanted, of: tiny.model, in: slice)
            let found = try #require(ModelOpener.open(path: slice.path) as? HFModel)
            for tensor in tiny.model.roles {
                let words = tensor.name.split(separator: ".")
                let isOwn =
                    words[0] == "blk" ? layers.contains(Int(words[1])!)
                    : tensor.name == ModelTensors.embedding ? isFirst || isLast && tied : isLast
                #expect((found.tensor(tensor.name)?.dequantized() == tensor.dequantized()) == isOwn, "\(tensor.name) for \(layers)")
            }
        }
    }

    /// The cache counts what lies below a slice's folder, and removes it.
    @Test func theCacheSeesPartsBelow() throws {
        let tiny = try FolderModel(folder)
        let manifest = try Self.manifest(tiny.model)
        let cache = SliceCache(folder: folder.file("slices"), bytesMax: 300 << 10, freeBytesMin: 0)
        let old = cache.folder + "/" + String(repeating: "a", count: 32)
        do { try store(Array(0..<manifest.manifest.chunkCount), of: tiny.model, in: SliceFile(folder: old, manifest: manifest)) }
        let slice = try SliceFile(folder: cache.folder(of: manifest.digest), manifest: manifest)
        try cache.makeRoom(200 << 10, for: slice, wanted: [])
        #expect(!FileManager.default.fileExists(atPath: old), "it has more bytes than are left")
    }

    @Test func partsLieInAFolderOfTheirOwn() throws {
        let tiny = try FolderModel(folder)
        let made = try Self.manifest(tiny.model).manifest
        // Parts that are called as our own files are.
        var names = made.partNames
        names[0] = "manifest"
        names[1] = SliceFile.recordName
        let odd = try #require(WeightManifest(modelDigest: made.modelDigest, partBytes: made.partBytes, partNames: names, extents: made.extents))
        let slice = try SliceFile(folder: folder.file("slice"), manifest: EncodedManifest(odd))
        #expect(slice.path == folder.file("slice/model"))
        #expect(SliceFile.keptManifest(in: folder.file("slice"), digest: slice.manifest.digest) != nil)
    }

    @Test func aManifestIsKeptForTheVeryFolderOnly() throws {
        let tiny = try FolderModel(folder)
        let manifest = try Self.manifest(tiny.model)
        let kept = ManifestFile(of: tiny.model, fallback: folder.file("fallback"))
        #expect(kept.read() == nil && kept.write(manifest) && kept.read()?.digest == manifest.digest)
        let other = try FolderModel(folder, tied: false)
        #expect(ManifestFile(of: other.model, fallback: nil).read() == nil)
    }

    /// The world may have models that are too large for a manifest; that is no fault of ours.
    @Test func aModelOfTooManyPartsIsRefused() throws {
        let tiny = try FolderModel(folder)
        let parts = ManyParts(tiny.model.folder, count: Limits.modelPartsMax + 1)
        let error = try #require(throws: NodeError.self) { try WeightManifest(parts, hashes: parts.extents.map { _ in [] }) }
        #expect(error.code == .weightsUnusable && error.message.contains("\(Limits.modelPartsMax + 1) parts"))
    }

    /// Nothing but parts, all of them empty.
    private struct ManyParts: ModelSource {
        let folder: HFFolder
        let partNames: [String]
        let partBytes: [Int]

        init(_ folder: HFFolder, count: Int) {
            self.folder = folder
            partNames = (0..<count).map { "part \($0)" }
            partBytes = [Int](repeating: 0, count: count)
        }

        var tensors: [Tensor] { [] }
        func tensor(_ name: String) -> Tensor? { nil }
        var paths: [String] { partNames }
        var metadata: Metadata { folder.metadata }
        var headerBytes: [UInt8] { [] }
        var headers: [UnsafeRawBufferPointer] { partBytes.map { _ in UnsafeRawBufferPointer(start: nil, count: 0) } }
        var partsDescription: [UInt8] { [] }
        var stamps: [FileStamp] { [] }
        func read(part: Int, at offset: Int, into buffer: UnsafeMutableRawBufferPointer) {}
    }

    /// A model of several GGUF files is fetched under names that follow from their numbers.
    @Test func aSliceOfSeveralFiles() throws {
        let whole = try TinyModel(folder)
        for number in 0..<2 {
            var writer = GGUFWriter(metadata: number == 0 ? whole.file.metadata : Metadata())
            for (key, value) in [("split.no", number), ("split.count", 2), ("split.tensors.count", whole.file.tensors.count)] {
                writer.metadata.set(key, .int32(Int32(value)))
            }
            for tensor in whole.file.tensors.enumerated().filter({ $0.offset % 2 == number }).map(\.element) {
                writer.add(tensor.name, shape: tensor.shape, floats: tensor.dequantized())
            }
            try writer.write(to: folder.file("split-0000\(number + 1)-of-00002.gguf"))
        }
        let file = try GGUFFile(path: folder.file("split-00001-of-00002.gguf"))
        let hashes = try WeightHasher(file, chunkBytes: WeightManifest.chunkBytes).hashes(threads: 1) { _, _ in }
        let manifest = EncodedManifest(try WeightManifest(file, hashes: hashes))
        #expect(manifest.manifest.partNames == [] && manifest.manifest.partBytes.count == 2)
        let slice = try SliceFile(folder: folder.file("slice"), manifest: manifest)
        let wanted = manifest.manifest.chunks(ofLayers: 1..<2, isFirst: false, isLast: false)
        for index in wanted {
            let place = manifest.manifest.place(of: index)
            var bytes = [UInt8](repeating: 0, count: place.byteCount)
            try bytes.withUnsafeMutableBytes { try file.read(part: place.part, at: place.offset, into: $0) }
            try bytes.withUnsafeBytes { try slice.store(index, $0) }
        }
        let found = try ModelOpener.open(path: slice.path)
        #expect(ModelFiles.ModelDigest(found).bytes == ModelFiles.ModelDigest(file).bytes)
        for tensor in file.tensors {
            #expect((found.tensor(tensor.name)?.dequantized() == tensor.dequantized()) == tensor.name.hasPrefix("blk.1."), "\(tensor.name)")
        }
    }
}
