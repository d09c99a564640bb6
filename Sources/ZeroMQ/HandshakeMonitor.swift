import CZeroMQ

/// Watches a connecting socket for a server that refuses its key, which libzmq otherwise retries in silence.
package struct HandshakeMonitor: ~Copyable {
    package enum Event: Sendable {
        case succeeded
        /// The server's access list does not admit our key.
        case refused
        /// The server has another key than we asked for, speaks no CURVE, or is no ZeroMQ peer.
        case failed
    }

    private let pair: Socket

    init(of socket: UnsafeMutableRawPointer, context: Context) throws(ZeroMQError) {
        let address = "inproc://monitor-\(UInt(bitPattern: socket))"
        let events = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL
            | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL
        guard zmq_socket_monitor(socket, address, events) == 0 else { throw .last("watching a socket") }
        let pair = try Socket(context, .pair, SocketOptions(curve: nil))
        try pair.connect(address)
        self.pair = pair
    }

    /// The next event if there is one.
    package func next() throws(ZeroMQError) -> Event? {
        guard let message = try pair.receive(partsMax: 2) else { return nil }
        let number = message.withBytes(of: 0) { $0.count >= 2 ? Int32($0.loadUnaligned(as: UInt16.self)) : 0 }
        switch number {
        case ZMQ_EVENT_HANDSHAKE_SUCCEEDED: return .succeeded
        case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH: return .refused
        default: return .failed
        }
    }

    package func addTo(_ poller: inout Poller) -> Int { poller.add(pair) }
}
