import CWire

#if canImport(Glibc)
import Glibc
#endif

/// Unpacks a serialised frame with a cap on the memory that it may take: a hostile frame of many empty elements unpacks to far
/// more bytes than it has.
enum BoundedUnpack {
    /// Bytes of structures for each byte of the frame. An honest frame stays below 12 (a token's alternative: 9 bytes, 48 in memory with its
    /// pointer, the allocator's rounding included; a decode row: 12 bytes, 88 in memory).
    static let expansionMax = 16
    /// For the few structures that any message has.
    static let allowance = 4_096

    private struct Budget {
        var left: Int
    }

    /// Calls `body` with the frame; its memory ends with the call.
    static func withFrame<Result>(
        _ bytes: UnsafeRawBufferPointer, _ body: (Staffel__V1__Frame) throws(WireError) -> Result
    ) throws(WireError) -> Result {
        var budget = Budget(left: bytes.count * expansionMax + allowance)
        return try withUnsafeMutablePointer(to: &budget) { budget throws(WireError) in
            var allocator = ProtobufCAllocator(
                alloc: { data, size in
                    let budget = data!.assumingMemoryBound(to: Budget.self)
                    guard size <= budget.pointee.left else { return nil }
                    budget.pointee.left -= size
                    return malloc(size)
                },
                free: { _, pointer in Glibc.free(pointer) },
                allocator_data: budget)
            guard let frame = staffel__v1__frame__unpack(&allocator, bytes.count, bytes.bindMemory(to: UInt8.self).baseAddress) else {
                throw WireError(
                    .malformed,
                    budget.pointee.left < bytes.count ? "a frame of \(bytes.count) bytes unpacks to too much" : "a frame of \(bytes.count) bytes can't be unpacked")
            }
            defer { staffel__v1__frame__free_unpacked(frame, &allocator) }
            return try body(frame.pointee)
        }
    }
}
