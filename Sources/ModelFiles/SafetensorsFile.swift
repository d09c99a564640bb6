/// One safetensors file, with the place of each of its tensors checked against the file's size.
///
/// Eight little-endian bytes give the header's length; the header is a JSON object, perhaps with spaces after it, that gives each tensor a type, a
/// shape (rows before columns) and the bytes that it takes in the data section after the header; `__metadata__` is an object of texts. As the
/// format asks, tensors fill the data section: none shares bytes with another, none lies outside, and every byte has an owner.
struct SafetensorsFile: Sendable {
    let file: FileBytes
    /// `__metadata__`; nothing in it changes what a tensor means.
    let notes: JSONObject
    /// By place in the file. Shapes are in GGUF's order, columns first; a scalar has the shape [1].
    let tensors: [Tensor]
    /// Offset of the first byte after the header.
    let headerEnd: Int

    /// Throws `truncated`, `absurdCount`, `limitExceeded`, `invalidJSON`, `duplicateTensor`, `unknownTensorType`, `invalidShape`,
    /// `invalidValue`, `overlappingTensors`, `unclaimedBytes`, `trailingBytes` or `tensorOutsideFile`.
    init(file: FileBytes, part: Int) throws(ModelFileError) {
        let header = try Self.header(of: file)
        headerEnd = Self.lengthBytes + header.count
        let value: JSONValue
        do {
            value = try JSONValue(json: header, name: file.name)
        } catch where error.code == .duplicateKey {
            throw ModelFileError(.duplicateTensor, error.message, cause: error)
        }
        guard case .object(let members) = value else {
            throw ModelFileError(.invalidJSON, "\(file.name): the header is no JSON object. It is no safetensors file; fetch it again.")
        }
        var notes = JSONObject()
        var places: [Place] = []
        for member in members.members {
            if member.key == "__metadata__" {
                notes = try Self.notes(member.value, file.name)
            } else {
                places.append(try Place(name: member.key, value: member.value, file: file.name))
            }
        }
        guard places.count <= ModelFileLimits.tensorsMax else {
            throw ModelFileError(
                .limitExceeded, "\(file.name): \(places.count) tensors, more than the \(ModelFileLimits.tensorsMax) that are allowed. The file is no model's.")
        }
        places.sort { ($0.start, $0.end) < ($1.start, $1.end) }
        try Self.checkPlaces(places, available: file.bytes.count - headerEnd, file: file.name)
        self.file = file
        self.notes = notes
        let dataStart = headerEnd
        tensors = places.map {
            Tensor(name: $0.name, type: $0.type, shape: $0.shape, part: part, fileOffset: dataStart + $0.start, storage: file)
        }
    }

    private static let lengthBytes = 8

    private static func header(of file: FileBytes) throws(ModelFileError) -> UnsafeRawBufferPointer {
        let bytes = file.bytes
        guard bytes.count >= lengthBytes else {
            throw ModelFileError(.truncated, "\(file.name): a safetensors file begins with eight bytes for its header's length, but it has \(bytes.count). Fetch it again.")
        }
        let length = UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self))
        guard length <= UInt64(bytes.count - lengthBytes) else {
            throw ModelFileError(
                .absurdCount,
                "\(file.name): its header should have \(length) bytes, but \(bytes.count - lengthBytes) follow. It is cut short, or no safetensors file (perhaps a Git LFS pointer or an error page); fetch it again."
            )
        }
        guard length <= UInt64(ModelFileLimits.safetensorsHeaderBytesMax) else {
            throw ModelFileError(
                .limitExceeded, "\(file.name): its header has \(length) bytes; the format allows \(ModelFileLimits.safetensorsHeaderBytesMax). Fetch it again.")
        }
        let header = UnsafeRawBufferPointer(rebasing: bytes[lengthBytes..<lengthBytes + Int(length)])
        guard header.first == UInt8(ascii: "{") else {
            throw ModelFileError(.invalidJSON, "\(file.name): the header does not begin with '{'. It is no safetensors file, or an incomplete or wrong download.")
        }
        return header
    }

    private static func notes(_ value: JSONValue, _ file: String) throws(ModelFileError) -> JSONObject {
        guard case .object(let notes) = value, notes.members.allSatisfy({ $0.value.string != nil }) else {
            throw ModelFileError(.invalidValue, "\(file): '__metadata__' should be an object of texts. The file is damaged or from a faulty writer.")
        }
        return notes
    }

    /// `places` by their beginnings.
    private static func checkPlaces(_ places: [Place], available: Int, file: String) throws(ModelFileError) {
        var end = 0
        var previous = ""
        for place in places {
            guard place.end <= available else {
                throw ModelFileError(
                    .tensorOutsideFile,
                    "\(file): the tensor '\(place.name)' takes the bytes up to \(place.end) of a data section of \(available). The file is cut short or damaged; fetch it again."
                )
            }
            guard place.start >= end else {
                throw ModelFileError(.overlappingTensors, "\(file): the tensors '\(previous)' and '\(place.name)' share bytes. The file is damaged; fetch it again.")
            }
            guard place.start == end else {
                throw ModelFileError(
                    .unclaimedBytes,
                    "\(file): \(place.start - end) bytes before the tensor '\(place.name)' belong to no tensor, which the format forbids. The file is damaged or from a faulty writer.")
            }
            end = place.end
            previous = place.name
        }
        guard end == available else {
            throw ModelFileError(
                .trailingBytes, "\(file): \(available - end) bytes follow the last tensor, which the format forbids. The file is damaged or two were joined; fetch it again.")
        }
    }
}

