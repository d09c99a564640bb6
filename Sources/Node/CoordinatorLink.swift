import ClusterCore
import Wire
import ZeroMQ

/// The socket from a worker (or the operator's console) to its coordinator, with what waits to be sent over it.
struct CoordinatorLink: ~Copyable {
    static let messagesWaitingMax = 1_024

    struct Received {
        var message: FromCoordinator
        /// What travelled beside it; only `.gatewayWelcome` has any.
        var payload: [UInt8]
    }

    private let socket: Socket
    private let monitor: HandshakeMonitor
    private var queue = SendQueue(capacity: messagesWaitingMax)

    init(context: Context, enrolment: Enrolment, own: CurveKeyPair) throws(ZeroMQError) {
        var options = SocketOptions(curve: .client(serverKey: enrolment.coordinatorKey.bytes, own: own))
        options.partBytesMax = Int64(Limits.modelHeaderBytesMax)
        let socket = try Socket(context, .dealer, options)
        let monitor = try socket.monitor()
        try socket.connect(enrolment.endpoint)
        self.socket = socket
        self.monitor = monitor
    }

    /// False when `messagesWaitingMax` messages wait and this one was dropped.
    mutating func send(_ message: ToCoordinator) throws(ZeroMQError) -> Bool {
        try queue.send([.bytes(WireCodec.encode(message))], over: socket)
    }

    mutating func flush() throws(ZeroMQError) { try queue.flush(over: socket) }

    /// The next message, decoded; `nil` when none has come.
    func receive() throws(ZeroMQError) -> Result<Received, WireError>? {
        guard let message = try socket.receive(partsMax: 2) else { return nil }
        guard !message.isOversized else { return .failure(WireError(.malformed, "a message of more than two parts came from the coordinator")) }
        do {
            let decoded = try message.withBytes(of: 0) { bytes throws(WireError) in try WireCodec.decodeFromCoordinator(bytes) }
            return .success(Received(message: decoded, payload: message.count > 1 ? message.bytes(of: 1) : []))
        } catch {
            return .failure(error)
        }
    }

    /// Whether the coordinator's access list turned this key away since the last call.
    func isRefused() throws(ZeroMQError) -> Bool {
        var refused = false
        while let event = try monitor.next() {
            if case .refused = event { refused = true }
        }
        return refused
    }

    func addTo(_ poller: inout Poller) -> Int { poller.add(socket, writing: !queue.isEmpty) }
}
