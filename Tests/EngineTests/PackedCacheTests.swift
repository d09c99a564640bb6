import CKernels
import Foundation
import ModelFiles
import Testing

@testable import Engine

/// What the cache gives back is what was packed, or nothing.
@Suite struct PackedCacheTests {
    private let folder: TemporaryFolder
    private let cache: PackedCache
    private let pool: ComputePool

    init() throws {
        folder = try TemporaryFolder()
        var limits = PackedCache.Limits()
        limits.freeBytesMin = 0
        cache = PackedCache(folder: folder.file("packed"), limits: limits)
        pool = try ComputePool(threads: 2)
    }

    private func load(
        _ file: GGUFFile, _ slice: StageSlice? = nil, cache: PackedCache?, placement: WeightPlacement = .anywhere, pool: ComputePool? = nil
    ) throws -> StageWeights {
        let model = try ModelConfiguration(file: file)
        return try StageWeights(
            file: file, model: model, slice: slice ?? .whole(model), pool: pool ?? self.pool, cache: cache, placement: placement)
    }

    /// Loads and keeps.
    private func keep(_ file: GGUFFile, _ slice: StageSlice? = nil) throws {
        let weights = try load(file, slice, cache: cache)
        let unkept = weights.unkeptBytes
        #expect(try weights.keep() == unkept)
    }

    private func tiny(_ type: TensorType = .q4_0, tiedHead: Bool = false, seed: UInt64 = 1) throws -> GGUFFile {
        var options = TinyModel.Options()
        options.tiedHead = tiedHead
        options.qkvBias = true
        options.architecture = .qwen2
        options.seed = seed
        return try TinyModel(type, options).file
    }

    private func logits(_ weights: StageWeights) throws -> [[UInt32]] {
        let stage = try Stage(weights: weights, kvBlocks: 2, pool: pool, instructionSet: .supported.last!)
        let tokens: [Int32] = [3, 1, 4, 1, 5, 92, 65]
        let segment = BatchSegment(sequence: 1, start: 0, tokens: tokens, newBlocks: [0], samples: false)
        var rows: [[UInt32]] = []
        let opening = SequenceOpening(sequence: 1, tokens: tokens, promptLength: tokens.count)
        try stage.logits(StageBatch(opens: [opening], segments: [segment])) { _, row in rows.append(row.map(\.bitPattern)) }
        return rows
    }

    // MARK: Hits

    @Test(arguments: TinyModel.types, [WeightPlacement.anywhere, .nearTheirThreads])
    func theSecondStartHasTheSameBits(type: TensorType, placement: WeightPlacement) throws {
        let file = try tiny(type)
        let first = try load(file, cache: cache, placement: placement)
        #expect(first.origin.packedBytes == first.byteCount && first.origin.cachedBytes == 0)
        #expect(try first.keep() == first.unkeptBytes)
        let second = try load(file, cache: cache, placement: placement)
        #expect(second.origin.packedBytes == 0 && second.origin.cachedBytes == second.byteCount && second.origin.refused.isEmpty)
        #expect(second.unkeptBytes == 0)
        #expect((second.origin.mappedBytes > 0) == (placement == .anywhere))
        let reference = try logits(load(file, cache: nil))
        #expect(try logits(first) == reference)
        #expect(try logits(second) == reference)
    }

    /// One cut's files serve another cut, and a tied head finds the embedding that the first stage kept.
    @Test(arguments: [false, true]) func anotherCutFindsTheSameLayers(tiedHead: Bool) throws {
        let file = try tiny(.q8_0, tiedHead: tiedHead)
        try keep(file, StageSlice(layers: 0..<2, hasEmbedding: true, hasHead: false))
        let last = try load(file, StageSlice(layers: 1..<3, hasEmbedding: false, hasHead: true), cache: cache)
        let model = last.model
        let layer = try StageWeights.byteCount(file: file, model: model, slice: StageSlice(layers: 1..<2, hasEmbedding: false, hasHead: false))
        let first = StageSlice(layers: 0..<1, hasEmbedding: true, hasHead: false)
        let embedding = try StageWeights.byteCount(file: file, model: model, slice: first) - layer
        #expect(last.origin.cachedBytes == layer + (tiedHead ? embedding : 0))
        #expect(last.origin.packedBytes == last.byteCount - last.origin.cachedBytes)
        #expect(try last.keep() == last.unkeptBytes)
        #expect(try load(file, cache: cache).origin.packedBytes == 0)
    }

    @Test func progressAscendsToTheWholeFromTheCacheToo() throws {
        let file = try tiny()
        try keep(file)
        var told: [Int] = []
        var total = 0
        let model = try ModelConfiguration(file: file)
        _ = try StageWeights(file: file, model: model, slice: .whole(model), pool: pool, cache: cache) {
            told.append($0)
            total = $1
        }
        #expect(told == told.sorted() && told.last == total)
        #expect(total == file.tensors.reduce(0) { $0 + $1.byteCount })
    }

