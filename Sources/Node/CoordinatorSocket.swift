import ClusterCore
import Wire
import ZeroMQ

/// The socket from a worker (or the operator's console) to its coordinator, with what waits to be sent over it.
struct CoordinatorSocket: ~Copyable {
    static let messagesWaitingMax = 1_024

    private let socket: Socket
    private let monitor: HandshakeMonitor
    private var queue = SendQueue(capacity: messagesWaitingMax)

    init(context: Context, enrolment: Enrolment, own: CurveKeyPair) throws(ZeroMQError) {
        var options = SocketOptions(.curveClient(own, server: enrolment.coordinatorKey.curve))
        options.maxPartBytes = Limits.controlFrameBytesMax
        let socket = try Socket(context, .dealer, options)
        let monitor = try socket.handshakeMonitor()
        try socket.connect(enrolment.endpoint)
        self.socket = socket
        self.monitor = monitor
    }

    /// False when `messagesWaitingMax` messages wait and this one was dropped.
    mutating func send(_ message: ToCoordinator) throws(ZeroMQError) -> Bool {
        try queue.send(Message(copying: WireCodec.encode(message)), over: socket)
    }

    mutating func flush() throws(ZeroMQError) { try queue.flush(over: socket) }

    /// The next message, decoded; `nil` when none has come.
    borrowing func receive() throws(ZeroMQError) -> Result<FromCoordinator, WireError>? {
        var isTooLarge = false
        let received = try socket.receive(maxParts: 1) { isTooLarge = true }
        if isTooLarge { return .failure(WireError(.malformed, "the coordinator sent a message over the limits")) }
        guard let message = received else { return nil }
        do { return .success(try message.withBytes(of: 0, WireCodec.decodeFromCoordinator)) } catch { return .failure(error) }
    }

    /// The same for whoever asks once: what is none of ours is passed over, but a coordinator of another major is told of. Throws `NodeError` then.
    borrowing func receiveAnswer(from endpoint: String) throws -> FromCoordinator?? {
        switch try receive() {
        case nil: return nil
        case .success(let message): return .some(message)
        case .failure(let error) where error.code == .versionMismatch:
            throw NodeError(.enrolmentFailed, "the coordinator at \(endpoint) speaks another protocol: \(error.message)")
        case .failure: return .some(nil)
        }
    }

    /// Whether something waits to be sent, or may have come unnoticed while something was sent.
    borrowing func hasSomethingToDo() throws(ZeroMQError) -> Bool {
        if !queue.isEmpty { return true }
        return try socket.hasUnnoticedMessages()
    }

    /// Whether the coordinator's access list turned this key away since the last call.
    borrowing func isRefused() throws(ZeroMQError) -> Bool {
        var refused = false
        while let event = try monitor.next() {
            if case .refused = event { refused = true }
        }
        return refused
    }

    /// The second is readable when there may be something for `isRefused` to tell.
    borrowing func watched(by poller: inout Poller) -> (messages: Poller.Entry, refusals: Poller.Entry) {
        (poller.watch(socket, queue.interest), poller.watch(monitor.socket))
    }
}
