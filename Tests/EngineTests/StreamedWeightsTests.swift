import CKernels
import Foundation
import ModelFiles
import Testing

@testable import Engine

/// Weights that come from disk with every step give the bits of those in memory, and take no more of it than they may.
@Suite struct StreamedWeightsTests {
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

    private static func tiny(_ type: TensorType = .q4_0, layers: Int = 9, tiedHead: Bool = false, experts: Bool = false) throws -> TinyModel {
        var options = TinyModel.Options()
        options.layers = layers
        options.tiedHead = tiedHead
        options.qkvBias = !experts
        options.architecture = experts ? .llama : .qwen2
        if experts { options.experts = .init(count: 4, used: 2, router: .softmaxOfAll) }
        return try TinyModel(type, options)
    }

    private func weights(_ tiny: TinyModel, _ slice: StageSlice? = nil, memory: Int?, later: Bool = false) throws -> StageWeights {
        try StageWeights(
            file: tiny.file, model: tiny.configuration, slice: slice ?? .whole(tiny.configuration), pool: pool, cache: cache, memoryMax: memory,
            begin: later ? .later : .now)
    }

    /// Memory for what always stays and so many layers, the ring's among them.
    private func memory(_ tiny: TinyModel, layers: Int) throws -> Int {
        let counts = try StageWeights.byteCounts(file: tiny.file, model: tiny.configuration)
        let page = PackedTable.pageBytes
        func pages(_ bytes: Int) -> Int { (bytes + page - 1) / page * page }
        let always = pages(counts.embedding) + pages(counts.head)
        return always + layers * pages(counts.layers.max()!)
    }

    private func logits(_ weights: StageWeights, steps: Int = 1) throws -> [[UInt32]] {
        let stage = try Stage(weights: weights, kvBlocks: 2, pool: pool, instructionSet: .supported.last!)
        let tokens: [Int32] = [3, 1, 4, 1, 5, 92, 65]
        var rows: [[UInt32]] = []
        for step in 0..<steps {
            let part = step == 0 ? tokens : [Int32(step)]
            let segment = BatchSegment(
                sequence: 1, start: step == 0 ? 0 : tokens.count + step - 1, tokens: part, newBlocks: step == 0 ? [0] : [], samples: false)
            let opens = step == 0 ? [SequenceOpening(sequence: 1, tokens: tokens, promptLength: tokens.count)] : []
            try stage.logits(StageBatch(opens: opens, segments: [segment])) { _, row in rows.append(row.map(\.bitPattern)) }
        }
        return rows
    }

    // MARK: Equality

    @Test(arguments: TinyModel.types) func streamedLayersGiveTheSameBits(type: TensorType) throws {
        let tiny = try Self.tiny(type)
        let reference = try logits(weights(tiny, memory: nil), steps: 5)
        for layers in [2, 3, 5] {
            let streamed = try weights(tiny, memory: memory(tiny, layers: layers))
            #expect(streamed.streamedBytesPerStep > 0)
            #expect(try logits(streamed, steps: 5) == reference)
            #expect(streamed.streamTotals.bytes >= 5 * UInt64(streamed.streamedBytesPerStep))
        }
    }

    @Test(arguments: [false, true]) func tiedHeadsAndExpertsToo(experts: Bool) throws {
        let tiny = try Self.tiny(.q8_0, tiedHead: !experts, experts: experts)
        let streamed = try weights(tiny, memory: memory(tiny, layers: 3))
        #expect(streamed.streamedBytesPerStep > 0)
        #expect(try logits(streamed, steps: 3) == logits(weights(tiny, memory: nil), steps: 3))
    }

    @Test(arguments: [[], [6], [4, 8]]) func cutsChangeNothing(cuts: [Int]) throws {
        let tiny = try Self.tiny(layers: 12)
        let tokens = tiny.tokens(40, seed: 5)
        let reference = try Pipeline(tiny).logits(of: tokens, chunks: [40])
        let bound = try memory(tiny, layers: 2)
        let pipeline = try Pipeline(tiny, cuts: cuts, cache: cache, memoryMax: bound)
        #expect(pipeline.stages.contains { $0.weights.streamedBytesPerStep > 0 })
        #expect(try pipeline.logits(of: tokens, chunks: [17, 1, 1, 21]) == reference)
    }

