import CZeroMQ

/// Who may connect to this context's CURVE servers: the handler that libzmq asks for each new connection (ZAP, RFC 27).
///
/// Owned by the socket thread, which polls `socket` and calls `answerPending`. Make it before binding a server. Connections that stand are not
/// asked again:
/// whoever revokes a key also drops frames of it. A refused client is told so for good (status 400): libzmq gives its connection up, and its
/// owner makes a new
/// socket to try again.
package struct AccessList: ~Copyable {
    package static let endpoint = "inproc://zeromq.zap.01"
    /// Requests answered in one call, so that a flood of strangers doesn't starve the loop.
    package static let answersPerCallMax = 64

    package let domain: String
    package private(set) var admitted: Set<CurvePublicKey> = []
    /// Handshakes refused since the start: unknown keys, other mechanisms, other domains.
    package private(set) var denials: UInt64 = 0
    /// Requests that were no ZAP; dropped.
    package private(set) var malformed: UInt64 = 0
    /// For `Poller`.
    package let socket: Socket
    private let context: Context

    package init(_ context: Context, domain: String) throws(ZeroMQError) {
        let socket = try Socket(context, .router)
        try socket.bind(Self.endpoint)
        self.domain = domain
        self.context = context
        self.socket = socket
        context.accessLists.wrappingAdd(1, ordering: .releasing)
    }

    /// New connections with this key are let in from now on.
    package mutating func admit(_ key: CurvePublicKey) { admitted.insert(key) }

    /// New connections with this key are refused from now on.
    package mutating func revoke(_ key: CurvePublicKey) { admitted.remove(key) }

    /// Replaces all keys: new connections of others are refused from now on.
    package mutating func admitOnly(_ keys: some Sequence<CurvePublicKey>) { admitted = Set(keys) }

    /// Answers what libzmq has asked; never waits.
    package mutating func answerPending() throws(ZeroMQError) {
        for _ in 0..<Self.answersPerCallMax {
            guard let request = try nextRequest() else { return }
            guard let asked = Request(request) else {
                malformed += 1
                continue
            }
            let key = asked.domain == domain ? asked.curveKey.flatMap { admitted.contains($0) ? $0 : nil } : nil
            if key == nil { denials += 1 }
            var reply = asked.reply(admitting: key)
            // An asker that has gone in the meantime needs no answer.
            do { _ = try socket.send(&reply) } catch  where error.code != .contextClosed {}
        }
    }

    private mutating func nextRequest() throws(ZeroMQError) -> Message? {
        while true {
            do { return try socket.receive() } catch {
                guard error.code == .messageTooLarge else { throw error }
                malformed += 1
            }
        }
    }

    deinit { context.accessLists.wrappingSubtract(1, ordering: .releasing) }
}

/// One question of libzmq: routing id, empty part, version, request id, domain, address, routing id of the peer, mechanism, credentials.
private struct Request {
    let asker: [UInt8]
    let requestID: [UInt8]
    let domain: String
    /// `nil` for every mechanism but CURVE.
    let curveKey: CurvePublicKey?

    private static let version = Array("1.0".utf8)
    private static let partsBeforeCredentials = 8

    init?(_ message: borrowing Message) {
        guard message.count >= Self.partsBeforeCredentials, message.byteCount(of: 1) == 0, message.bytes(of: 2) == Self.version else { return nil }
        asker = message.bytes(of: 0)
        requestID = message.bytes(of: 3)
        domain = String(decoding: message.bytes(of: 4), as: UTF8.self)
        let isCurve = message.bytes(of: 7) == Array("CURVE".utf8) && message.count == Self.partsBeforeCredentials + 1
        curveKey = isCurve ? try? CurvePublicKey(bytes: message.bytes(of: 8)) : nil
    }

    func reply(admitting key: CurvePublicKey?) -> Message {
        var message = Message()
        message.append(copying: asker)
        message.append(Frame())
        message.append(copying: Self.version)
        message.append(copying: requestID)
        message.append(copying: Array((key == nil ? "400" : "200").utf8))
        message.append(copying: Array((key == nil ? "key not admitted" : "").utf8))
        message.append(copying: Array((key?.z85 ?? "").utf8))
        message.append(Frame())
        return message
    }
}
