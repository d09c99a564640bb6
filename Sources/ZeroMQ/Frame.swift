import CZeroMQ

/// One part of a message: bytes owned by libzmq, moved and never copied. May go from thread to thread; has one owner at a time.
package struct Frame: ~Copyable, @unchecked Sendable {
    /// libzmq's message is plain memory that may be moved bit by bit (its own `move` does so); it is closed exactly once, here or by a send.
    var message: zmq_msg_t

    /// Empty.
    package init() {
        message = zmq_msg_t()
        zmq_msg_init(&message)
    }

    /// A copy of `bytes`.
    package init(copying bytes: UnsafeRawBufferPointer) {
        message = zmq_msg_t()
        let made = zmq_msg_init_size(&message, bytes.count)
        precondition(made == 0, "no memory for a frame of \(bytes.count) bytes")
        if let source = bytes.baseAddress, bytes.count > 0 { zmq_msg_data(&message)!.copyMemory(from: source, byteCount: bytes.count) }
    }

    /// `byteCount` bytes of unspecified content, to be filled with `withMutableBytes`.
    package init(byteCount: Int) {
        message = zmq_msg_t()
        let made = zmq_msg_init_size(&message, byteCount)
        precondition(made == 0, "no memory for a frame of \(byteCount) bytes")
    }

    package init(copying bytes: [UInt8]) {
        self.init(byteCount: bytes.count)
        bytes.withUnsafeBytes { source in
            if source.count > 0 { zmq_msg_data(&message)!.copyMemory(from: source.baseAddress!, byteCount: source.count) }
        }
    }

    /// Sends `bytes` without a copy. `release` is called exactly once, on any thread, when neither we nor libzmq need them any more;
    /// until then nobody may change them.
    package init(adopting bytes: UnsafeMutableRawBufferPointer, release: @escaping @Sendable (UnsafeMutableRawBufferPointer) -> Void) {
        message = zmq_msg_t()
        let adoption = Unmanaged.passRetained(Adoption(bytes: bytes, release: release))
        // libzmq wants an address even for nothing.
        let address = bytes.baseAddress ?? adoption.toOpaque()
        let made = zmq_msg_init_data(
            &message, address, bytes.count, { _, hint in Unmanaged<Adoption>.fromOpaque(hint!).release() }, adoption.toOpaque())
        precondition(made == 0, "no memory for a frame's header")
    }

    init(taking message: zmq_msg_t) { self.message = message }

    package var byteCount: Int { withUnsafePointer(to: message) { zmq_msg_size($0) } }

    /// The bytes are valid inside `body` only.
    package func withBytes<Result: ~Copyable, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try withMessage { (pointer) throws(Failure) in
            try body(UnsafeRawBufferPointer(start: zmq_msg_data(pointer), count: zmq_msg_size(pointer)))
        }
    }

    /// For bytes that are filled in place after `init(byteCount:)`, before the frame is sent.
    package mutating func withMutableBytes<Result: ~Copyable, Failure: Error>(
        _ body: (UnsafeMutableRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(UnsafeMutableRawBufferPointer(start: zmq_msg_data(&message), count: zmq_msg_size(&message)))
    }

    package var bytes: [UInt8] { withBytes { Array($0) } }

    /// The key with which the sender has proved itself, as the access list reported it; `nil` for frames that didn't come over CURVE.
    package var authenticatedKey: CurvePublicKey? {
        withMessage { pointer in
            zmq_msg_gets(pointer, "User-Id").flatMap { try? CurvePublicKey(z85: String(cString: $0)) }
        }
    }

    private func withMessage<Result: ~Copyable, Failure: Error>(
        _ body: (UnsafeMutablePointer<zmq_msg_t>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        // The calls above only read; libzmq's signatures are older than `const`.
        try withUnsafePointer(to: message) { (pointer) throws(Failure) in try body(UnsafeMutablePointer(mutating: pointer)) }
    }

    deinit {
        var message = message
        zmq_msg_close(&message)
    }
}

/// Keeps what `release` needs until libzmq drops the last reference.
private final class Adoption: Sendable {
    nonisolated(unsafe) let bytes: UnsafeMutableRawBufferPointer
    let whenReleased: @Sendable (UnsafeMutableRawBufferPointer) -> Void

    init(bytes: UnsafeMutableRawBufferPointer, release: @escaping @Sendable (UnsafeMutableRawBufferPointer) -> Void) {
        self.bytes = bytes
        whenReleased = release
    }

    deinit { whenReleased(bytes) }
}
