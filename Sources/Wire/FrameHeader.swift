import ClusterCore

/// The four bytes before every serialised frame: who speaks, and in which major version.
enum FrameHeader {
    static let magic = Array("STF".utf8)
    static let byteCount = 4

    static var bytes: [UInt8] { magic + [UInt8(truncatingIfNeeded: ProtocolVersion.current.major)] }

    /// The serialised frame behind the header. Throws for a foreign peer and for another major version.
    static func body(of frame: UnsafeRawBufferPointer) throws(WireError) -> UnsafeRawBufferPointer {
        guard frame.count >= byteCount, frame.prefix(magic.count).elementsEqual(magic) else {
            throw WireError(.malformed, "\(frame.count) bytes came that are no Staffel frame")
        }
        let major = UInt32(frame[magic.count])
        guard major == ProtocolVersion.current.major else {
            throw WireError(
                .version,
                "a frame of protocol version \(major) came, this is version \(ProtocolVersion.current.major): run the same release on all boxes")
        }
        guard frame.count <= Limits.controlFrameBytesMax else {
            throw WireError(.malformed, "a frame of \(frame.count) bytes came, at most \(Limits.controlFrameBytesMax) are taken")
        }
        return UnsafeRawBufferPointer(rebasing: frame[byteCount...])
    }
}
