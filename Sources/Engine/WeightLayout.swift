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
    private let source: any ModelSource
    private(set) var matrices: [MatrixSource] = []
    private(set) var vectors: [VectorSource] = []
    /// Memory that the packed unit takes.
    private(set) var byteCount = 0

    init(_ unit: WeightUnit, source: any ModelSource) {
        self.unit = unit
        self.source = source
    }

    /// Bytes of the file from which the unit is packed.
    var sourceBytes: Int { matrices.reduce(0) { $0 + $1.tensor.byteCount } + vectors.reduce(0) { $0 + $1.tensor.byteCount } }

    mutating func matrix(_ wanted: ModelTensors.Wanted) throws(EngineError) -> MatrixPlace {
        try place(try find(wanted)[0])
    }

    /// One for each expert, in order.
    mutating func experts(_ wanted: ModelTensors.Wanted) throws(EngineError) -> [MatrixPlace] {
        var places: [MatrixPlace] = []
        for tensor in try find(wanted) { places.append(try place(tensor)) }
        return places
    }

    private mutating func place(_ tensor: Tensor) throws(EngineError) -> MatrixPlace {
        let (name, rows, columns) = (tensor.name, tensor.rows, tensor.columns)
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
    mutating func vector(_ parts: [ModelTensors.Wanted]) throws(EngineError) -> VectorPlace {
        let start = byteCount
        for part in parts {
            let tensor = try find(part)[0]
            vectors.append(VectorSource(tensor: tensor, place: VectorPlace(count: part.columns, offset: byteCount)))
            byteCount += part.columns * MemoryLayout<Float>.stride
        }
        let place = VectorPlace(count: (byteCount - start) / MemoryLayout<Float>.stride, offset: start)
        byteCount = AlignedMemory.aligned(byteCount)
        return place
    }

    mutating func vector(_ wanted: ModelTensors.Wanted) throws(EngineError) -> VectorPlace {
        try vector([wanted])
    }

    private func find(_ wanted: ModelTensors.Wanted) throws(EngineError) -> [Tensor] {
        do throws(ModelFileError) {
            return try ModelTensors.find(wanted, in: source).tensors
        } catch {
            throw EngineError(.wrongTensor, error.message)
        }
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
