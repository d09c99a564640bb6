import CKernels
import ModelFiles

/// Where each weight of a unit lies in the unit's memory, and from which tensor it comes. Reads no tensor.
struct WeightLayout {
    /// A matrix packed at `offset`.
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

    struct MatrixSource {
        let tensor: Tensor
        let place: MatrixPlace
    }

    struct VectorSource {
        let tensor: Tensor
        let place: VectorPlace
    }

    let unit: WeightUnit
    private let file: GGUFFile
    private(set) var matrices: [MatrixSource] = []
    private(set) var vectors: [VectorSource] = []
    /// Memory that the packed unit takes.
    private(set) var byteCount = 0

    init(_ unit: WeightUnit, file: GGUFFile) {
        self.unit = unit
        self.file = file
    }

    /// Bytes of the file from which the unit is packed.
    var sourceBytes: Int { matrices.reduce(0) { $0 + $1.tensor.byteCount } + vectors.reduce(0) { $0 + $1.tensor.byteCount } }

    /// A matrix of `rows` outputs and `columns` inputs.
    mutating func matrix(_ name: String, rows: Int, columns: Int) throws(EngineError) -> MatrixPlace {
        let tensor = try tensor(name, rows: rows, columns: columns)
        guard sk_type_is_supported(UInt32(tensor.type.rawValue)) else {
            let supported = TensorType.allCases.filter { sk_type_is_supported(UInt32($0.rawValue)) }.map(\.name).joined(separator: ", ")
            throw EngineError(
                .unsupportedType,
                "The tensor '\(name)' is stored as \(tensor.type.name), for which there are no kernels yet. Use a model file of these types: \(supported)."
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
}

extension WeightLayout.MatrixPlace {
    /// The matrix, in memory that begins at `base`.
    func matrix(at base: UnsafeRawPointer) -> sk_matrix {
        sk_matrix(type: type, rows: Int32(rows), columns: Int32(columns), packed: base + offset)
    }

    var packedBytes: Int { sk_packed_bytes(type, Int32(rows), Int32(columns)) }

    /// Where a row, a multiple of the kernels' row group, begins in the unit.
    func offset(ofRow row: Int) -> Int { offset + sk_packed_offset(type, Int32(row), Int32(columns)) }
}

extension WeightBytes {
    func matrix(_ place: WeightLayout.MatrixPlace) -> sk_matrix {
        precondition(place.offset + place.packedBytes <= byteCount, "a matrix outside of its unit")
        return place.matrix(at: base)
    }

    func vector(_ place: WeightLayout.VectorPlace) -> UnsafePointer<Float> {
        precondition(place.offset + place.count * MemoryLayout<Float>.stride <= byteCount, "a vector outside of its unit")
        return (base + place.offset).bindMemory(to: Float.self, capacity: place.count)
    }
}
