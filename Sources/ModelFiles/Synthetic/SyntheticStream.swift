import CKernels

/// Makes the bytes of one tensor after the other on several threads and hands them to the file in order.
///
/// A tensor is cut into pieces of a fixed size, each with a seed of its own, so that threads only decide who makes a piece.
final class SyntheticStream {
    /// About the bytes of a piece; some pieces are in memory for each thread.
    private static let pieceBytes = 1 << 20
    private static let piecesPerThread = 2

    private let pool: OpaquePointer
    private let threads: Int
    private let bytesTotal: Int
    private var bytesDone = 0
    private let isHalfHollow: Bool
    private let progress: (_ bytesDone: Int, _ bytesTotal: Int) -> Void
    private var buffer: [UInt8] = []

    /// - Parameter isHalfHollow: every second piece is a hole.
    init(threads: Int, bytesTotal: Int, isHalfHollow: Bool = false, progress: @escaping (Int, Int) -> Void) throws(ModelFileError) {
        guard (1...1024).contains(threads), let pool = sk_pool_create(Int32(threads), nil) else {
            throw ModelFileError(.invalidValue, "\(threads) threads were asked for, which the system would not give. Ask for fewer.")
        }
        self.pool = pool
        self.threads = threads
        self.isHalfHollow = isHalfHollow
        self.bytesTotal = bytesTotal
        self.progress = progress
    }

    deinit { sk_pool_destroy(pool) }

    func write(_ blocks: SyntheticBlocks, byteCount: Int, seed: UInt64, into sink: inout ByteSink) throws(ModelFileError) {
        let pieceBytes = max(1, Self.pieceBytes / blocks.type.blockBytes) * blocks.type.blockBytes
        let waveBytes = pieceBytes * threads * Self.piecesPerThread
        if buffer.count < waveBytes { buffer = [UInt8](repeating: 0, count: waveBytes) }
        var seeds = SyntheticRandom(seed: seed)
        for start in stride(from: 0, to: byteCount, by: waveBytes) {
            let count = min(waveBytes, byteCount - start)
            fill(blocks, count: count, pieceBytes: pieceBytes, seeds: &seeds)
            if isHalfHollow {
                // Waves are an even number of pieces: the number of threads decides nothing.
                for first in stride(from: 0, to: count, by: 2 * pieceBytes) {
                    try sink.write(buffer[first..<min(first + pieceBytes, count)])
                    try sink.skip(max(0, min(pieceBytes, count - first - pieceBytes)))
                }
            } else if count == buffer.count {
                try sink.write(buffer)
            } else {
                try sink.write(buffer[..<count])
            }
            bytesDone += count
            progress(bytesDone, bytesTotal)
        }
    }

    private struct Wave {
        let blocks: SyntheticBlocks
        let pieces: [UnsafeMutableRawBufferPointer]
        let seeds: [UInt64]
    }

    private func fill(_ blocks: SyntheticBlocks, count: Int, pieceBytes: Int, seeds: inout SyntheticRandom) {
        buffer.withUnsafeMutableBytes { bytes in
            let pieces = stride(from: 0, to: count, by: pieceBytes).map { first in
                UnsafeMutableRawBufferPointer(rebasing: bytes[first..<min(first + pieceBytes, count)])
            }
            var wave = Wave(blocks: blocks, pieces: pieces, seeds: pieces.map { _ in seeds.next() })
            withUnsafeMutablePointer(to: &wave) { pointer in
                sk_pool_run(pool, { argument, thread, threads in
                    let wave = argument!.assumingMemoryBound(to: Wave.self).pointee
                    for index in stride(from: Int(thread), to: wave.pieces.count, by: Int(threads)) {
                        wave.blocks.fill(wave.pieces[index], seed: wave.seeds[index])
                    }
                }, pointer)
            }
        }
    }
}
