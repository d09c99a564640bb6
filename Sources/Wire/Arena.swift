import CWire

/// Memory for the C structures of one message while it is packed; freed as a whole.
struct Arena: ~Copyable {
    private var blocks: [UnsafeMutableRawPointer] = []

    deinit { for block in blocks { block.deallocate() } }

    mutating func pointer<Value: BitwiseCopyable>(_ value: Value) -> UnsafeMutablePointer<Value> {
        let pointer = UnsafeMutablePointer<Value>.allocate(capacity: 1)
        pointer.initialize(to: value)
        blocks.append(UnsafeMutableRawPointer(pointer))
        return pointer
    }

    /// `nil` for an empty collection, as protobuf-c has it.
    mutating func array<Value: BitwiseCopyable>(_ values: some Collection<Value>) -> UnsafeMutablePointer<Value>? {
        guard !values.isEmpty else { return nil }
        let pointer = UnsafeMutableBufferPointer<Value>.allocate(capacity: values.count)
        _ = pointer.initialize(from: values)
        blocks.append(UnsafeMutableRawPointer(pointer.baseAddress!))
        return pointer.baseAddress
    }

    /// Pointers to a copy of each structure.
    mutating func pointers<Value: BitwiseCopyable>(_ values: [Value]) -> UnsafeMutablePointer<UnsafeMutablePointer<Value>?>? {
        guard let first = array(values) else { return nil }
        return array(values.indices.map { Optional(first + $0) })
    }

    /// A C string. A NUL would end it early, so it is left out.
    mutating func string(_ text: String) -> UnsafeMutablePointer<CChar>? {
        array(text.utf8.lazy.filter { $0 != 0 }.map { CChar(bitPattern: $0) } + [0])
    }

    mutating func bytes(_ bytes: [UInt8]) -> ProtobufCBinaryData {
        ProtobufCBinaryData(len: bytes.count, data: array(bytes))
    }
}
