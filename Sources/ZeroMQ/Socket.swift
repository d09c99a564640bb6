import CZeroMQ

/// A ZeroMQ socket. libzmq wants one owner at a time; a move-only type that is not `Sendable` lets the compiler prove it.
///
/// Nothing here blocks: `receive` answers `nil` and `send` answers `false` where libzmq would wait; waiting is `Poller`'s work.
package struct Socket: ~Copyable {
    package enum Kind: Sendable {
        case router, dealer, push, pull, reply, pair

        fileprivate var number: Int32 {
            switch self {
            case .router: ZMQ_ROUTER
            case .dealer: ZMQ_DEALER
            case .push: ZMQ_PUSH
            case .pull: ZMQ_PULL
            case .reply: ZMQ_REP
            case .pair: ZMQ_PAIR
            }
        }
    }

    let handle: UnsafeMutableRawPointer
    /// For `Poller`, which may outlive a change of this value's place but not the socket.
    let readiness: UnsafeMutablePointer<SocketReadiness>
    package let kind: Kind
    /// Where a CURVE server may listen only while an access list answers for the context.
    private let context: Context
    private let security: SocketOptions.Security
    private let maxPartBytes: Int
    private let maxMessageBytes: Int

    package init(_ context: Context, _ kind: Kind, _ options: SocketOptions = SocketOptions()) throws(ZeroMQError) {
        handle = try Self.open(context, kind, options)
        readiness = .allocate(capacity: 1)
        readiness.initialize(to: SocketReadiness(descriptor: Self.descriptor(of: handle)))
        self.kind = kind
        self.context = context
        security = options.security
        maxPartBytes = options.maxPartBytes
        maxMessageBytes = options.maxMessageBytes
    }

    /// Listens, and answers where: the endpoint with the port that the system chose for port 0 or `*`.
    @discardableResult
    package borrowing func bind(_ endpoint: String) throws(ZeroMQError) -> String {
        try check(endpoint, "listening at")
        if case .curveServer(_, let domain) = security, context.accessLists.load(ordering: .acquiring) == 0 {
            // Without a list libzmq would let everybody in.
            throw ZeroMQError(.accessListMissing, "listening at \(endpoint) for keys of \(domain): the context has no AccessList; make one first")
        }
        readiness.pointee.absent = []
        guard zmq_bind(handle, endpoint) == 0 else { throw ZeroMQError.last("listening at \(endpoint)") }
        return try lastEndpoint()
    }

    /// Begins to connect and goes on trying; success shows in messages only.
    package borrowing func connect(_ endpoint: String) throws(ZeroMQError) {
        try check(endpoint, "connecting to")
        readiness.pointee.absent = []
        guard zmq_connect(handle, endpoint) == 0 else { throw ZeroMQError.last("connecting to \(endpoint)") }
    }

    package borrowing func disconnect(_ endpoint: String) throws(ZeroMQError) {
        readiness.pointee.absent = []
        guard zmq_disconnect(handle, endpoint) == 0 else { throw ZeroMQError.last("disconnecting from \(endpoint)") }
    }

    package borrowing func unbind(_ endpoint: String) throws(ZeroMQError) {
        readiness.pointee.absent = []
        guard zmq_unbind(handle, endpoint) == 0 else { throw ZeroMQError.last("closing the listener at \(endpoint)") }
    }

    /// The next message, or `nil` when none waits. A message with more parts or bytes than allowed is taken off the queue, dropped, and thrown
    /// as `messageTooLarge`:
    /// the caller counts it and receives on.
    package borrowing func receive(maxParts: Int = Message.partsMax) throws(ZeroMQError) -> Message? {
        precondition(maxParts > 0 && maxParts <= Message.partsMax)
        readiness.pointee.absent = []
        var message = Message()
        var parts = 0
        var bytes = 0
        while true {
            var part = Frame()
            guard try receivePart(&part, isFirst: parts == 0) else { return nil }
            let more = zmq_msg_more(&part.message) == 1
            let partBytes = part.byteCount
            parts += 1
            bytes += partBytes
            if parts <= maxParts && partBytes <= maxPartBytes && bytes <= maxMessageBytes { message.append(part) }
            if !more { break }
        }
        guard message.count == parts else {
            throw ZeroMQError(
                .messageTooLarge,
                "a message of \(parts) parts and \(bytes) bytes came in; at most \(maxParts) parts, \(maxPartBytes) bytes a part and \(maxMessageBytes) bytes in all are taken"
            )
        }
        return message
    }

    /// `receive` for a loop that counts messages over the limits and goes on with the next one.
    package borrowing func receive(maxParts: Int, onTooLarge: () -> Void) throws(ZeroMQError) -> Message? {
        while true {
            do { return try receive(maxParts: maxParts) } catch {
                guard error.code == .messageTooLarge else { throw error }
                onTooLarge()
            }
        }
    }

    /// Whether a message waits that no descriptor tells of any more: a call that was made since the socket was asked may have taken the notice.
    package borrowing func hasUnnoticedMessages() throws(ZeroMQError) -> Bool {
        if readiness.pointee.absent.contains(.readable) { return false }
        return try SocketReadiness.ask(handle, readiness).contains(.readable)
    }

    /// Sends all of `message` or nothing. `false`: the queue is full or nobody is connected; `message` is untouched.
    ///
    /// Throws `peerUnreachable` when a router's peer is not there (message untouched), or when the peer went away between two parts (message
    /// used up and lost).
    package borrowing func send(_ message: inout Message) throws(ZeroMQError) -> Bool {
        precondition(message.count > 0, "a message has at least one part")
        readiness.pointee.absent = []
        var isFirst = true
        while message.count > 0 {
            let flags = ZMQ_DONTWAIT | (message.count > 1 ? ZMQ_SNDMORE : 0)
            let sent = zmq_msg_send(message.part(0), handle, flags)
            if sent < 0 {
                let error = zmq_errno()
                if error == EINTR { continue }
                if error == EAGAIN && isFirst { return false }
                guard error == EAGAIN else { throw ZeroMQError(errorNumber: error, "sending a message") }
                try discardRest(of: &message)
                throw ZeroMQError(errorNumber: EHOSTUNREACH, "sending a message of several parts")
            }
            message.dropSentPart()
            isFirst = false
        }
        return true
    }

    /// Tells handshakes that the peer refuses; see `HandshakeMonitor`. Call it before `connect`.
    package borrowing func handshakeMonitor() throws(ZeroMQError) -> HandshakeMonitor { try HandshakeMonitor(of: handle, context) }

    /// `send` for a message that is not needed again when the queue is full.
    package borrowing func send(_ message: consuming Message) throws(ZeroMQError) -> Bool {
        var message = message
        return try send(&message)
    }

    private static func open(_ context: Context, _ kind: Kind, _ options: SocketOptions) throws(ZeroMQError) -> UnsafeMutableRawPointer {
        guard let handle = zmq_socket(context.handle, kind.number) else { throw ZeroMQError.last("making a \(kind) socket") }
        do {
            try options.apply(to: handle, kind)
            return handle
        } catch {
            zmq_close(handle)
            throw error
        }
    }

    private borrowing func receivePart(_ part: inout Frame, isFirst: Bool) throws(ZeroMQError) -> Bool {
        // libzmq shows a message when all its parts are there, so parts after the first never make us wait.
        while zmq_msg_recv(&part.message, handle, isFirst ? ZMQ_DONTWAIT : 0) < 0 {
            let error = zmq_errno()
            if error == EINTR { continue }
            if error == EAGAIN && isFirst {
                // libzmq has looked at all that happened before it says so.
                readiness.pointee.absent = .readable
                return false
            }
            throw ZeroMQError(errorNumber: error, "receiving a message")
        }
        return true
    }

    /// After a connection died between two parts, libzmq swallows parts up to the message's last: give them to it, or the next message would be
    /// swallowed.
    private borrowing func discardRest(of message: inout Message) throws(ZeroMQError) {
        let wasLast = message.count == 1
        _ = message.removeFirst()
        if wasLast { return }
        while message.count > 0 {
            let sent = zmq_msg_send(message.part(0), handle, ZMQ_DONTWAIT | (message.count > 1 ? ZMQ_SNDMORE : 0))
            if sent < 0 && zmq_errno() == EINTR { continue }
            guard sent >= 0 else { throw ZeroMQError.last("sending the rest of a message") }
            message.dropSentPart()
        }
    }

    private borrowing func check(_ endpoint: String, _ asked: String) throws(ZeroMQError) {
        if endpoint.hasPrefix("inproc://") { return }
        let port = endpoint.split(separator: ":", omittingEmptySubsequences: false).last ?? ""
        // libzmq takes the lowest 16 bits of any number, and what stands before a letter.
        guard endpoint.hasPrefix("tcp://"), port == "*" || port.utf8.allSatisfy({ (48...57).contains($0) }) && UInt16(port) != nil else {
            throw ZeroMQError(.addressUnusable, "\(asked) \"\(endpoint)\": expected tcp://host:port with a port of 0 to 65535; correct the address")
        }
        guard case .inProcessOnly = security else { return }
        throw ZeroMQError(.addressUnusable, "\(asked) \(endpoint): a socket without CURVE keys is for inproc:// only; give it keys")
    }

    private borrowing func lastEndpoint() throws(ZeroMQError) -> String {
        var text = [CChar](repeating: 0, count: 512)
        var size = text.count
        guard zmq_getsockopt(handle, ZMQ_LAST_ENDPOINT, &text, &size) == 0 else { throw ZeroMQError.last("asking for a listener's endpoint") }
        return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    private static func descriptor(of handle: UnsafeMutableRawPointer) -> Int32 {
        var descriptor: Int32 = -1
        var size = MemoryLayout<Int32>.size
        let asked = zmq_getsockopt(handle, ZMQ_FD, &descriptor, &size)
        precondition(asked == 0, "a socket that was just made has a descriptor")
        return descriptor
    }

    deinit {
        zmq_close(handle)
        readiness.deallocate()
    }
}

/// What spares `Poller` most of its questions. libzmq's descriptor of a socket turns readable when something happened to it, but any call may
/// take that notice away; so only after a call the socket itself has to be asked, which costs as much as asking for all descriptors at once.
struct SocketReadiness {
    /// Readable after something happened, for poll(2).
    let descriptor: Int32
    /// What the socket is known not to be: it was asked, and no call was made since.
    var absent: Poller.Interest = []

    /// What `socket` is, which it knows from now on.
    static func ask(
        _ socket: UnsafeMutableRawPointer, _ readiness: UnsafeMutablePointer<SocketReadiness>
    ) throws(ZeroMQError) -> Poller.Interest {
        var events: Int32 = 0
        var size = MemoryLayout<Int32>.size
        while zmq_getsockopt(socket, ZMQ_EVENTS, &events, &size) != 0 {
            guard zmq_errno() == EINTR else { throw ZeroMQError.last("asking a socket what it has") }
        }
        let present = Poller.Interest(rawValue: Int16(events))
        readiness.pointee.absent = Poller.Interest.all.subtracting(present)
        return present
    }
}

@available(*, unavailable)
extension Socket: Sendable {}
