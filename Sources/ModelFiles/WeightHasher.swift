import CKernels
import Crypto

/// Hashes a model file: SHA-256 of each chunk of each extent, on several threads.
///
/// The file is read in pieces and not through its mapping, so no page of it stays in this process. What it takes is one chunk a
/// thread, whatever the model's size.
package struct WeightHasher {
    package static let threadsMax = 64
    /// Chunks between two words about progress, for each thread.
    private static let chunksPerWave = 4

    private let file: any ModelSource
    private let chunkBytes: Int

    /// `chunkBytes`: of all chunks but an extent's last one.
    package init(_ file: any ModelSource, chunkBytes: Int) {
        precondition(chunkBytes > 0)
        self.file = file
        self.chunkBytes = chunkBytes
    }

    /// For each of `file.extents` the hashes of its chunks, end to end: 32 bytes a chunk. `progress` is called on this thread with
    /// bytes done and in all; what it throws ends the hashing. Throws `ModelFileError` when the file can't be read.
    package func hashes(threads: Int, progress: (_ bytesDone: Int, _ bytesTotal: Int) throws -> Void) throws -> [[UInt8]] {
        precondition((1...Self.threadsMax).contains(threads), "\(threads) threads")
        let extents = file.extents
        let chunks = extents.flatMap { extent in
            stride(from: 0, to: extent.byteCount, by: chunkBytes).map {
                HashedChunk(part: extent.part, offset: extent.offset + $0, byteCount: min(chunkBytes, extent.byteCount - $0))
            }
        }
        var flat = [UInt8](repeating: 0, count: chunks.count * ContentHash.byteCount)
        let pool = threads == 1 ? nil : sk_pool_create(Int32(threads), nil)
        guard threads == 1 || pool != nil else {
            throw ModelFileError(.limitExceeded, "The system would not give \(threads) threads for hashing. Raise the limit.")
        }
        defer { if let pool { sk_pool_destroy(pool) } }

        let total = chunks.reduce(0) { $0 + $1.byteCount }
        var done = 0
        for start in stride(from: 0, to: chunks.count, by: threads * Self.chunksPerWave) {
            let wave = start..<min(start + threads * Self.chunksPerWave, chunks.count)
            try hash(chunks, wave, into: &flat, pool: pool, threads: threads)
            done += chunks[wave].reduce(0) { $0 + $1.byteCount }
            try progress(done, total)
        }

        var first = 0
        return extents.map { extent in
            let count = (extent.byteCount + chunkBytes - 1) / chunkBytes
            defer { first += count }
            return Array(flat[first * ContentHash.byteCount..<(first + count) * ContentHash.byteCount])
        }
    }

    private func hash(_ chunks: [HashedChunk], _ wave: Range<Int>, into flat: inout [UInt8], pool: OpaquePointer?, threads: Int) throws {
        var failures = [ModelFileError?](repeating: nil, count: threads)
        flat.withUnsafeMutableBytes { flat in
            failures.withUnsafeMutableBufferPointer { failures in
                var share = HashShare(file: file, chunks: chunks[wave], flat: flat, failures: failures)
                guard let pool else { return share.run(thread: 0, threads: 1) }
                withUnsafeMutablePointer(to: &share) { pointer in
                    sk_pool_run(pool, { argument, thread, threads in
                        argument!.assumingMemoryBound(to: HashShare.self).pointee.run(thread: Int(thread), threads: Int(threads))
                    }, pointer)
                }
            }
        }
        for case let failure? in failures { throw failure }
    }
}

private struct HashedChunk {
    let part: Int
    let offset: Int
    let byteCount: Int
}

/// What the threads share. Each writes hashes of its own chunks and a failure of its own.
private struct HashShare {
    let file: any ModelSource
    /// The wave's; their indices are their places in `flat`.
    let chunks: ArraySlice<HashedChunk>
    let flat: UnsafeMutableRawBufferPointer
    let failures: UnsafeMutableBufferPointer<ModelFileError?>

    func run(thread: Int, threads: Int) {
        for index in stride(from: chunks.startIndex + thread, to: chunks.endIndex, by: threads) {
            let chunk = chunks[index]
            let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: chunk.byteCount, alignment: 64)
            defer { buffer.deallocate() }
            do throws(ModelFileError) {
                try file.read(part: chunk.part, at: chunk.offset, into: buffer)
            } catch {
                failures[thread] = error
                return
            }
            let start = index * ContentHash.byteCount
            UnsafeMutableRawBufferPointer(rebasing: flat[start..<start + ContentHash.byteCount])
                .copyBytes(from: ContentHash.sha256(UnsafeRawBufferPointer(buffer)))
        }
    }
}