    @Test func aLoadFromTheCacheCanBeEnded() throws {
        struct Stopped: Error {}
        let file = try tiny()
        try keep(file)
        let model = try ModelConfiguration(file: file)
        #expect(throws: Stopped.self) {
            try StageWeights(file: file, model: model, slice: .whole(model), pool: pool, cache: cache) { _, _ in throw Stopped() }
        }
    }

    // MARK: Misses

    /// Loads after `damage` to one layer's file: it is refused for that reason, packed anew with the same bits, and kept again.
    private func expectRefusal(_ refusal: PackedRefusal, of file: GGUFFile, after damage: (String) throws -> Void) throws {
        let path = try #require(folder.files.first { $0.hasSuffix("layer-1.packed") })
        #expect(chmod(path, 0o600) == 0)
        try damage(path)
        let reference = try logits(load(file, cache: nil))
        for placement in [WeightPlacement.anywhere, .nearTheirThreads] {
            let again = try load(file, cache: cache, placement: placement)
            #expect(again.origin.refused.map(\.refusal) == [refusal] && again.origin.refused.map(\.unit) == [.layer(1)])
            #expect(again.origin.packedBytes > 0 && again.origin.packedBytes < again.byteCount)
            #expect(try logits(again) == reference)
            if placement == .nearTheirThreads { #expect(try again.keep() == again.unkeptBytes) }
        }
        let healed = try load(file, cache: cache)
        #expect(healed.origin.packedBytes == 0 && healed.origin.refused.isEmpty)
    }

    private func edit(_ path: String, _ change: (inout Data) -> Void) throws {
        var data = try Data(contentsOf: URL(fileURLWithPath: path))
        change(&data)
        try data.write(to: URL(fileURLWithPath: path))
    }

    @Test(arguments: [1, 2, 3]) func aFlippedBitIsFoundWhereverItIs(seed: UInt64) throws {
        let file = try tiny()
        try keep(file)
        let weights = try load(file, StageSlice(layers: 1..<2, hasEmbedding: false, hasHead: false), cache: nil)
        var random = SeededRandom(seed: seed)
        for _ in 0..<8 {
            let at = Int.random(in: 0..<weights.byteCount, using: &random)
            let bit = UInt8.random(in: 0..<8, using: &random)
            try expectRefusal(.damagedWeights, of: file) { path in try edit(path) { $0[at] ^= 1 << bit } }
        }
    }

    @Test func cutGrownAndForeignFilesAreRefused() throws {
        let file = try tiny()
        try keep(file)
        try expectRefusal(.wrongSize, of: file) { path in try edit(path) { $0.removeLast() } }
        try expectRefusal(.wrongSize, of: file) { path in try edit(path) { $0.append(0) } }
        try expectRefusal(.wrongSize, of: file) { path in try edit(path) { $0.removeAll() } }
        try expectRefusal(.foreign, of: file) { path in try edit(path) { $0 = Data(repeating: 0, count: $0.count) } }
        try expectRefusal(.unreadable, of: file) { path in
            try FileManager.default.removeItem(atPath: path)
            try FileManager.default.createDirectory(atPath: path + ".d", withIntermediateDirectories: true)
            try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: path + ".d")
        }
    }

    @Test func aTableThatSaysOtherwiseIsRefused() throws {
        let file = try tiny()
        try keep(file)
        let size = try #require(folder.files.first { $0.hasSuffix("layer-1.packed") }).fileBytes
        let table = size - PackedTable.pageBytes
        func change(_ offset: Int, _ refusal: PackedRefusal) throws {
            try expectRefusal(refusal, of: file) { path in try edit(path) { $0[table + offset] ^= 1 } }
        }
        try change(0, .foreign)
        try change(8, .otherVersion)
        try change(12, .otherVersion)  // SK_PACKED_VERSION
        try change(24, .otherWeights)  // data bytes
        try change(44, .otherWeights)  // layer
        try change(50, .otherWeights)  // digest
        try change(88, .otherWeights)  // size of the model file
        let end = try Data(contentsOf: URL(fileURLWithPath: folder.files.first { $0.hasSuffix("layer-1.packed") }!)).lastIndex { $0 != 0 }!
        try change(end - table, .damagedTable)
    }

    @Test func anotherLayersFileIsRefused() throws {
        let file = try tiny()
        try keep(file)
        try expectRefusal(.otherWeights, of: file) { path in
            let other = path.replacingOccurrences(of: "layer-1", with: "layer-2")
            try FileManager.default.removeItem(atPath: path)
            try FileManager.default.copyItem(atPath: other, toPath: path)
        }
    }

    /// Same headers, same size, same time; only the weights differ: a second training under the first one's name.
    @Test func anotherTrainingOfTheSameModelIsRefused() throws {
        let first = try tiny(seed: 1)
        let second = try tiny(seed: 2)
        #expect(ModelDigest(first) == ModelDigest(second) && first.stamps == second.stamps)
        try keep(first)
        let weights = try load(second, cache: cache)
        #expect(weights.origin.cachedBytes == 0 && Set(weights.origin.refused.map(\.refusal)) == [.otherWeights])
        #expect(try logits(weights) == logits(load(second, cache: nil)))
        #expect(try logits(weights) != logits(load(first, cache: nil)))
    }

    /// A file on disk that was changed has another time, and so another folder.
    @Test func aChangedModelFileIsAnotherModel() throws {
        var writer = GGUFWriter(metadata: try tiny().metadata)
        for tensor in try tiny().tensors { writer.add(tensor.name, type: tensor.type, shape: tensor.shape, bytes: Array(tensor.bytes)) }
        let path = folder.file("model.gguf")
        try writer.write(to: path)
        try keep(GGUFFile(path: path))
        #expect(try load(GGUFFile(path: path), cache: cache).origin.packedBytes == 0)
        var times = [timespec(tv_sec: 5, tv_nsec: 0), timespec(tv_sec: 5, tv_nsec: 0)]
        #expect(utimensat(AT_FDCWD, path, &times, 0) == 0)
        let again = try load(GGUFFile(path: path), cache: cache)
        #expect(again.origin.cachedBytes == 0 && again.origin.refused.isEmpty)
    }
}

extension String {
    /// Size of the file at this path.
    fileprivate var fileBytes: Int {
        get throws { try FileManager.default.attributesOfItem(atPath: self)[.size] as? Int ?? 0 }
    }
}