    /// A step that leaves layers out turns the ring to where the next one begins.
    @Test func stepsMayLeaveLayersOut() throws {
        let tiny = try Self.tiny()
        let stream = try #require(weights(tiny, memory: memory(tiny, layers: 2)).streamed)
        var random = SeededRandom(seed: 3)
        for _ in 0..<60 {
            let first = Int.random(in: 0..<9, using: &random)
            for layer in first..<Int.random(in: first + 1...9, using: &random) {
                let place = try stream.acquire(layer: layer)
                let index = 1 + layer
                let bytes = stream.places(index, byteCount: 1)[place]
                let file = try Data(contentsOf: URL(fileURLWithPath: #require(folder.files.first { $0.hasSuffix("/layer-\(layer).packed") })))
                #expect(file.prefix(4096) == Data(bytes: bytes.base, count: 4096), "layer \(layer)")
                stream.release(layer: layer)
            }
        }
    }

    // MARK: Memory

    @Test func whatFitsIsNotStreamed() throws {
        let tiny = try Self.tiny()
        let all = try StageWeights.byteCount(file: tiny.file, model: tiny.configuration, slice: .whole(tiny.configuration))
        let whole = try weights(tiny, memory: all)
        #expect(whole.streamed == nil && whole.streamedBytesPerStep == 0 && whole.byteCount == all)
        #expect(folder.files.isEmpty, "nothing was packed to disk before it served")
    }

    @Test func theBoundHoldsAndIsUsed() throws {
        let tiny = try Self.tiny()
        let layer = try StageWeights.byteCounts(file: tiny.file, model: tiny.configuration).layers[0]
        var streamedBefore = Int.max
        for layers in 2..<7 {
            let bound = try memory(tiny, layers: layers)
            let residency = try #require(weights(tiny, memory: bound).streamed?.residency)
            #expect(residency.byteCount <= bound)
            // All memory but less than one layer's is used.
            #expect(bound - residency.byteCount < WeightResidency.pages(layer))
            #expect(residency.slots == min(layers, 3))
            #expect(residency.streamed.count == 9 - (layers - residency.slots))
            #expect(residency.streamed.count <= streamedBefore)
            streamedBefore = residency.streamed.count
        }
    }

    @Test func tooLittleMemoryIsToldWithWhatIsNeeded() throws {
        let tiny = try Self.tiny()
        let bound = try memory(tiny, layers: 2)
        let error = #expect(throws: EngineError.self) { try weights(tiny, memory: bound - PackedTable.pageBytes) }
        #expect(error?.code == .memoryUnavailable)
        #expect(error?.message.contains("--weights-memory") == true && error?.message.contains("\(bound)") == true)
    }

    @Test func withoutACacheNothingCanBeStreamed() throws {
        let tiny = try Self.tiny()
        let error = #expect(throws: EngineError.self) {
            try StageWeights(
                file: tiny.file, model: tiny.configuration, slice: .whole(tiny.configuration), pool: pool, memoryMax: memory(tiny, layers: 2))
        }
        #expect(error?.code == .cacheUnusable)
    }

    @Test func aDiskThatIsTooSmallIsToldBeforeItIsWritten() throws {
        let tiny = try Self.tiny()
        var limits = PackedCache.Limits()
        limits.freeBytesMin = 0
        limits.bytesMax = 100_000
        let small = PackedCache(folder: folder.file("small"), limits: limits)
        let error = #expect(throws: EngineError.self) {
            try StageWeights(
                file: tiny.file, model: tiny.configuration, slice: .whole(tiny.configuration), pool: pool, cache: small,
                memoryMax: memory(tiny, layers: 2))
        }
        #expect(error?.code == .cacheUnusable && error?.message.contains("bytes more") == true && error?.message.contains("small") == true)
        #expect(folder.files.isEmpty)
    }

    // MARK: Files

