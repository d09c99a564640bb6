import Foundation
import ModelFiles
import Testing

@testable import Engine

/// Units of several huge pages, which tiny models don't have.
@Suite struct WeightLoaderTests {
    private static let rows = 3_000
    private static let columns = 1_024

    private let folder: TemporaryFolder
    private let cache: PackedCache
    private let file: GGUFFile
    private let pool: ComputePool

    init() throws {
        folder = try TemporaryFolder()
        var limits = PackedCache.Limits()
        limits.freeBytesMin = 0
        cache = PackedCache(folder: folder.path, limits: limits)
        var random = SeededRandom(seed: 21)
        var writer = GGUFWriter()
        for name in ["one", "two"] {
            var bytes = [UInt8](repeating: 3, count: Self.rows * TensorType.q8_0.rowBytes(columns: Self.columns))
            for index in stride(from: 0, to: bytes.count, by: 101) { bytes[index] = UInt8(truncatingIfNeeded: random.next()) }
            writer.add(name, type: .q8_0, shape: [Self.columns, Self.rows], bytes: bytes)
        }
        file = try GGUFFile(parts: [try writer.bytes()])
        pool = try ComputePool(threads: 3)
    }

    private func loader() throws -> WeightLoader {
        let layouts = try ["one", "two"].enumerated().map { index, name in
            var layout = WeightLayout(.layer(index), source: file)
            _ = try layout.matrix(.init(name, columns: Self.columns, rows: Self.rows))
            return layout
        }
        return try WeightLoader(layouts, file: file, cache: cache, placement: .anywhere, pool: pool)
    }

    private func keep() throws -> WeightLoader.Loaded {
        let loader = try loader()
        let loaded = try loader.load { _, _ in }
        #expect(loaded.packed == [0, 1])
        for (entry, weights) in zip(loader.entries!, loaded.weights) {
            #expect(try PackedWriter.write(entry, weights, in: cache, isCancelled: { false }) == .written)
        }
        return loaded
    }

    private func expectEqual(_ some: WeightLoader.Loaded, _ others: WeightLoader.Loaded) {
        for (one, other) in zip(some.weights, others.weights) {
            #expect(one.byteCount == other.byteCount && memcmp(one.base, other.base, one.byteCount) == 0)
        }
    }

    /// Written by small pieces, as a copying program does it, a file has small pages in memory on every kernel known to us: then its
    /// weights are copied into huge ones, unless this system gives none.
    @Test func unitsInSmallPagesAreCopiedIntoHugeOnes() throws {
        let first = try keep()
        for path in folder.files {
            let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
            #expect(unlink(path) == 0)
            let descriptor = open(path, O_WRONLY | O_CREAT, 0o400)
            for start in stride(from: 0, to: bytes.count, by: 4_096) {
                #expect(bytes[start..<min(start + 4_096, bytes.count)].withUnsafeBytes { write(descriptor, $0.baseAddress!, $0.count) } > 0)
            }
            close(descriptor)
        }
        var told = (0, 0)
        var isAscending = true
        let second = try loader().load {
            isAscending = isAscending && $0 >= told.0
            told = ($0, $1)
        }
        expectEqual(first, second)
        #expect(second.packed == [] && second.report.refused.isEmpty)
        #expect((second.report.copiedBytes > 0) == HugePages.areGivenToMemory)
        #expect(second.report.cachedBytes == first.report.packedBytes)
        #expect(isAscending && told.0 == told.1)
    }

    /// As the writer leaves them, on kernels whose file systems give huge pages they are mapped so; on others they are copied.
    @Test func unitsAreMappedOrCopiedWithTheSameBytes() throws {
        let first = try keep()
        let second = try loader().load { _, _ in }
        expectEqual(first, second)
        #expect(second.report.cachedBytes == first.report.packedBytes && second.packed == [])
        let isCopied = second.report.hugePageBytes == 0 && HugePages.areGivenToMemory
        #expect((second.report.copiedBytes > 0) == isCopied)
    }

    /// Damage in any chunk costs that unit alone, and what was done in vain is done again in the progress.
    @Test(arguments: [0, 2_500_000, 3_263_999]) func damageInAnyChunkCostsThatUnitAlone(offset: Int) throws {
        let first = try keep()
        let path = try #require(folder.files.first { $0.hasSuffix("layer-1.packed") })
        var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
        bytes[offset] ^= 0x10
        #expect(unlink(path) == 0)
        try bytes.write(to: URL(fileURLWithPath: path))
        var told = (0, 0)
        let second = try loader().load { told = ($0, $1) }
        #expect(second.packed == [1] && second.report.refused.map(\.refusal) == [.damagedWeights])
        expectEqual(first, second)
        #expect(told.0 == told.1 && told.1 > 2 * Self.rows * TensorType.q8_0.rowBytes(columns: Self.columns))
    }
}
