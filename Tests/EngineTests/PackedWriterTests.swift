import Foundation
import ModelFiles
import Synchronization
import Testing

@testable import Engine

/// What may go wrong while weights are kept costs nothing but the next start's time.
@Suite struct PackedWriterTests {
    private let folder: TemporaryFolder
    private let file: GGUFFile
    private let pool: ComputePool

    init() throws {
        folder = try TemporaryFolder()
        file = try TinyModel(.q4_0).file
        pool = try ComputePool(threads: 1)
    }

    private func cache(bytesMax: Int = 1 << 30, freeBytesMin: Int = 0) -> PackedCache {
        var limits = PackedCache.Limits()
        limits.bytesMax = bytesMax
        limits.freeBytesMin = freeBytesMin
        return PackedCache(folder: folder.file("a/packed"), limits: limits)
    }

    private func load(_ file: GGUFFile, _ cache: PackedCache) throws -> StageWeights {
        let model = try ModelConfiguration(file: file)
        return try StageWeights(file: file, model: model, slice: .whole(model), pool: pool, cache: cache)
    }

    private func expectUnusable(_ weights: StageWeights, _ words: String) {
        let error = #expect(throws: EngineError.self) { try weights.keep() }
        #expect(error?.code == .cacheUnusable && error?.message.contains(words) == true, "\(String(describing: error))")
    }

    @Test func filesAreForTheirOwnerAndReadOnly() throws {
        _ = try load(file, cache()).keep()
        #expect(folder.files.count == 5)
        for path in folder.files + [folder.file("a"), folder.file("a/packed")] {
            let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
            #expect(mode == (path.hasSuffix(".packed") ? 0o400 : 0o700), "\(path)")
        }
    }

    @Test func writersOfOneFileDoNotMeet() throws {
        let cache = cache()
        let file = file
        let written = Mutex<[Int]>([])
        let problems = Mutex<[String]>([])
        let done = DispatchSemaphore(value: 0)
        let writers = 6
        for _ in 0..<writers {
            Thread {
                do {
                    let model = try ModelConfiguration(file: file)
                    let pool = try ComputePool(threads: 1)
                    let weights = try StageWeights(file: file, model: model, slice: .whole(model), pool: pool, cache: cache)
                    for _ in 0..<5 {
                        let bytes = try weights.keep()
                        written.withLock { $0.append(bytes) }
                        let seen = try StageWeights(file: file, model: model, slice: .whole(model), pool: pool, cache: cache)
                        if !seen.origin.refused.isEmpty { problems.withLock { $0.append("a half-written file was seen") } }
                    }
                } catch {
                    problems.withLock { $0.append("\(error)") }
                }
                done.signal()
            }.start()
        }
        for _ in 0..<writers { #expect(done.wait(timeout: .now() + 60) == .success) }
        #expect(problems.withLock { $0 } == [])
        #expect(written.withLock { $0.max() } ?? 0 > 0)
        #expect(folder.files.count == 5 && folder.files.allSatisfy { $0.hasSuffix(".packed") })
        let last = try load(file, cache)
        #expect(last.origin.packedBytes == 0 && last.origin.refused.isEmpty)
    }

    /// Holds the lock that a writer in another process would hold.
    @Test func aFileThatAnotherWritesIsLeftToIt() throws {
        let weights = try load(file, cache())
        _ = try weights.keep()
        let path = try #require(folder.files.first { $0.hasSuffix("layer-0.packed") })
        let all = weights.unkeptBytes
        for name in folder.files { try FileManager.default.removeItem(atPath: name) }
        let other = open(path + ".partial", O_RDWR | O_CREAT, 0o600)
        defer { close(other) }
        #expect(flock(other, LOCK_EX) == 0)
        let bytes = try weights.keep()
        #expect(bytes > 0 && bytes < all)
        #expect(!FileManager.default.fileExists(atPath: path) && FileManager.default.fileExists(atPath: path + ".partial"))
        // The other one is killed, which gives its lock back; what it left is written over.
        #expect(flock(other, LOCK_UN) == 0)
        #expect(try weights.keep() == all)
        #expect(try load(file, cache()).origin.packedBytes == 0)
    }

    @Test func keepingCanBeCancelledAndLeavesNoPart() throws {
        let weights = try load(file, cache())
        var asked = 0
        let bytes = try weights.keep {
            asked += 1
            return asked > 2
        }
        #expect(bytes > 0 && bytes < weights.unkeptBytes)
        #expect(folder.files.count == 2 && folder.files.allSatisfy { $0.hasSuffix(".packed") })
        let again = try load(file, cache())
        #expect(again.origin.cachedBytes > 0 && again.unkeptBytes == weights.unkeptBytes - bytes)
    }

    @Test func aFolderThatCannotBeMadeIsAnError() throws {
        try Data().write(to: URL(fileURLWithPath: folder.file("a")))
        let weights = try load(file, cache())
        #expect(weights.origin.packedBytes == weights.byteCount && weights.origin.refused.isEmpty)
        expectUnusable(weights, "can't be made: Not a directory")
    }

    @Test func aDiskThatIsFullIsAnError() throws {
        let weights = try load(file, cache(freeBytesMin: 1 << 60))
        expectUnusable(weights, "bytes free")
        #expect(folder.files.isEmpty)
    }

    @Test func whatWasUsedLongestAgoGoesFirst() throws {
        func model(_ seed: UInt64, context: Int) throws -> GGUFFile {
            var options = TinyModel.Options()
            options.seed = seed
            options.contextLength = context
            return try TinyModel(.q4_0, options).file
        }
        let models = try (0..<3).map { try model(UInt64($0), context: 640 + $0) }
        let whole = try load(models[0], cache()).unkeptBytes
        for model in models.prefix(2) { _ = try load(model, cache()).keep() }
        // The first model is used again, so the second one's files are the oldest.
        for path in folder.files {
            var times = [timespec(tv_sec: 1_000, tv_nsec: 0), timespec(tv_sec: 1_000, tv_nsec: 0)]
            #expect(utimensat(AT_FDCWD, path, &times, 0) == 0)
        }
        #expect(try load(models[0], cache()).origin.packedBytes == 0)
        _ = try load(models[2], cache(bytesMax: 2 * whole)).keep()
        #expect(try load(models[0], cache()).origin.packedBytes == 0)
        #expect(try load(models[2], cache()).origin.packedBytes == 0)
        let second = try load(models[1], cache())
        #expect(second.origin.cachedBytes == 0)
        #expect(folder.files.count == 10)
    }

    @Test func filesInUseAndOtherPeoplesFilesStay() throws {
        let used = try load(file, cache())
        _ = try used.keep()
        let reader = try load(file, cache())
        #expect(reader.origin.mappedBytes == reader.byteCount)
        let stranger = folder.file("a/packed/notes.txt")
        try Data(count: 100).write(to: URL(fileURLWithPath: stranger))
        var options = TinyModel.Options()
        options.contextLength = 700
        let other = try load(try TinyModel(.q4_0, options).file, cache(bytesMax: used.unkeptBytes))
        expectUnusable(other, "in use")
        #expect(folder.files.count == 6)
        withExtendedLifetime(reader) {}
    }

    @Test func aLimitThatIsTooSmallKeepsWhatFits() throws {
        let weights = try load(file, cache())
        let small = try load(file, cache(bytesMax: weights.unkeptBytes / 2))
        expectUnusable(small, "pass its limit")
        #expect(!folder.files.isEmpty && folder.files.count < 5)
    }
}