    /// What is packed a window at a time is what is packed in memory, to the byte.
    @Test(arguments: [TensorType.f32, .q4_0, .q6_K]) func filesAreThoseThatKeepingWrites(type: TensorType) throws {
        let tiny = try Self.tiny(type, layers: 4)
        _ = try weights(tiny, memory: memory(tiny, layers: 2))
        let streamed = try folder.files.map { try Data(contentsOf: URL(fileURLWithPath: $0)) }
        try FileManager.default.removeItem(atPath: folder.file("packed"))
        let kept = try weights(tiny, memory: nil)
        #expect(try kept.keep() == kept.unkeptBytes)
        #expect(try folder.files.map { try Data(contentsOf: URL(fileURLWithPath: $0)) } == streamed && streamed.count == 6)
    }

    @Test func aSecondStartPacksNothing() throws {
        let tiny = try Self.tiny()
        let bound = try memory(tiny, layers: 3)
        #expect(try weights(tiny, memory: bound).origin.packedBytes > 0)
        let second = try weights(tiny, memory: bound)
        #expect(second.origin.packedBytes == 0 && second.origin.refused.isEmpty)
        #expect(second.origin.streamedBytes == second.streamedBytesPerStep && second.unkeptBytes == 0)
    }

    private func damage(_ name: String) throws {
        let path = try #require(folder.files.first { $0.hasSuffix("/\(name).packed") })
        #expect(chmod(path, 0o600) == 0)
        let handle = try #require(FileHandle(forUpdatingAtPath: path))
        try handle.seek(toOffset: 1000)
        let byte = try #require(handle.read(upToCount: 1)?.first)
        try handle.seek(toOffset: 1000)
        try handle.write(contentsOf: [byte ^ 4])
        try handle.close()
    }

    /// In mid-serve: an error, never a wrong bit; the next load packs the layer anew.
    @Test(arguments: ["layer-8", "embedding"]) func damageIsFoundWithEveryRead(name: String) throws {
        let tiny = try Self.tiny()
        let bound = try memory(tiny, layers: 2)
        let reference = try logits(weights(tiny, memory: nil), steps: 12)
        let streamed = try weights(tiny, memory: bound)
        let stage = try Stage(weights: streamed, kvBlocks: 2, pool: pool, instructionSet: .supported.last!)
        let opening = SequenceOpening(sequence: 1, tokens: [3], promptLength: 1)
        let first = StageBatch(opens: [opening], segments: [BatchSegment(sequence: 1, start: 0, tokens: [3], newBlocks: [0], samples: false)])
        try stage.logits(first) { _, _ in }
        try damage(name)
        var failure: EngineError?
        for position in 1..<31 where failure == nil {
            // Tokens from all over a vocabulary that fits into one piece, which is in memory already: look at another file first.
            let segment = BatchSegment(sequence: 1, start: position, tokens: [Int32(position)], newBlocks: [], samples: false)
            do { try stage.logits(StageBatch(segments: [segment])) { _, _ in } } catch { failure = error }
        }
        if name == "embedding" {
            #expect(failure == nil, "what is in memory is not read again")
            #expect(throws: EngineError.self) { try logits(weights(tiny, memory: bound)) }
        } else {
            #expect(failure?.code == .weightsLost && failure?.message.contains(name) == true)
        }
        #expect(!folder.files.contains { $0.hasSuffix("/\(name).packed") })
        let again = try weights(tiny, memory: bound)
        #expect(again.origin.packedBytes > 0)
        #expect(try logits(again, steps: 12) == reference)
    }

    /// At the start: the head stays in memory, is found damaged when it is read, and packed anew at once.
    @Test func damageInWhatStaysIsMendedWhileLoading() throws {
        let tiny = try Self.tiny()
        let bound = try memory(tiny, layers: 2)
        _ = try weights(tiny, memory: bound)
        try damage("head")
        let mended = try weights(tiny, memory: bound)
        #expect(mended.origin.refused.map(\.refusal) == [.damagedWeights] && mended.origin.packedBytes > 0)
        #expect(try logits(mended) == logits(weights(tiny, memory: nil)))
    }

    @Test func aLaterStartReadsNothingBefore() throws {
        let tiny = try Self.tiny()
        let later = try weights(tiny, memory: memory(tiny, layers: 3), later: true)
        #expect(later.streamTotals.bytes == 0)
        try later.start(pool: pool)
        #expect(try logits(later, steps: 2) == logits(weights(tiny, memory: nil), steps: 2))
    }

