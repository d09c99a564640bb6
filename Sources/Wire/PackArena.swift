import CWire
import Glibc

/// Memory of the C structs of one message while it is packed; all of it is freed at once.
final class PackArena {
    /// What one small message takes: up to so many bytes the heap keeps what is given back in the thread's own lists, and above it looks each time
    /// whether it can give some of it to the system.
    private static let firstChunkBytes = 1_024
    private static let chunkBytes = 16 << 10
    private static let alignment = 16

    private var chunks: [UnsafeMutableRawPointer] = []
    private var next = UnsafeMutableRawBufferPointer(start: nil, count: 0)

    deinit { for chunk in chunks { chunk.deallocate() } }

    /// A struct that its `__init` function has filled and `fill` completes.
    func make<Message>(
        _ initialize: (UnsafeMutablePointer<Message>?) -> Void, _ fill: (inout Message) -> Void = { _ in }
    ) -> UnsafeMutablePointer<Message> {
        let pointer = allocate(MemoryLayout<Message>.size).bindMemory(to: Message.self, capacity: 1)
        initialize(pointer)
        fill(&pointer.pointee)
        return pointer
    }

    /// A copy of `values` that lives as long as the arena; `nil` for none, as protobuf-c likes it.
    func copy<Value: BitwiseCopyable>(_ values: [Value]) -> UnsafeMutablePointer<Value>? {
        guard !values.isEmpty else { return nil }
        let pointer = allocate(values.count * MemoryLayout<Value>.stride).bindMemory(to: Value.self, capacity: values.count)
        pointer.initialize(from: values, count: values.count)
        return pointer
    }

    /// Repeated submessages: the table of pointers.
    func table<Value, Message>(
        _ values: [Value], _ make: (Value) -> UnsafeMutablePointer<Message>
    ) -> UnsafeMutablePointer<UnsafeMutablePointer<Message>?>? {
        guard !values.isEmpty else { return nil }
        let table = allocate(values.count * MemoryLayout<UnsafeMutablePointer<Message>?>.stride)
            .bindMemory(to: UnsafeMutablePointer<Message>?.self, capacity: values.count)
        for (index, value) in values.enumerated() { (table + index).initialize(to: make(value)) }
        return table
    }

    func data(_ bytes: [UInt8]) -> ProtobufCBinaryData { ProtobufCBinaryData(len: bytes.count, data: copy(bytes)) }

    private func allocate(_ bytes: Int) -> UnsafeMutableRawPointer {
        let rounded = (max(bytes, 1) + Self.alignment - 1) & ~(Self.alignment - 1)
        if next.count < rounded {
            let size = max(rounded, chunks.isEmpty ? Self.firstChunkBytes : Self.chunkBytes)
            let chunk = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: Self.alignment)
            chunks.append(chunk.baseAddress!)
            next = chunk
        }
        let pointer = next.baseAddress!
        next = UnsafeMutableRawBufferPointer(rebasing: next[rounded...])
        return pointer
    }
}
