import CKernels
import ModelFiles

/// Packs units from the model file. The file is read in pieces into one buffer a thread and not through its mapping, so that
/// no page of it stays in this process: what a load takes is the packed weights and `bufferBytes`.
struct WeightPacker {
    let pool: ComputePool

    typealias Target = (layout: WeightLayout, base: UnsafeMutableRawPointer)

    /// Some rows of one matrix, the first a multiple of the kernels' row group.
    struct Piece {
        let tensor: Tensor
        let place: WeightLayout.MatrixPlace
        let rows: Range<Int>
        /// Where the unit's memory begins.
        var base: UnsafeMutableRawPointer
        var fileRange: Range<Int> { rows.lowerBound * tensor.rowBytes..<rows.upperBound * tensor.rowBytes }
        /// In the unit's memory.
        var packedRange: Range<Int> {
            let end = rows.upperBound == place.rows ? place.offset + place.packedBytes : place.offset(ofRow: rows.upperBound)
            return place.offset(ofRow: rows.lowerBound)..<end
        }
    }

    /// Bytes of the buffers with which a pool of `threads` packs these units.
    static func bufferBytes(_ layouts: [WeightLayout], threads: Int) -> Int {
        let largest = layouts.flatMap(\.matrices).map { min(pieceRows($0.tensor), $0.place.rows) * $0.tensor.rowBytes }.max() ?? 0
        return AlignedMemory.aligned(largest) * threads
    }

    private static func pieceRows(_ tensor: Tensor) -> Int {
        let group = Int(SK_ROW_GROUP)
        return max(1, WeightLoader.pieceBytes / max(1, tensor.rowBytes) / group) * group
    }

    /// Fills the units' memory. Throws `ModelFileError` when the file can't be read, and what `progress` throws.
    func pack(_ targets: [Target], _ progress: inout LoadProgress) throws {
        for target in targets { try fillVectors(target, &progress) }
        try progress.tell()
        let buffers = try AlignedMemory(byteCount: Self.bufferBytes(targets.map(\.layout), threads: pool.threads), for: "packing the weights")
        let pieces = pieces(targets)
        var wave = nextWave(pieces, from: 0)
        while !wave.isEmpty {
            let following = nextWave(pieces, from: wave.upperBound)
            for piece in pieces[following] { piece.tensor.willRead(piece.fileRange) }
            try pack(pieces[wave], buffers)
            progress.add(pieces[wave].reduce(0) { $0 + $1.fileRange.count })
            try progress.tell()
            wave = following
        }
    }

    private func fillVectors(_ target: Target, _ progress: inout LoadProgress) throws(ModelFileError) {
        for source in target.layout.vectors {
            try Self.fill(source, at: target.base)
            progress.add(source.tensor.byteCount)
        }
    }

    /// `base`: where the unit's memory begins.
    static func fill(_ source: WeightLayout.VectorSource, at base: UnsafeMutableRawPointer) throws(ModelFileError) {
        let tensor = source.tensor
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: tensor.byteCount, alignment: 8)
        defer { bytes.deallocate() }
        try tensor.read(0..<tensor.byteCount, into: bytes)
        let floats = (base + source.place.offset).bindMemory(to: Float.self, capacity: source.place.count)
        let status = sk_dequantize_row(tensor.type.rawValue, bytes.baseAddress!, floats, source.place.count)
        precondition(status == 0, "CKernels cannot widen \(tensor.type.name)")
    }

    func pieces(_ targets: [Target]) -> [Piece] {
        targets.flatMap { target in
            target.layout.matrices.flatMap { source in
                let rows = Self.pieceRows(source.tensor)
                return stride(from: 0, to: source.place.rows, by: rows).map { first in
                    Piece(tensor: source.tensor, place: source.place, rows: first..<min(first + rows, source.place.rows), base: target.base)
                }
            }
        }
    }

    private func nextWave(_ pieces: [Piece], from start: Int) -> Range<Int> {
        var end = start
        var bytes = 0
        while end < pieces.count, bytes < WeightLoader.waveBytes {
            bytes += pieces[end].fileRange.count
            end += 1
        }
        return start..<end
    }

    func pack(_ pieces: ArraySlice<Piece>, _ buffers: AlignedMemory) throws(ModelFileError) {
        let share = buffers.byteCount / pool.threads
        var failures = [ModelFileError?](repeating: nil, count: pool.threads)
        failures.withUnsafeMutableBufferPointer { failures in
            pool.run { thread, threads in
                for index in stride(from: pieces.startIndex + thread, to: pieces.endIndex, by: threads) {
                    do throws(ModelFileError) {
                        try Self.pack(pieces[index], through: buffers.base + thread * share)
                    } catch {
                        failures[thread] = error
                        return
                    }
                }
            }
        }
        for case let failure? in failures { throw failure }
    }

    private static func pack(_ piece: Piece, through buffer: UnsafeMutableRawPointer) throws(ModelFileError) {
        let place = piece.place
        try piece.tensor.read(piece.fileRange, into: UnsafeMutableRawBufferPointer(start: buffer, count: piece.fileRange.count))
        sk_pack_rows(place.type, buffer, Int32(piece.rows.count), Int32(place.columns), piece.base + place.offset(ofRow: piece.rows.lowerBound))
    }
}
