import CKernels
import ModelFiles

/// Where each weight of a stage will lie in memory, and from which tensor it comes; filled in order, loaded once.
struct WeightLayout {
    /// A matrix to be packed at `offset`.
    struct MatrixPlace {
        let type: sk_type
        let rows: Int
        let columns: Int
        let offset: Int
    }

    /// Floats at `offset`.
    struct VectorPlace {
        let count: Int
        let offset: Int
    }

    private struct MatrixSource {
        let tensor: Tensor
        let place: MatrixPlace
    }

    private struct VectorSource {
        let tensor: Tensor
        let place: VectorPlace
    }

    private let file: GGUFFile
    private var matrices: [MatrixSource] = []
    private var vectors: [VectorSource] = []
    private(set) var byteCount = 0

    init(file: GGUFFile) { self.file = file }

    /// A matrix of `rows` outputs and `columns` inputs.
    mutating func matrix(_ name: String, rows: Int, columns: Int) throws(EngineError) -> MatrixPlace {
        let tensor = try tensor(name, rows: rows, columns: columns)
        guard sk_type_is_supported(UInt32(tensor.type.rawValue)) else {
            throw EngineError(
                .unsupportedType,
                "The tensor '\(name)' is stored as \(tensor.type.name), for which there are no kernels yet. Use a model file of F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 or IQ4_NL."
            )
        }
        let type = sk_type(rawValue: UInt32(tensor.type.rawValue))
        let place = MatrixPlace(type: type, rows: rows, columns: columns, offset: byteCount)
        byteCount += AlignedMemory.aligned(sk_packed_bytes(type, Int32(rows), Int32(columns)))
        matrices.append(MatrixSource(tensor: tensor, place: place))
        return place
    }

    /// Vectors laid end to end as one.
    mutating func vector(_ parts: [(name: String, count: Int)]) throws(EngineError) -> VectorPlace {
        let start = byteCount
        for part in parts {
            let tensor = try tensor(part.name, rows: 1, columns: part.count)
            vectors.append(VectorSource(tensor: tensor, place: VectorPlace(count: part.count, offset: byteCount)))
            byteCount += part.count * MemoryLayout<Float>.stride
        }
        let place = VectorPlace(count: (byteCount - start) / MemoryLayout<Float>.stride, offset: start)
        byteCount = AlignedMemory.aligned(byteCount)
        return place
    }

    mutating func vector(_ name: String, count: Int) throws(EngineError) -> VectorPlace {
        try vector([(name, count)])
    }

    private func tensor(_ name: String, rows: Int, columns: Int) throws(EngineError) -> Tensor {
        guard let tensor = file.tensor(name) else {
            throw EngineError(.wrongTensor, "The model file lacks the tensor '\(name)'. It is incomplete; fetch or convert it again.")
        }
        guard tensor.rows == rows, tensor.columns == columns else {
            throw EngineError(
                .wrongTensor,
                "The tensor '\(name)' has \(tensor.rows) rows of \(tensor.columns), but the model's configuration asks for \(rows) of \(columns). Convert the model again."
            )
        }
        return tensor
    }

    // MARK: Loading

    /// Bytes of the file that one run of the pool reads: enough to keep all threads busy, little enough that progress is
    /// told several times a second from a slow disk.
    private static let waveBytes = 16 << 20
    /// Bytes of the file that one thread reads at a time.
    private static let pieceBytes = 512 << 10

    /// Some rows of one matrix, the first a multiple of the kernels' row group.
    private struct Piece {
        let source: MatrixSource
        let rows: Range<Int>
        var fileBytes: Int { rows.count * source.tensor.rowBytes }
    }

    /// Makes the memory and fills it. `progress` is called on the calling thread.
    func load(pool: ComputePool, progress: (_ bytesDone: Int, _ bytesTotal: Int) throws -> Void) throws -> AlignedMemory {
        let memory = try AlignedMemory(byteCount: byteCount, for: "the weights")
        let total = matrices.reduce(0) { $0 + $1.tensor.byteCount } + vectors.reduce(0) { $0 + $1.tensor.byteCount }
        var done = 0
        for source in vectors {
            let floats = memory.bound(to: Float.self, at: source.place.offset, count: source.place.count)
            source.tensor.dequantize(rows: 0..<1, into: UnsafeMutableBufferPointer(start: floats, count: source.place.count))
            done += source.tensor.byteCount
        }
        try progress(done, total)

        var wave: [Piece] = []
        var waiting = 0
        for piece in pieces() {
            wave.append(piece)
            waiting += piece.fileBytes
            guard waiting >= Self.waveBytes else { continue }
            Self.pack(wave, into: memory, pool: pool)
            done += waiting
            try progress(done, total)
            wave.removeAll(keepingCapacity: true)
            waiting = 0
        }
        if !wave.isEmpty {
            Self.pack(wave, into: memory, pool: pool)
            try progress(done + waiting, total)
        }
        return memory
    }

    private func pieces() -> [Piece] {
        let group = Int(SK_ROW_GROUP)
        return matrices.flatMap { source in
            let rows = max(1, Self.pieceBytes / max(1, source.tensor.rowBytes) / group) * group
            return stride(from: 0, to: source.place.rows, by: rows).map { first in
                Piece(source: source, rows: first..<min(first + rows, source.place.rows))
            }
        }
    }

    private static func pack(_ pieces: [Piece], into memory: AlignedMemory, pool: ComputePool) {
        pool.run { thread, threads in
            for index in stride(from: thread, to: pieces.count, by: threads) {
                let piece = pieces[index]
                let place = piece.source.place
                let offset = place.offset + sk_packed_offset(place.type, Int32(piece.rows.lowerBound), Int32(place.columns))
                let rows = piece.source.tensor.bytes.baseAddress! + piece.rows.lowerBound * piece.source.tensor.rowBytes
                sk_pack_rows(place.type, rows, Int32(piece.rows.count), Int32(place.columns), memory.base + offset)
            }
        }
    }
}

extension AlignedMemory {
    func matrix(_ place: WeightLayout.MatrixPlace) -> sk_matrix {
        sk_matrix(type: place.type, rows: Int32(place.rows), columns: Int32(place.columns), packed: UnsafeRawPointer(base + place.offset))
    }

    func vector(_ place: WeightLayout.VectorPlace) -> UnsafePointer<Float> {
        UnsafePointer(bound(to: Float.self, at: place.offset, count: place.count))
    }
}
