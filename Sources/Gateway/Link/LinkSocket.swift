import ClusterCore
import Wire
import ZeroMQ

/// The gateway's socket to the coordinator: a dealer that proves itself by CURVE, and frames on it. Owned by one thread.
struct LinkSocket: ~Copyable {
    /// What a received message turned out to be.
    enum Incoming {
        /// `header` is the part beside a welcome.
        case message(FromCoordinator, header: [UInt8]?)
        /// Refused by `Wire` or over a limit.
        case malformed
    }

    /// Frames that wait for the connection or for room. The machine repeats what is lost, so the oldest go first.
    static let outboxMax = 4096

    let socket: Socket
    private let monitor: HandshakeMonitor
    private var outbox: [[UInt8]] = []

    init(_ context: Context, _ configuration: GatewayConfiguration) throws(ZeroMQError) {
        var options = SocketOptions(.curveClient(configuration.keys, server: configuration.coordinatorKey))
        options.maxPartBytes = max(Limits.controlFrameBytesMax, Limits.modelHeaderBytesMax)
        let socket = try Socket(context, .dealer, options)
        let monitor = try socket.handshakeMonitor()
        try socket.connect(configuration.coordinatorEndpoint)
        self.socket = socket
        self.monitor = monitor
    }

    /// Whether the coordinator's access list turned this gateway's key away since the last call: it was revoked, or never admitted.
    func isRefused() throws(ZeroMQError) -> Bool {
        var refused = false
        while let event = try monitor.next() {
            if case .refused = event { refused = true }
        }
        return refused
    }

    var hasUnsent: Bool { !outbox.isEmpty }

    mutating func send(_ message: ToCoordinator) throws(ZeroMQError) {
        if outbox.count >= Self.outboxMax { outbox.removeFirst() }
        outbox.append(WireCodec.encode(message))
        try flush()
    }

    /// Sends what waits, as far as there is room.
    mutating func flush() throws(ZeroMQError) {
        var sent = 0
        while sent < outbox.count, try socket.send(Message(copying: outbox[sent])) { sent += 1 }
        outbox.removeFirst(sent)
    }

    /// `nil` when nothing waits.
    func receive() throws(ZeroMQError) -> Incoming? {
        let message: Message?
        do {
            message = try socket.receive(maxParts: 2)
        } catch where error.code == .messageTooLarge {
            return .malformed
        }
        guard let message else { return nil }
        guard message.byteCount(of: 0) <= Limits.controlFrameBytesMax else { return .malformed }
        do {
            let decoded = try message.withBytes(of: 0) { (bytes) throws(WireError) in try WireCodec.decodeFromCoordinator(bytes) }
            guard case .gatewayWelcome = decoded else { return message.count == 1 ? .message(decoded, header: nil) : .malformed }
            // A welcome without the model's header would leave the gateway without a vocabulary.
            guard message.count == 2, (1...Limits.modelHeaderBytesMax).contains(message.byteCount(of: 1)) else { return .malformed }
            return .message(decoded, header: message.bytes(of: 1))
        } catch where error.code == .versionMismatch {
            // It answered, so it will not have us: with other words than ours.
            return .message(.refused(Failure(.versionMismatch, "the coordinator speaks another protocol: \(error.message)")), header: nil)
        } catch {
            return .malformed
        }
    }
}
