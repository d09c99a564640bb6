/// Reads the three sections at the front of a GGUF file. The format: magic "GGUF", version (u32), tensor count (u64),
/// metadata count (u64), the pairs, the tensor descriptions; all little-endian; texts are a length (u64) and bytes.
enum GGUFHeaderReader {
    struct Head {
        var version: Int
        /// As the file claims; `readTensors` checks it, because whoever wants the metadata alone may lack what follows.
        var tensorCount: UInt64
        var metadataCount: Int
    }

    /// What the file says of a tensor, with its shape checked but not yet its place.
    struct TensorDescription {
        var name: String
        var type: TensorType
        var shape: [Int]
        /// From the start of the data section.
        var offset: UInt64
        var byteCount: Int
    }

    static func readHead(_ reader: inout ByteReader) throws(ModelFileError) -> Head {
        let magic = try reader.integer("the magic number", as: UInt32.self)
        guard magic == 0x4655_4747 else { throw wrongMagic(magic, name: reader.name) }
        let version = try reader.integer("the format version", as: UInt32.self)
        if version != 0, version & 0xFFFF == 0 {
            throw ModelFileError(
                .bigEndian,
                "\(reader.name) is a big-endian GGUF file (version field \(hexadecimal(version))). Only little-endian files are read; convert it on or for a little-endian machine."
            )
        }
        guard version == 2 || version == 3 else {
            throw ModelFileError(
                .unsupportedVersion,
                "\(reader.name) has GGUF version \(version); versions 2 and 3 are read. Convert the model again with a current converter."
            )
        }
        let tensorCount = try reader.integer("the tensor count", as: UInt64.self)
        // Key length, one letter, type, one byte.
        let metadataCount = try reader.count(ofAtLeast: 14, "the metadata count")
        try checkLimit(metadataCount, ModelFileLimits.metadataEntriesMax, "metadata pairs", name: reader.name)
        return Head(version: Int(version), tensorCount: tensorCount, metadataCount: metadataCount)
    }

    static func readMetadata(_ reader: inout ByteReader, count: Int) throws(ModelFileError) -> Metadata {
        var metadata = Metadata()
        for number in 0..<count {
            let key = try reader.string(bytesMax: ModelFileLimits.keyBytesMax, "metadata key \(number)")
            guard !key.isEmpty else {
                throw ModelFileError(
                    .invalidText, "\(reader.name): metadata key \(number) is empty. The file is damaged; fetch it again.")
            }
            guard metadata[key] == nil else {
                throw ModelFileError(
                    .duplicateKey, "\(reader.name): the metadata key '\(key)' appears twice. The file is damaged; fetch it again.")
            }
            let type = try readType(&reader, of: key)
            metadata.set(key, try readValue(&reader, type: type, key: key))
        }
        return metadata
    }

    static func readTensors(
        _ reader: inout ByteReader, count claimed: UInt64
    ) throws(ModelFileError) -> [TensorDescription] {
        // Name length, one letter, dimension count, one dimension, type, offset.
        let count = try reader.check(claimed, ofAtLeast: 33, "the tensor count")
        try checkLimit(count, ModelFileLimits.tensorsMax, "tensors", name: reader.name)
        var tensors: [TensorDescription] = []
        for number in 0..<count {
            let name = try reader.string(bytesMax: ModelFileLimits.tensorNameBytesMax, "the name of tensor \(number)")
            guard !name.isEmpty else {
                throw ModelFileError(
                    .invalidText, "\(reader.name): tensor \(number) has an empty name. The file is damaged; fetch it again.")
            }
            tensors.append(try readTensor(&reader, name: name))
        }
        return tensors
    }

    // MARK: Values

    private static func readType(_ reader: inout ByteReader, of key: String) throws(ModelFileError) -> MetadataType {
        let raw = try reader.integer("the type of '\(key)'", as: UInt32.self)
        guard let type = MetadataType(rawValue: raw) else {
            throw ModelFileError(
                .unknownMetadataType,
                "\(reader.name): the metadata key '\(key)' has type \(raw); types 0 to 12 are known. The file is damaged or newer than this program."
            )
        }
        return type
    }

