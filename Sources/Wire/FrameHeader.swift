import ClusterCore

/// The eight bytes before each protobuf message: a foreign peer, another major and a damaged frame are three different errors.
enum FrameHeader {
    static let byteCount = 8
    static let magic: [UInt8] = Array("STFL".utf8)

    enum Kind: UInt8 {
        case toCoordinator = 1
        case fromCoordinator = 2
        case stepFrame = 3
        case weightsRequest = 4
        case weightsReply = 5
        /// Beside a reply, and a file.
        case weightManifest = 6
        case transferFrame = 40
        /// A step alone, from the last stage to the first. Since protocol 2.4.
        case followUp = 41
        /// The same, before the last stage knows. Since protocol 2.5.
        case foretold = 42
    }

    /// Magic, major (little-endian), kind, zero.
    static func bytes(_ kind: Kind, major: UInt32 = ProtocolVersion.current.major) -> [UInt8] {
        magic + [UInt8(truncatingIfNeeded: major), UInt8(truncatingIfNeeded: major >> 8), kind.rawValue, 0]
    }

    /// `bytes` of our own major, into memory that has room for them.
    static func write(_ kind: Kind, to buffer: UnsafeMutableBufferPointer<UInt8>) {
        let major = ProtocolVersion.current.major
        for index in magic.indices { buffer[index] = magic[index] }
        buffer[4] = UInt8(truncatingIfNeeded: major)
        buffer[5] = UInt8(truncatingIfNeeded: major >> 8)
        buffer[6] = kind.rawValue
        buffer[7] = 0
    }

    /// The protobuf bytes behind a header that fits.
    static func body(of frame: UnsafeRawBufferPointer, _ kind: Kind) throws(WireError) -> UnsafeRawBufferPointer {
        guard frame.count >= byteCount, frame.prefix(magic.count).elementsEqual(magic) else {
            throw WireError(.notStaffel, "a frame of \(frame.count) bytes does not begin with Staffel's magic; find out what else talks to this port")
        }
        let major = UInt32(frame[4]) | UInt32(frame[5]) << 8
        let ours = ProtocolVersion.current.major
        guard major == ours else {
            throw WireError(.versionMismatch, "a frame of protocol \(major) came in, this process speaks \(ours); run the same release on all machines")
        }
        guard frame[6] == kind.rawValue, frame[7] == 0 else {
            throw WireError(.wrongFrame, "a frame of kind \(frame[6]) came in where kind \(kind.rawValue) belongs; check which endpoint the peer was given")
        }
        guard frame.count <= Limits.controlFrameBytesMax else {
            throw WireError(.tooLarge, "a frame of \(frame.count) bytes came in, at most \(Limits.controlFrameBytesMax) are read; the peer must send less at once")
        }
        return UnsafeRawBufferPointer(rebasing: frame[byteCount...])
    }
}
