import ClusterCore
import Wire
import ZeroMQ

/// The push sockets to the workers with which this one exchanges keys and values, made when they are first needed and closed together.
///
/// Beside the socket for activations, so that a step never waits behind keys and values in a queue of ours.
struct TransferLinks: ~Copyable {
    /// Receipts and frames for one worker that wait for its connection: more than its window ever allows.
    static let messagesWaitingMax = 64

    /// An array can't hold what can't be copied; a box can.
    private final class Link {
        let peer: StagePeer
        private let socket: Socket
        private var queue = SendQueue(capacity: TransferLinks.messagesWaitingMax)

        init(_ peer: StagePeer, _ context: Context, own: CurveKeyPair) throws(ZeroMQError) {
            let socket = try Socket(context, .push, SocketOptions(.curveClient(own, server: peer.key.curve)))
            try socket.connect(peer.endpoint)
            self.peer = peer
            self.socket = socket
        }

        func send(_ message: consuming Message) throws(ZeroMQError) -> Bool { try queue.send(message, over: socket) }
        func flush() throws(ZeroMQError) { try queue.flush(over: socket) }
        func watched(by poller: inout Poller) { if !queue.isEmpty { _ = poller.watch(socket, .writable) } }
    }

    private var links: [Link] = []

    /// False when `messagesWaitingMax` messages wait for the peer and this one was dropped.
    mutating func send(
        _ frame: TransferFrame, _ bytes: ActivationBuffer?, to peer: StagePeer, _ context: Context, _ own: CurveKeyPair
    ) throws(ZeroMQError) -> Bool {
        var message = Message(copying: WireCodec.encode(frame))
        if let bytes { message.append(Frame(adopting: bytes.rows) { _ in withExtendedLifetime(bytes) {} }) }
        if let link = links.first(where: { $0.peer == peer }) { return try link.send(message) }
        let link = try Link(peer, context, own: own)
        links.append(link)
        return try link.send(message)
    }

    borrowing func flush() throws(ZeroMQError) { for link in links { try link.flush() } }
    borrowing func watched(by poller: inout Poller) { for link in links { link.watched(by: &poller) } }
    mutating func close() { links = [] }
}
