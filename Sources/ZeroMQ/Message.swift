import CZeroMQ

/// The parts of one message, in order. Sending empties it from the front; what could not be sent stays.
package struct Message: ~Copyable {
    /// Upper bound for `Socket.receive`: the longest is an access question of libzmq, with a routing id and two passwords.
    package static let partsMax = 12

    private let parts: UnsafeMutablePointer<zmq_msg_t>
    /// Parts before this one were taken or sent.
    private var first = 0
    private var end = 0

    package init() { parts = .allocate(capacity: Self.partsMax) }

    /// A message of one part.
    package init(copying bytes: [UInt8]) {
        self.init()
        append(Frame(copying: bytes))
    }

    package var count: Int { end - first }

    /// Adds a part at the end; at most `partsMax` in all.
    package mutating func append(_ frame: consuming Frame) {
        precondition(end < Self.partsMax, "a message has at most \(Self.partsMax) parts")
        (parts + end).initialize(to: zmq_msg_t())
        zmq_msg_init(parts + end)
        var frame = frame
        // Leaves an empty message behind, which the frame then closes.
        zmq_msg_move(parts + end, &frame.message)
        end += 1
    }

    package mutating func append(copying bytes: [UInt8]) { append(Frame(copying: bytes)) }

    /// Takes the first part away.
    package mutating func removeFirst() -> Frame {
        precondition(count > 0, "the message has no part left")
        defer { first += 1 }
        return Frame(taking: (parts + first).move())
    }

    /// The bytes of part `index`, counted from the first that is left; valid inside `body` only.
    package func withBytes<Result: ~Copyable, Failure: Error>(
        of index: Int, _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let part = self.part(index)
        return try body(UnsafeRawBufferPointer(start: zmq_msg_data(part), count: zmq_msg_size(part)))
    }

    package func bytes(of index: Int) -> [UInt8] { withBytes(of: index) { Array($0) } }
    package func byteCount(of index: Int) -> Int { zmq_msg_size(part(index)) }

    /// The key with which the sender has proved itself; `nil` when the message is empty or didn't come over CURVE.
    package var authenticatedKey: CurvePublicKey? {
        guard count > 0, let text = zmq_msg_gets(part(count - 1), "User-Id") else { return nil }
        return try? CurvePublicKey(z85: String(cString: text))
    }

    /// `authenticatedKey` in the form that libzmq keeps, which costs no conversion: for a receiver that knows its senders already.
    package var senderText: SenderText? {
        guard count > 0, let text = zmq_msg_gets(part(count - 1), "User-Id") else { return nil }
        return SenderText(text)
    }

    /// For `Socket`, which hands the part to libzmq and then calls `dropSentPart`.
    func part(_ index: Int) -> UnsafeMutablePointer<zmq_msg_t> {
        precondition(index >= 0 && index < count, "part \(index) of a message of \(count)")
        return parts + first + index
    }

    mutating func dropSentPart() { first += 1 }

    deinit {
        for index in first..<end { zmq_msg_close(parts + index) }
        parts.deallocate()
    }
}