    private static func readValue(
        _ reader: inout ByteReader, type: MetadataType, key: String
    ) throws(ModelFileError) -> MetadataValue {
        switch type {
        case .uint8: return .uint8(try reader.integer("the value of '\(key)'"))
        case .int8: return .int8(try reader.integer("the value of '\(key)'"))
        case .uint16: return .uint16(try reader.integer("the value of '\(key)'"))
        case .int16: return .int16(try reader.integer("the value of '\(key)'"))
        case .uint32: return .uint32(try reader.integer("the value of '\(key)'"))
        case .int32: return .int32(try reader.integer("the value of '\(key)'"))
        case .uint64: return .uint64(try reader.integer("the value of '\(key)'"))
        case .int64: return .int64(try reader.integer("the value of '\(key)'"))
        case .float32: return .float32(Float(bitPattern: try reader.integer("the value of '\(key)'")))
        case .float64: return .float64(Double(bitPattern: try reader.integer("the value of '\(key)'")))
        case .bool: return .bool(try flag(try reader.integer("the value of '\(key)'", as: UInt8.self), key, reader.name))
        case .string: return .string(try reader.string("the value of '\(key)'"))
        case .array: return .array(try readArray(&reader, key: key, depth: 1))
        }
    }

    private static func readArray(
        _ reader: inout ByteReader, key: String, depth: Int
    ) throws(ModelFileError) -> MetadataArray {
        guard depth <= ModelFileLimits.arrayDepthMax else {
            throw ModelFileError(
                .nestedTooDeep,
                "\(reader.name): the metadata key '\(key)' nests arrays deeper than \(ModelFileLimits.arrayDepthMax). The file is damaged; fetch it again."
            )
        }
        let type = try readType(&reader, of: key)
        let count = try reader.count(ofAtLeast: type.bytesMin, "the element count of '\(key)'")
        switch type {
        case .uint8: return .uint8(reader.numbers(count: count))
        case .int8: return .int8(reader.numbers(count: count))
        case .uint16: return .uint16(reader.numbers(count: count))
        case .int16: return .int16(reader.numbers(count: count))
        case .uint32: return .uint32(reader.numbers(count: count))
        case .int32: return .int32(reader.numbers(count: count))
        case .uint64: return .uint64(reader.numbers(count: count))
        case .int64: return .int64(reader.numbers(count: count))
        case .float32: return .float32(reader.numbers(count: count))
        case .float64: return .float64(reader.numbers(count: count))
        case .string: return .string(try reader.stringArray(count: count, "a string of '\(key)'"))
        case .bool:
            return .bool(try readFlags(&reader, count: count, key: key))
        case .array:
            reader.innerArrays += count
            try checkLimit(reader.innerArrays, ModelFileLimits.innerArraysMax, "arrays within arrays", name: reader.name)
            var inner: [MetadataArray] = []
            for _ in 0..<count { inner.append(try readArray(&reader, key: key, depth: depth + 1)) }
            return .array(inner)
        }
    }

    private static func readFlags(
        _ reader: inout ByteReader, count: Int, key: String
    ) throws(ModelFileError) -> [Bool] {
        let start = reader.offset
        for byte in reader.bytes[start..<(start + count)] { _ = try flag(byte, key, reader.name) }
        // Each byte is now known to be 0 or 1, which is how a Bool lies in memory.
        return reader.numbers(count: count)
    }

    private static func flag(_ byte: UInt8, _ key: String, _ name: String) throws(ModelFileError) -> Bool {
        guard byte <= 1 else {
            throw ModelFileError(
                .invalidValue, "\(name): the metadata key '\(key)' is a bool but holds the byte \(byte). The file is damaged; fetch it again.")
        }
        return byte == 1
    }

    // MARK: Tensor descriptions

