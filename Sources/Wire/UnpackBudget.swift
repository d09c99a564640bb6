import CWire
import Glibc

/// Memory that protobuf-c may take for one frame. A submessage of two wire bytes costs a struct of a hundred, so the frame's size alone bounds
/// nothing.
struct UnpackBudget {
    /// Above what honest frames cost (`UnpackBudgetTests` measures it), and far below what an attack would like.
    static let bytesPerFrameByte = 32
    /// For the smallest frames: one struct of each kind on the way down, and protobuf-c's own scratch memory.
    static let bytesFixed = 8 << 10

    private(set) var left: Int
    /// Bytes granted so far, given back or not.
    private(set) var granted = 0

    init(frameBytes: Int) { left = Self.bytesFixed + frameBytes * Self.bytesPerFrameByte }
    init(bytes: Int) { left = bytes }

    mutating func take(_ bytes: Int) -> Bool {
        guard bytes <= left else { return false }
        left -= bytes
        granted += bytes
        return true
    }

    /// Parses `bytes` with one of protobuf-c's generated functions, hands the message to `body` and frees it. The message is valid inside `body`
    /// only.
    mutating func withUnpacked<Message, Value>(
        _ bytes: UnsafeRawBufferPointer, _ unpack: Unpacker<Message>, _ body: (UnsafePointer<Message>) throws(WireError) -> Value
    ) throws(WireError) -> Value {
        let allowed = left
        return try withUnsafeMutablePointer(to: &self) { (budget) throws(WireError) in
            var allocator = ProtobufCAllocator(
                alloc: { data, size in data!.assumingMemoryBound(to: UnpackBudget.self).pointee.take(size) ? malloc(size) : nil },
                free: { _, pointer in free(pointer) },
                allocator_data: UnsafeMutableRawPointer(budget))
            // protobuf-c wants an address even for nothing.
            let nothing: [UInt8] = [0]
            let unpacked = nothing.withUnsafeBufferPointer {
                unpack(&allocator, bytes.count, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self) ?? $0.baseAddress!)
            }
            guard let unpacked else {
                throw WireError(
                    .malformed,
                    "a frame's \(bytes.count) bytes are no message of this protocol, or one that costs more than \(allowed) bytes of memory; "
                        + "it was damaged or forged")
            }
            defer {
                protobuf_c_message_free_unpacked(UnsafeMutableRawPointer(unpacked).assumingMemoryBound(to: ProtobufCMessage.self), &allocator)
            }
            return try body(UnsafePointer(unpacked))
        }
    }

    typealias Unpacker<Message> = (UnsafeMutablePointer<ProtobufCAllocator>?, Int, UnsafePointer<UInt8>?) -> UnsafeMutablePointer<Message>?
}
