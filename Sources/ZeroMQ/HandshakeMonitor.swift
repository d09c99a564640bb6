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

    /// For `Poller`.
    package let socket: Socket

    init(of watched: UnsafeMutableRawPointer, _ context: Context) throws(ZeroMQError) {
        let endpoint = "inproc://monitor-\(UInt(bitPattern: watched))"
        let events = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL
            | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL
        guard zmq_socket_monitor(watched, endpoint, events) == 0 else { throw ZeroMQError.last("watching a socket") }
        let socket = try Socket(context, .pair)
        try socket.connect(endpoint)
        self.socket = socket
    }

    /// The next event if there is one.
    package borrowing func next() throws(ZeroMQError) -> Event? {
        guard let message = try socket.receive() else { return nil }
        let number = message.withBytes(of: 0) { $0.count >= 2 ? Int32($0.loadUnaligned(as: UInt16.self)) : 0 }
        switch number {
        case ZMQ_EVENT_HANDSHAKE_SUCCEEDED: return .succeeded
        case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH: return .refused
        default: return .failed
        }
    }
}
