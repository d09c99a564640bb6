/// Writes GGUF version 3: metadata and tensors whose bytes come from memory or are produced piece by piece, so that a
/// model larger than memory can be written.
///
/// What is added comes from our own code, so a name given twice or a shape that is no whole blocks is a
/// precondition; what the file system says is an error. A file appears under its name only when it is whole.
package struct GGUFWriter {
    /// Writes a tensor's bytes into the sink, in as many pieces as it likes: exactly the tensor's byte count in all.
    package typealias Producer = (inout ByteSink) throws(ModelFileError) -> Void

    private struct Entry {
        var name: String
        var type: TensorType
        var shape: [Int]
        var byteCount: Int
        var produce: Producer
    }

    /// `general.alignment`, where set, is obeyed.
    package var metadata: Metadata
    private var entries: [Entry] = []
    private var names: Set<String> = []

    package init(metadata: Metadata = Metadata()) {
        self.metadata = metadata
    }

    /// Bytes of all tensors, without header and padding.
    var dataBytes: Int { entries.reduce(0) { $0 + $1.byteCount } }

    /// Adds a tensor whose bytes are produced when the file is written.
    package mutating func add(
        _ name: String, type: TensorType, shape: [Int], produce: @escaping Producer
    ) {
        precondition((1...ModelFileLimits.tensorNameBytesMax).contains(name.utf8.count), "the tensor name '\(name)'")
        precondition((1...ModelFileLimits.dimensionsMax).contains(shape.count) && shape.allSatisfy { $0 > 0 }, "the shape \(shape)")
        precondition(names.insert(name).inserted, "the tensor '\(name)' was added twice")
        let byteCount = type.rowBytes(columns: shape[0]) * shape.dropFirst().reduce(1, *)
        entries.append(Entry(name: name, type: type, shape: shape, byteCount: byteCount, produce: produce))
    }

    /// Adds a tensor from bytes in memory.
    package mutating func add(_ name: String, type: TensorType, shape: [Int], bytes: [UInt8]) {
        add(name, type: type, shape: shape) { (sink) throws(ModelFileError) in try sink.write(bytes) }
    }

    /// Adds an F32 tensor.
    package mutating func add(_ name: String, shape: [Int], floats: [Float]) {
        add(name, type: .f32, shape: shape) { (sink) throws(ModelFileError) in
            try sink.write(floats.withUnsafeBytes { [UInt8]($0) })
        }
    }

    /// Writes the file at `path`, replacing what is there once the new file is whole.
    package func write(to path: String) throws(ModelFileError) {
        var sink = try ByteSink(path: path)
        do {
            try write(into: &sink)
            try sink.finish()
        } catch {
            sink.abandon()
            throw error
        }
    }

    /// The file's bytes, for small files.
    package func bytes() throws(ModelFileError) -> [UInt8] {
        var sink = ByteSink()
        try write(into: &sink)
        return sink.memory
    }

    /// Everything before the tensors' bytes, without padding.
    func headerBytes() throws(ModelFileError) -> [UInt8] { header(alignment: try alignment()) }

    private func alignment() throws(ModelFileError) -> Int {
        let alignment = try metadata.int("general.alignment") ?? GGUFPart.defaultAlignment
        precondition(alignment > 0 && alignment & (alignment - 1) == 0, "the alignment \(alignment)")
        return alignment
    }

    private func write(into sink: inout ByteSink) throws(ModelFileError) {
        let alignment = try alignment()
        try sink.write(header(alignment: alignment))
        try sink.pad(to: alignment)
        for entry in entries {
            let start = sink.count
            try entry.produce(&sink)
            precondition(
                sink.count - start == entry.byteCount,
                "'\(entry.name)' of \(entry.byteCount) bytes was given \(sink.count - start)")
            try sink.pad(to: alignment)
        }
    }

    fileprivate func header(alignment: Int) -> [UInt8] {
        var header = HeaderBytes()
        header.bytes += Array("GGUF".utf8)
        header.append(UInt32(3))
        header.append(UInt64(entries.count))
        header.append(UInt64(metadata.keys.count))
        for key in metadata.keys {
            guard let value = metadata[key] else { preconditionFailure("the key '\(key)' lost its value") }
            header.append(key)
            header.append(value.type.rawValue)
            header.append(value)
        }
        var offset = 0
        for entry in entries {
            header.append(entry.name)
            header.append(UInt32(entry.shape.count))
            for size in entry.shape { header.append(UInt64(size)) }
            header.append(entry.type.rawValue)
            header.append(UInt64(offset))
            offset += (entry.byteCount + alignment - 1) / alignment * alignment
        }
        return header.bytes
    }
}

/// The header's encoding: little-endian numbers, texts and arrays with their counts before them.
private struct HeaderBytes {
    var bytes: [UInt8] = []

    mutating func append(_ number: some FixedWidthInteger) {
        withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) }
    }

    mutating func append(_ text: String) {
        append(UInt64(text.utf8.count))
        bytes.append(contentsOf: text.utf8)
    }

    mutating func append(_ value: MetadataValue) {
        switch value {
        case .uint8(let number): append(number)
        case .int8(let number): append(number)
        case .uint16(let number): append(number)
        case .int16(let number): append(number)
        case .uint32(let number): append(number)
        case .int32(let number): append(number)
        case .uint64(let number): append(number)
        case .int64(let number): append(number)
        case .float32(let number): append(number.bitPattern)
        case .float64(let number): append(number.bitPattern)
        case .bool(let flag): append(UInt8(flag ? 1 : 0))
        case .string(let text): append(text)
        case .array(let array): append(array)
        }
    }

    mutating func append(_ array: MetadataArray) {
        append(array.elementType.rawValue)
        append(UInt64(array.count))
        switch array {
        case .uint8(let values): bytes += values
        case .int8(let values): for value in values { append(value) }
        case .uint16(let values): for value in values { append(value) }
        case .int16(let values): for value in values { append(value) }
        case .uint32(let values): for value in values { append(value) }
        case .int32(let values): for value in values { append(value) }
        case .uint64(let values): for value in values { append(value) }
        case .int64(let values): for value in values { append(value) }
        case .float32(let values): for value in values { append(value.bitPattern) }
        case .float64(let values): for value in values { append(value.bitPattern) }
        case .bool(let values): for value in values { append(UInt8(value ? 1 : 0)) }
        case .string(let values): for value in values { append(value) }
        case .array(let values): for value in values { append(value) }
        }
    }
}

extension Metadata {
    /// The head of a GGUF file that has these pairs and no tensors, which `Metadata(ggufHeaderBytes:)` reads.
    var ggufHeaderBytes: [UInt8] {
        GGUFWriter(metadata: self).header(alignment: GGUFPart.defaultAlignment)
    }
}