    /// A slice that would fit alone waits with its memory while another one has too much of it, and then has all of its weights there.
    @Test func whatFitsWaitsForTheMemoryOfAnother() throws {
        let tiny = try Self.tiny()
        let model = tiny.configuration
        let all = try StageWeights.byteCount(file: tiny.file, model: model, slice: .whole(model))
        func made(beside: Int, sharing held: StageWeights.Units? = nil) throws -> StageWeights {
            try StageWeights(
                file: tiny.file, model: model, slice: .whole(model), pool: pool, cache: cache, sharing: held, memoryMax: all + 100,
                besideBytes: beside, begin: .later)
        }
        let waiting = try made(beside: 101)
        #expect(waiting.isStreamed && waiting.streamedBytesPerStep == 0 && waiting.streamTotals.bytes == 0)
        try waiting.start(pool: pool)
        let reference = try logits(weights(tiny, memory: nil), steps: 3)
        #expect(try logits(waiting, steps: 3) == reference)
        let beside = try made(beside: 100)
        #expect(!beside.isStreamed)
        // What the other one has too takes nothing more.
        #expect(try !made(beside: all, sharing: beside.part(.whole(model))).isStreamed)
        #expect(try logits(beside, steps: 3) == reference)
    }

    // MARK: The disk

    @Test func aDiskIsMeasuredWithoutPackedFiles() throws {
        let rate = try DiskProbe.rate(cache, seed: 1)
        #expect(rate.bytesPerSecond > 0 && rate.bytesPerSecond.isFinite && rate.bytes > 0 && !rate.isOfPackedFiles)
        #expect(folder.files.isEmpty)
    }

    /// What steps would read is read; no byte is written.
    @Test func packedFilesAreWhatADiskIsMeasuredWith() throws {
        let model = folder.file("packed/0123-4567")
        try FileManager.default.createDirectory(atPath: model, withIntermediateDirectories: true)
        for (name, bytes) in [("layer-0.packed", 100 << 20), ("layer-1.packed", 29 << 20), ("layer-2.packed.partial", 5 << 20), ("notes.txt", 9 << 20)] {
            #expect(FileManager.default.createFile(atPath: "\(model)/\(name)", contents: nil))
            let handle = try #require(FileHandle(forUpdatingAtPath: "\(model)/\(name)"))
            #expect(sk_file_reserve(handle.fileDescriptor, Int64(bytes)) == 0)
            try handle.close()
        }
        let before = folder.files
        let rate = try DiskProbe.rate(cache, seed: 2)
        // 25 blocks and 7 of 4 MiB, if there was time for all of them.
        #expect(rate.isOfPackedFiles && rate.bytes > 0 && rate.bytes <= 32 * (4 << 20) && rate.bytes % (4 << 20) == 0)
        #expect(folder.files == before)
        try FileManager.default.removeItem(atPath: "\(model)/layer-0.packed")
        #expect(try !DiskProbe.rate(cache, seed: 2).isOfPackedFiles, "29 MB are no sample of a disk")
    }

    /// Bytes over the time of reading are a rate; the time in which nothing is read does not count.
    @Test func readingIsTimed() throws {
        let tiny = try Self.tiny()
        let begun = ContinuousClock.now
        let streamed = try weights(tiny, memory: memory(tiny, layers: 2))
        let layers = try #require(streamed.streamed?.residency.streamed.count)
        _ = try logits(streamed, steps: 5)
        // After it the ring is filled once more, and then nobody reads.
        func waitForRing(steps: Int) throws -> StreamTotals {
            let wanted = UInt64(streamed.streamedBytesPerStep / layers * (steps * layers + 2))
            for _ in 0..<10_000 where streamed.streamTotals.bytes < wanted { usleep(1_000) }
            let totals = streamed.streamTotals
            try #require(totals.bytes == wanted)
            return totals
        }
        let first = try waitForRing(steps: 5)
        #expect(first.readNanoseconds > 0 && Duration.nanoseconds(Int64(first.readNanoseconds)) <= ContinuousClock.now - begun)
        usleep(100_000)
        let stepped = ContinuousClock.now
        _ = try logits(streamed)
        let second = try waitForRing(steps: 6)
        #expect(second.readNanoseconds > first.readNanoseconds)
        #expect(Duration.nanoseconds(Int64(second.readNanoseconds - first.readNanoseconds)) <= ContinuousClock.now - stepped)
    }
}