    private static func readTensor(
        _ reader: inout ByteReader, name: String
    ) throws(ModelFileError) -> TensorDescription {
        let dimensions = try reader.integer("the dimension count of '\(name)'", as: UInt32.self)
        guard (1...UInt32(ModelFileLimits.dimensionsMax)).contains(dimensions) else {
            throw ModelFileError(
                .invalidShape,
                "\(reader.name): the tensor '\(name)' has \(dimensions) dimensions; 1 to \(ModelFileLimits.dimensionsMax) are allowed. The file is damaged; fetch it again."
            )
        }
        var shape: [Int] = []
        for number in 0..<dimensions {
            let size = try reader.integer("dimension \(number) of '\(name)'", as: UInt64.self)
            guard size > 0, let exact = Int(exactly: size) else {
                throw ModelFileError(
                    .invalidShape,
                    "\(reader.name): dimension \(number) of the tensor '\(name)' is \(size). The file is damaged; fetch it again.")
            }
            shape.append(exact)
        }
        let rawType = try reader.integer("the type of '\(name)'", as: Int32.self)
        guard let type = TensorType(rawValue: rawType) else { throw unknownType(rawType, tensor: name, name: reader.name) }
        let offset = try reader.integer("the offset of '\(name)'", as: UInt64.self)
        let byteCount = try byteCount(shape: shape, type: type, tensor: name, name: reader.name)
        return TensorDescription(name: name, type: type, shape: shape, offset: offset, byteCount: byteCount)
    }

    private static func byteCount(
        shape: [Int], type: TensorType, tensor: String, name: String
    ) throws(ModelFileError) -> Int {
        guard shape[0] % type.blockSize == 0 else {
            throw ModelFileError(
                .raggedRow,
                "\(name): a row of the tensor '\(tensor)' has \(shape[0]) elements, which is not a multiple of the \(type.blockSize) in a block of \(type.name). The file is damaged or from a faulty converter."
            )
        }
        var total = shape[0] / type.blockSize
        var overflow = false
        for factor in [type.blockBytes] + shape.dropFirst() {
            let (product, over) = total.multipliedReportingOverflow(by: factor)
            total = product
            overflow = overflow || over
        }
        // Elements are counted too: a block of 32 elements takes fewer bytes than it has elements.
        var elements = 1
        for factor in shape {
            let (product, over) = elements.multipliedReportingOverflow(by: factor)
            elements = product
            overflow = overflow || over
        }
        guard !overflow else {
            throw ModelFileError(
                .invalidShape,
                "\(name): the shape \(shape) of the tensor '\(tensor)' is more than a machine can address. The file is damaged; fetch it again."
            )
        }
        return total
    }

    // MARK: Errors

    private static func wrongMagic(_ magic: UInt32, name: String) -> ModelFileError {
        if magic == 0x4747_5546 {
            return ModelFileError(
                .bigEndian, "\(name) begins with 'FUGG', a GGUF file with its bytes swapped. Only little-endian files are read.")
        }
        let older: [UInt32: String] = [0x6767_6D6C: "ggml", 0x6767_6D66: "ggmf", 0x6767_6A74: "ggjt"]
        if let format = older[magic] {
            return ModelFileError(
                .wrongMagic,
                "\(name) is a file of the withdrawn format '\(format)'. Convert the original model to GGUF with a current converter.")
        }
        return ModelFileError(
            .wrongMagic,
            "\(name) does not begin with 'GGUF' (found \(hexadecimal(magic))). It is not a GGUF model, or an incomplete or wrong download (such as a Git LFS pointer or an error page)."
        )
    }

    private static func unknownType(_ raw: Int32, tensor: String, name: String) -> ModelFileError {
        let known = TensorType.allCases.map(\.name).joined(separator: ", ")
        let found = TensorType.unreadNames[raw].map { "\($0) (type \(raw))" } ?? "the unknown type \(raw)"
        return ModelFileError(
            .unknownTensorType,
            "\(name): the tensor '\(tensor)' has \(found). These are read: \(known). Use a file with one of them.")
    }

    private static func checkLimit(_ count: Int, _ limit: Int, _ what: String, name: String) throws(ModelFileError) {
        guard count <= limit else {
            throw ModelFileError(
                .limitExceeded, "\(name): \(count) \(what), more than the \(limit) that are allowed. The file is damaged or not a language model.")
        }
    }

    private static func hexadecimal(_ number: UInt32) -> String {
        let digits = String(number, radix: 16)
        return "0x" + String(repeating: "0", count: 8 - digits.count) + digits
    }
}
