import CZeroMQ

extension SocketOptions {
    /// A CURVE message carries a command name, flags, a nonce and an authenticator beside its bytes; libzmq compares this sum with `ZMQ_MAXMSGSIZE`.
    static let curveOverheadBytes = 33

    /// Sets every option on a new socket.
    func apply(to handle: UnsafeMutableRawPointer, _ kind: Socket.Kind) throws(ZeroMQError) {
        precondition(maxPartBytes > 0 && maxMessageBytes >= maxPartBytes)
        // A high-water mark of 0 would mean "without bound".
        precondition(sendHighWaterMark > 0 && receiveHighWaterMark > 0, "every queue has a limit")
        let numbers: [(Int32, Int, String)] = [
            (ZMQ_LINGER, lingerMs, "lingerMs"),
            (ZMQ_IMMEDIATE, immediate ? 1 : 0, "immediate"),
            (ZMQ_HEARTBEAT_IVL, heartbeatIntervalMs, "heartbeatIntervalMs"),
            (ZMQ_HEARTBEAT_TIMEOUT, heartbeatTimeoutMs, "heartbeatTimeoutMs"),
            (ZMQ_HEARTBEAT_TTL, heartbeatTimeToLiveMs, "heartbeatTimeToLiveMs"),
            (ZMQ_SNDHWM, sendHighWaterMark, "sendHighWaterMark"),
            (ZMQ_RCVHWM, receiveHighWaterMark, "receiveHighWaterMark"),
            (ZMQ_HANDSHAKE_IVL, handshakeTimeoutMs, "handshakeTimeoutMs"),
            (ZMQ_CONNECT_TIMEOUT, connectTimeoutMs, "connectTimeoutMs"),
            (ZMQ_RECONNECT_IVL, reconnectIntervalMs, "reconnectIntervalMs"),
            (ZMQ_RECONNECT_IVL_MAX, reconnectIntervalMaxMs, "reconnectIntervalMaxMs"),
            (ZMQ_BACKLOG, backlog, "backlog"),
            (ZMQ_IPV6, ipv6 ? 1 : 0, "ipv6"),
        ]
        for (option, value, name) in numbers { try Self.set(handle, option, Int32(clamping: value), name) }
        try Self.set(handle, ZMQ_MAXMSGSIZE, Int64(maxPartBytes + Self.curveOverheadBytes), "maxPartBytes")
        if case .router = kind { try Self.set(handle, ZMQ_ROUTER_MANDATORY, Int32(routerMandatory ? 1 : 0), "routerMandatory") }
        try applySecurity(to: handle)
    }

    private func applySecurity(to handle: UnsafeMutableRawPointer) throws(ZeroMQError) {
        switch security {
        case .inProcessOnly:
            break
        case .curveServer(let keys, let domain):
            precondition(!domain.isEmpty, "libzmq asks no access list about an empty domain")
            try Self.set(handle, ZMQ_CURVE_SERVER, Int32(1), "security")
            try Self.set(handle, ZMQ_CURVE_SECRETKEY, keys.secretKey.bytes, "security")
            try Self.set(handle, ZMQ_ZAP_DOMAIN, Array(domain.utf8), "security")
        case .curveClient(let keys, let server):
            try Self.set(handle, ZMQ_CURVE_PUBLICKEY, keys.publicKey.bytes, "security")
            try Self.set(handle, ZMQ_CURVE_SECRETKEY, keys.secretKey.bytes, "security")
            try Self.set(handle, ZMQ_CURVE_SERVERKEY, server.bytes, "security")
        }
    }

    private static func set<Value: BitwiseCopyable>(
        _ handle: UnsafeMutableRawPointer, _ option: Int32, _ value: Value, _ name: String
    ) throws(ZeroMQError) {
        var value = value
        guard zmq_setsockopt(handle, option, &value, MemoryLayout<Value>.size) == 0 else { throw refused(name) }
    }

    private static func set(_ handle: UnsafeMutableRawPointer, _ option: Int32, _ bytes: [UInt8], _ name: String) throws(ZeroMQError) {
        guard zmq_setsockopt(handle, option, bytes, bytes.count) == 0 else { throw refused(name) }
    }

    private static func refused(_ name: String) -> ZeroMQError {
        let number = zmq_errno()
        if number == ETERM { return ZeroMQError(errorNumber: number, "setting a socket's \(name)") }
        return ZeroMQError(.optionRefused, "a socket's \(name): libzmq refuses the value (\(String(cString: zmq_strerror(number)))); choose another", cause: number)
    }
}