/// What the header says of one tensor, checked by itself.
private struct Place {
    let name: String
    let type: TensorType
    /// Columns first.
    let shape: [Int]
    /// In the data section.
    let start: Int
    let end: Int

    init(name: String, value: JSONValue, file: String) throws(ModelFileError) {
        guard (1...ModelFileLimits.tensorNameBytesMax).contains(name.utf8.count) else {
            throw ModelFileError(
                .limitExceeded, "\(file): a tensor's name has \(name.utf8.count) bytes; 1 to \(ModelFileLimits.tensorNameBytesMax) are allowed. The file is damaged.")
        }
        self.name = name
        guard case .object(let members) = value, members.members.count == 3, let dtype = members["dtype"]?.string, let sizes = members["shape"]?.array,
            let offsets = members["data_offsets"]?.array
        else {
            throw ModelFileError(
                .invalidValue, "\(file): the tensor '\(name)' should have dtype, shape and data_offsets and nothing else, but is \(value.kind). The file is damaged; fetch it again.")
        }
        type = try Self.type(dtype, name, file)
        shape = try Self.shape(sizes, name, file)
        guard offsets.count == 2, let start = offsets[0].int, let end = offsets[1].int, start >= 0, end >= start else {
            throw ModelFileError(
                .invalidValue, "\(file): data_offsets of the tensor '\(name)' are not two byte counts in order. The file is damaged; fetch it again.")
        }
        (self.start, self.end) = (start, end)
        guard let bytes = Self.byteCount(shape, type) else {
            throw ModelFileError(.invalidShape, "\(file): the shape \(shape) of the tensor '\(name)' is more than a machine can address. The file is damaged; fetch it again.")
        }
        guard bytes == end - start else {
            throw ModelFileError(
                .invalidShape,
                "\(file): the tensor '\(name)' of shape \(Array(shape.reversed())) in \(dtype) takes \(bytes) bytes, but its data_offsets span \(end - start). The file is damaged; fetch it again.")
        }
    }

    private static func type(_ dtype: String, _ name: String, _ file: String) throws(ModelFileError) -> TensorType {
        switch dtype {
        case "F32": return .f32
        case "F16": return .f16
        case "BF16": return .bf16
        default:
            throw ModelFileError(
                .unknownTensorType,
                "\(file): the tensor '\(name)' is stored as '\(dtype)'; F32, F16 and BF16 are read from safetensors. Use a folder with one of these, or a GGUF file of the model.")
        }
    }

    private static func shape(_ sizes: [JSONValue], _ name: String, _ file: String) throws(ModelFileError) -> [Int] {
        guard sizes.count <= ModelFileLimits.dimensionsMax else {
            throw ModelFileError(
                .invalidShape, "\(file): the tensor '\(name)' has \(sizes.count) dimensions; at most \(ModelFileLimits.dimensionsMax) are read.")
        }
        var shape: [Int] = []
        for size in sizes.reversed() {
            guard let count = size.int, count > 0 else {
                throw ModelFileError(.invalidShape, "\(file): a dimension of the tensor '\(name)' is \(size.kind); a count above 0 is needed. The file is damaged or from a faulty writer.")
            }
            shape.append(count)
        }
        return shape.isEmpty ? [1] : shape
    }

    private static func byteCount(_ shape: [Int], _ type: TensorType) -> Int? {
        var total = type.blockBytes
        for size in shape {
            let (product, overflow) = total.multipliedReportingOverflow(by: size)
            guard !overflow else { return nil }
            total = product
        }
        return total
    }
}
