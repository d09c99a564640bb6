import CZeroMQ

/// A ZeroMQ socket. Not copyable and not `Sendable`: born, used and closed on one thread, as libzmq asks, and the compiler proves it.
///
/// No call blocks; `Poller` waits. Linger is 0 and `ZMQ_IMMEDIATE` on: what cannot be sent now is the caller's to keep or drop.
package struct Socket: ~Copyable {
    package enum Kind: Sendable {
        case router, dealer, push, pull, reply, pair

        var number: Int32 {
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
    let context: Context

    package init(_ context: Context, _ kind: Kind, _ options: SocketOptions) throws(ZeroMQError) {
        // A noncopyable value can't be given up half made, so the handle is set up before there is one.
        guard let handle = zmq_socket(context.handle, kind.number) else { throw .last("a ZeroMQ socket") }
        do {
            try Self.configure(handle, kind, options)
        } catch {
            zmq_close(handle)
            throw error
        }
        self.handle = handle
        self.context = context
    }

    deinit { zmq_close(handle) }

    /// Listens. Returns the endpoint with the port that was given for `:0` or `:*`.
    package func bind(_ endpoint: String) throws(ZeroMQError) -> String {
        try check(zmq_bind(handle, endpoint.hasSuffix(":0") ? String(endpoint.dropLast()) + "*" : endpoint), "listening on \(endpoint)")
        var text = [CChar](repeating: 0, count: 512)
        var count = text.count
        try check(zmq_getsockopt(handle, ZMQ_LAST_ENDPOINT, &text, &count), "ZMQ_LAST_ENDPOINT")
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Connects in the background, and again whenever the connection ends.
    package func connect(_ endpoint: String) throws(ZeroMQError) {
        try check(zmq_connect(handle, endpoint), "connecting to \(endpoint)")
    }

    /// The next message if one has come. A message of more than `partsMax` parts is read to its end and returned with `isOversized`.
    package func receive(partsMax: Int = 4) throws(ZeroMQError) -> Message? {
        let message = Message()
        while true {
            guard try message.receivePart(from: handle, keep: message.count < partsMax) else { return nil }
            if !message.hasMore { return message }
        }
    }

    /// Hands the parts to libzmq as one message. False, with nothing sent, when the peer's queue is full or no peer is connected;
    /// throws `unreachable` when a router does not know the identity in the first part.
    package func send(_ parts: [OutgoingPart]) throws(ZeroMQError) -> Bool {
        precondition(!parts.isEmpty, "a message has parts")
        for (index, part) in parts.enumerated() {
            let flags = ZMQ_DONTWAIT | (index + 1 < parts.count ? ZMQ_SNDMORE : 0)
            if part.send(to: handle, flags: flags) { continue }
            if zmq_errno() == EAGAIN, index == 0 { return false }
            throw .last("sending part \(index + 1) of \(parts.count)")
        }
        return true
    }

    /// Tells handshakes that the peer refuses; see `HandshakeMonitor`.
    package func monitor() throws(ZeroMQError) -> HandshakeMonitor { try HandshakeMonitor(of: handle, context: context) }

    private static func configure(_ handle: UnsafeMutableRawPointer, _ kind: Kind, _ options: SocketOptions) throws(ZeroMQError) {
        func set(_ option: Int32, _ value: some BitwiseCopyable) throws(ZeroMQError) {
            var value = value
            if zmq_setsockopt(handle, option, &value, MemoryLayout.size(ofValue: value)) == -1 { throw .last("socket option \(option)") }
        }
        func set(_ option: Int32, bytes: [UInt8]) throws(ZeroMQError) {
            if zmq_setsockopt(handle, option, bytes, bytes.count) == -1 { throw .last("socket option \(option)") }
        }
        try set(ZMQ_LINGER, Int32(0))
        try set(ZMQ_IMMEDIATE, Int32(1))
        try set(ZMQ_SNDHWM, options.sendQueueMax)
        try set(ZMQ_RCVHWM, options.receiveQueueMax)
        try set(ZMQ_HEARTBEAT_IVL, options.heartbeatIntervalMs)
        try set(ZMQ_HEARTBEAT_TIMEOUT, options.heartbeatTimeoutMs)
        try set(ZMQ_HEARTBEAT_TTL, options.heartbeatTimeoutMs)
        try set(ZMQ_HANDSHAKE_IVL, options.handshakeTimeoutMs)
        try set(ZMQ_RECONNECT_IVL, options.reconnectMs)
        try set(ZMQ_RECONNECT_IVL_MAX, options.reconnectMsMax)
        try set(ZMQ_MAXMSGSIZE, options.partBytesMax)
        if kind == .router { try set(ZMQ_ROUTER_MANDATORY, Int32(1)) }
        switch options.curve {
        case .server(let secretKey, let domain):
            try set(ZMQ_CURVE_SERVER, Int32(1))
            try set(ZMQ_CURVE_SECRETKEY, bytes: secretKey)
            try set(ZMQ_ZAP_DOMAIN, bytes: Array(domain.utf8))
        case .client(let serverKey, let own):
            try set(ZMQ_CURVE_SERVERKEY, bytes: serverKey)
            try set(ZMQ_CURVE_PUBLICKEY, bytes: own.publicKey)
            try set(ZMQ_CURVE_SECRETKEY, bytes: own.secretKey)
        case nil:
            break
        }
    }

    private func check(_ result: Int32, _ what: @autoclosure () -> String) throws(ZeroMQError) {
        if result == -1 { throw .last(what()) }
    }
}
