import CKernels
import Foundation
import ModelFiles
import Testing

@testable import Engine

/// Disk is taken before the first byte is written, and by one after the other.
@Suite struct PackedReservationTests {
    private static let rows = 3_000
    private static let columns = 1_024

    private let folder: TemporaryFolder
    private let file: GGUFFile
    private let pool: ComputePool

    init() throws {
        folder = try TemporaryFolder()
        var writer = GGUFWriter()
        for name in ["one", "two", "three"] {
            let bytes = [UInt8](repeating: 3, count: Self.rows * TensorType.q8_0.rowBytes(columns: Self.columns))
            writer.add(name, type: .q8_0, shape: [Self.columns, Self.rows], bytes: bytes)
        }
        file = try GGUFFile(parts: [try writer.bytes()])
        pool = try ComputePool(threads: 1)
    }

    private func cache(bytesMax: Int = 1 << 30, folder other: String? = nil) -> PackedCache {
        var limits = PackedCache.Limits()
        (limits.bytesMax, limits.freeBytesMin) = (bytesMax, 0)
        return PackedCache(folder: other ?? folder.path, limits: limits)
    }

    private func layout(_ index: Int) throws -> WeightLayout {
        var layout = WeightLayout(.layer(index), source: file)
        _ = try layout.matrix(.init(["one", "two", "three"][index], columns: Self.columns, rows: Self.rows))
        return layout
    }

    private func entries(_ indices: [Int], _ cache: PackedCache) throws -> [PackedEntry] {
        try indices.map { try cache.entry(layout($0), of: file, digest: ModelDigest(file)) }
    }

    private func write(_ reservation: PackedReservation, _ index: Int) throws -> PackedWriter.Outcome {
        var window = try UnitWindow(layout(index), pool: pool)
        return try PackedWriter.write(reservation, leavesNothingCached: true, isCancelled: { false }) { try window.bytes($0) }
    }

    private func reserve(_ entry: PackedEntry, _ cache: PackedCache) throws -> PackedReservation {
        let made = try PackedReservation.make([entry], in: cache)[0]
        return try #require(made)
    }

    private func diskBytes(_ path: String) -> Int {
        var status = stat()
        return lstat(path, &status) == 0 ? Int(status.st_blocks) * 512 : -1
    }

    @Test func diskIsTakenAtOnce() throws {
        let cache = cache()
        let entries = try entries([0, 1], cache)
        let made = try PackedReservation.make(entries, in: cache)
        let reserved = made.compactMap { $0 }
        #expect(reserved.count == 2)
        for one in reserved { #expect(diskBytes(one.partial) >= one.entry.table.fileBytes) }
        #expect(folder.files.count == 2 && folder.files.allSatisfy { $0.hasSuffix(".partial") })
        for (index, one) in reserved.enumerated() { #expect(try write(one, index) == .written) }
        #expect(folder.files == entries.map(cache.path))
        for entry in entries {
            let opened = try cache.open(entry).get()
            let found = try #require(opened)
            let chunks = found.table.chunkCount
            let memory = try AlignedMemory(byteCount: chunks * PackedTable.chunkBytes, for: "a test")
            #expect((0..<chunks).allSatisfy { found.read(chunk: $0, to: memory.base) })
        }
    }

    /// Two workers of one machine, each of which would fit alone: the second one hears of it before either has written anything.
    @Test func whatAnotherHasTakenIsTaken() throws {
        let bytes = try entries([0], cache())[0].table.fileBytes
        let cache = cache(bytesMax: 5 * bytes / 2)
        let first = try PackedReservation.make(entries([0, 1], cache), in: cache)
        let error = #expect(throws: EngineError.self) { try PackedReservation.make(entries([2], cache), in: cache) }
        #expect(error?.code == .cacheUnusable && error?.message.contains("pass its limit") == true)
        #expect(folder.files.count == 2, "who had no room leaves nothing")
        // What another writes already is not taken twice, and so it fits.
        let second = try PackedReservation.make(entries([0, 1], cache), in: cache)
        #expect(second.allSatisfy { $0 == nil })
        withExtendedLifetime(first) {}
    }

    @Test func whoGivesUpGivesItBack() throws {
        let cache = cache()
        struct Enough: Error {}
        func giveUp() throws {
            let reserved = try PackedReservation.make(entries([0, 1, 2], cache), in: cache).compactMap { $0 }
            #expect(try write(reserved[1], 1) == .written)
            #expect(throws: Enough.self) { try PackedWriter.write(reserved[0], isCancelled: { false }) { _ in throw Enough() } }
        }
        try giveUp()
        #expect(folder.files == [cache.path(try entries([1], cache)[0])])
    }

    /// It left a longer file with other bytes, and no lock.
    @Test func whatAKilledOneLeftIsWrittenOver() throws {
        let cache = cache()
        let entry = try entries([0], cache)[0]
        let path = cache.path(entry)
        try FileManager.default.createDirectory(atPath: "\(folder.path)/\(entry.model)", withIntermediateDirectories: true)
        try Data(repeating: 0x5A, count: entry.table.fileBytes + 9_999).write(to: URL(fileURLWithPath: path + ".partial"))
        #expect(try write(reserve(entry, cache), 0) == .written)
        let kept = try Data(contentsOf: URL(fileURLWithPath: path))
        try FileManager.default.removeItem(atPath: path)
        #expect(try write(reserve(entry, cache), 0) == .written)
        #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == kept && kept.count == entry.table.fileBytes)
    }

    /// A file system in memory says at once that it has not so much.
    @Test(.enabled(if: FileManager.default.isWritableFile(atPath: "/dev/shm"))) func aFullDiskIsSaidByItsNumber() throws {
        let path = "/dev/shm/staffel-test-\(UUID().uuidString)"
        let descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        unlink(path)
        #expect(sk_file_reserve(descriptor, 1 << 50) == ENOSPC)
        #expect(sk_file_reserve(descriptor, 1 << 20) == 0)
    }

    /// Two processes that each lack what the other writes: neither waits while it holds what the other waits for.
    @Test func loadersOfOverlappingSlicesDoNotWaitInACircle() throws {
        let cache = cache(folder: folder.file("packed"))
        var options = TinyModel.Options()
        options.layers = 9
        let tiny = try TinyModel(.q4_0, options)
        let counts = try StageWeights.byteCounts(file: tiny.file, model: tiny.configuration)
        let memory = counts.head + counts.embedding + 3 * (counts.layers.max()! + 8192)
        let done = DispatchSemaphore(value: 0)
        let (source, model) = (tiny.file, tiny.configuration)
        for _ in 0..<4 {
            Thread {
                do {
                    let pool = try ComputePool(threads: 1)
                    let weights = try StageWeights(file: source, model: model, slice: .whole(model), pool: pool, cache: cache, memoryMax: memory)
                    #expect(weights.streamedBytesPerStep > 0)
                } catch { Issue.record("\(error)") }
                done.signal()
            }.start()
        }
        for _ in 0..<4 { #expect(done.wait(timeout: .now() + 60) == .success) }
        #expect(folder.files.count == 11 && folder.files.allSatisfy { $0.hasSuffix(".packed") })
    }
}
