import CZeroMQ

/// Decides which keys may connect (ZAP, RFC 27). Lives on the socket thread, beside the sockets that it guards.
///
/// It must be made before a guarded socket listens: libzmq asks nobody otherwise, and lets everybody in or nobody, depending on its version.
package final class AccessList {
    private static let endpoint = "inproc://zeromq.zap.01"
    private static let requestParts = 7

    private let socket: Socket
    private var admitted: [String: Set<[UInt8]>] = [:]
    /// Handshakes refused so far.
    package private(set) var denials: UInt64 = 0

    package init(_ context: Context) throws(ZeroMQError) {
        socket = try Socket(context, .reply, SocketOptions(curve: nil))
        _ = try socket.bind(Self.endpoint)
    }

    /// Lets a key connect to sockets of a domain from now on.
    package func admit(_ key: [UInt8], domain: String) { admitted[domain, default: []].insert(key) }

    /// Refuses new connections of a key. Open ones stay; who handles their messages must look at the key.
    package func revoke(_ key: [UInt8], domain: String) { admitted[domain]?.remove(key) }

    /// Replaces all keys of a domain.
    package func admitOnly(_ keys: some Sequence<[UInt8]>, domain: String) { admitted[domain] = Set(keys) }

    package func addTo(_ poller: inout Poller) -> Int { poller.add(socket) }

    /// Answers every handshake that waits.
    package func serve() throws(ZeroMQError) {
        while let request = try socket.receive(partsMax: Self.requestParts) {
            _ = try socket.send(answer(to: request))
        }
    }

    /// Parts of a request: version, id, domain, address, identity, mechanism, credentials.
    private func answer(to request: Message) -> [OutgoingPart] {
        guard request.count == Self.requestParts, !request.isOversized else {
            return reply(id: request.count > 1 ? request.bytes(of: 1) : [], status: "400", text: "malformed request")
        }
        let id = request.bytes(of: 1)
        let domain = String(decoding: request.bytes(of: 2), as: UTF8.self)
        let key = request.bytes(of: 6)
        guard request.bytes(of: 0) == Array("1.0".utf8), request.bytes(of: 5) == Array("CURVE".utf8), key.count == CurveKeyPair.keyBytes,
            admitted[domain]?.contains(key) == true
        else {
            denials += 1
            return reply(id: id, status: "400", text: "key not admitted")
        }
        return reply(id: id, status: "200", text: "OK", user: Z85.text(key))
    }

    private func reply(id: [UInt8], status: String, text: String, user: [UInt8] = []) -> [OutgoingPart] {
        [.bytes(Array("1.0".utf8)), .bytes(id), .bytes(Array(status.utf8)), .bytes(Array(text.utf8)), .bytes(user), .bytes([])]
    }
}
