import ModelFiles

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Packs a unit a window at a time, from its first byte to its last, so that a file is made of it without the unit ever being in memory.
///
/// Packed rows lie in the order of the file's, so each piece of a matrix has a range of the unit's bytes of its own; whatever has begun in the
/// window and not ended is carried over to the next one.
struct UnitWindow {
    /// Beside the piece that does not fit any more.
    private static let windowBytes = WeightLoader.waveBytes

    private enum Part {
        case rows(WeightPacker.Piece)
        case vector(WeightLayout.VectorSource)

        var range: Range<Int> {
            switch self {
            case .rows(let piece): piece.packedRange
            case .vector(let source): source.place.offset..<source.place.offset + source.place.count * MemoryLayout<Float>.stride
            }
        }
        var sourceBytes: Int {
            switch self {
            case .rows(let piece): piece.fileRange.count
            case .vector(let source): source.tensor.byteCount
            }
        }
    }

    private let packer: WeightPacker
    private let byteCount: Int
    private let parts: [Part]
    private let buffers: AlignedMemory
    private let memory: AlignedMemory
    private var nextPart = 0
    /// The unit's bytes that are in the window, from its first byte on.
    private var held = 0..<0
    /// Of the model file, packed since it was asked last.
    private var sourceBytesDone = 0

    init(_ layout: WeightLayout, pool: ComputePool) throws(EngineError) {
        packer = WeightPacker(pool: pool)
        byteCount = layout.byteCount
        // Where the unit would begin is told to each piece when its window is known.
        let nowhere = UnsafeMutableRawPointer(bitPattern: 64)!
        parts = (packer.pieces([(layout, nowhere)]).map { Part.rows($0) } + layout.vectors.map { Part.vector($0) })
            .sorted { $0.range.lowerBound < $1.range.lowerBound }
        let largest = parts.map(\.range.count).max() ?? 0
        buffers = try AlignedMemory(byteCount: WeightPacker.bufferBytes([layout], threads: pool.threads), for: "packing the weights")
        memory = try AlignedMemory(byteCount: Self.windowBytes + PackedTable.chunkBytes + largest, for: "packing the weights")
    }

    /// Bytes `range` of the packed unit, valid until the next call; ranges come in ascending order, one after the other. Throws
    /// `ModelFileError`.
    mutating func bytes(_ range: Range<Int>) throws(ModelFileError) -> UnsafeRawBufferPointer {
        if range.upperBound > held.upperBound { try advance(to: range.lowerBound) }
        precondition(held.contains(range.lowerBound) && range.upperBound <= held.upperBound, "a window in order, wider than what is asked of it")
        return UnsafeRawBufferPointer(start: memory.base + (range.lowerBound - held.lowerBound), count: range.count)
    }

    /// Of the model file, since the last call.
    mutating func takeSourceBytesDone() -> Int {
        defer { sourceBytesDone = 0 }
        return sourceBytesDone
    }

    private mutating func advance(to start: Int) throws(ModelFileError) {
        let kept = held.upperBound - start
        precondition(kept >= 0, "nothing is left out")
        memmove(memory.base, memory.base + (start - held.lowerBound), kept)
        // Between a unit's matrices there are zeros.
        memset(memory.base + kept, 0, memory.byteCount - kept)
        let first = nextPart
        while nextPart < parts.count, parts[nextPart].range.upperBound - start <= memory.byteCount {
            sourceBytesDone += parts[nextPart].sourceBytes
            nextPart += 1
        }
        let base = memory.base - start
        var pieces: [WeightPacker.Piece] = []
        for part in parts[first..<nextPart] {
            switch part {
            case .rows(var piece):
                piece.base = base
                piece.tensor.willRead(piece.fileRange)
                pieces.append(piece)
            case .vector(let source): try WeightPacker.fill(source, at: base)
            }
        }
        try packer.pack(pieces[...], buffers)
        held = start..<(nextPart < parts.count ? parts[nextPart].range.lowerBound : byteCount)
    }
}
