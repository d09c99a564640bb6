import ClusterCore
import Foundation
import Logging
import Synchronization
import Wire
import ZeroMQ

/// How weights are handed on.
package struct WeightServerSettings: Sendable {
    /// Where to listen; port 0 takes any free one.
    package var listen: String
    /// How others reach that; the host counts, the port only where it is not 0.
    package var advertise: String?
    /// Bytes that leave in a second at most. Beside it there is only the lowest priority: whoever computes comes first.
    package var bytesPerSecondMax: Int = bytesPerSecondMaxDefault
    package static let bytesPerSecondMaxDefault = 1 << 30

    package init(listen: String, advertise: String?) {
        self.listen = listen
        self.advertise = advertise
    }

    /// `explicit`, or the host of `other` and any free port.
    package static func besides(_ other: String, advertise: String?, explicit: String?, bytesPerSecondMax: Int?) -> Self {
        var settings = Self(listen: explicit ?? Self.with(port: "0", other), advertise: advertise)
        if let bytesPerSecondMax { settings.bytesPerSecondMax = bytesPerSecondMax }
        return settings
    }

    static func with(port: some StringProtocol, _ endpoint: String) -> String {
        endpoint.lastIndex(of: ":").map { String(endpoint[...$0]) + port } ?? endpoint
    }
}

/// Hands chunks of model files to workers that fetch, on a thread of its own with a context of its own, all of the lowest priority:
/// reading, encrypting and sending must not take the processor from a step.
///
/// A request names a model and a number, never a place or a path. One request is answered at a time, and no faster than allowed; a
/// fetcher that asks for more than its connection takes gets nothing for it. Only keys that the coordinator named are let in or answered.
final class WeightServer: Sendable {
    private static let domain = "weights"
    private static let niceness: Int32 = 19
    private static let pollMs = 250
    /// Replies that wait for one slow fetcher.
    private static let repliesWaitingMax = 4
    private static let requestBytesMax = 1 << 10

    /// Since the start.
    struct Counts: Hashable, Sendable {
        var chunks: UInt64 = 0
        var bytes: UInt64 = 0
        /// Requests that were none, named what is not here, or came from a key that is not let in.
        var refused: UInt64 = 0
    }

    private enum Command: Sendable {
        case admit([PeerKey])
        case end
    }

    /// What others connect to.
    let endpoint: String
    private let commands: Mailbox<Command>
    private let tally: Tally
    private let thread: NodeThread

    private final class Tally: Sendable {
        let counts = Mutex(Counts())
        let endpoint = Mutex("")
    }

    /// Listens at once.
    init(keys: CurveKeyPair, settings: WeightServerSettings, holdings: WeightHoldings, logger: Logger) throws {
        let commands = try Mailbox<Command>(capacity: 64)
        let tally = Tally()
        thread = try NodeThread(name: "weights") { started in
            // Before the context, whose own thread inherits it. Linux takes 0 for the calling thread.
            _ = setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, Self.niceness)
            let context = try Context()
            var access = try AccessList(context, domain: Self.domain)
            var options = SocketOptions(.curveServer(keys, domain: Self.domain))
            options.maxPartBytes = Self.requestBytesMax
            options.maxMessageBytes = 2 * Self.requestBytesMax
            options.sendHighWaterMark = Self.repliesWaitingMax
            let socket = try Socket(context, .router, options)
            let bound = try socket.bind(settings.listen)
            tally.endpoint.withLock { $0 = Self.advertised(bound, settings.advertise) }
            started()
            do { try Self.serve(&access, socket, commands, holdings, tally, settings.bytesPerSecondMax) } catch {
                logger.error("weights are not handed on any more", metadata: ["reason": "\(error)"])
            }
        }
        self.commands = commands
        self.tally = tally
        endpoint = tally.endpoint.withLock { $0 }
    }

    private static func advertised(_ bound: String, _ advertise: String?) -> String {
        guard let advertise, let port = bound.split(separator: ":").last else { return bound }
        return WeightServerSettings.with(port: port, advertise)
    }

    var counts: Counts { tally.counts.withLock { $0 } }

    /// Only these may fetch from now on. Any thread.
    func admit(_ keys: [PeerKey]) { _ = commands.post(.admit(keys)) }

    func end() { _ = commands.post(.end) }

    private static func serve(
        _ access: inout AccessList, _ socket: borrowing Socket, _ commands: Mailbox<Command>, _ holdings: WeightHoldings, _ tally: Tally,
        _ bytesPerSecondMax: Int
    ) throws {
        var restUntil = MonotonicClock.now
        while true {
            let rest = Int((restUntil.nanoseconds(since: MonotonicClock.now) + 999_999) / 1_000_000)
            var poller = Poller()
            let handshakes = poller.watch(access.socket)
            let posted = poller.watch(commands)
            let requests = rest == 0 ? poller.watch(socket) : nil
            _ = try poller.wait(milliseconds: rest == 0 ? pollMs : min(rest, pollMs))
            if poller.isReadable(posted) {
                for command in commands.drain() {
                    switch command {
                    case .admit(let keys): access.admitOnly(keys.map(\.curve))
                    case .end: return
                    }
                }
            }
            if poller.isReadable(handshakes) { try access.answerPending() }
            if let requests, poller.isReadable(requests) {
                let bytes = try answerOne(socket, access.admitted, holdings, tally)
                restUntil = MonotonicClock.now.advanced(milliseconds: UInt64(bytes) * 1000 / UInt64(bytesPerSecondMax))
            }
        }
    }

    /// Parts: the connection's id, the request. Gives the bytes of weights that were sent.
    private static func answerOne(
        _ socket: borrowing Socket, _ admitted: Set<CurvePublicKey>, _ holdings: WeightHoldings, _ tally: Tally
    ) throws -> Int {
        var tooLarge: UInt64 = 0
        let received = try socket.receive(maxParts: 2) { tooLarge += 1 }
        tally.counts.withLock { $0.refused += tooLarge }
        guard let message = received else { return 0 }
        guard let request = request(in: message, admitted) else {
            tally.counts.withLock { $0.refused += 1 }
            return 0
        }
        var reply = Message(copying: message.bytes(of: 0))
        let bytes = answer(request, holdings, &reply) ?? -1
        let isSent = try send(reply, over: socket)
        tally.counts.withLock { counts in
            if bytes < 0 { counts.refused += 1 }
            if isSent, bytes > 0 {
                counts.chunks += 1
                counts.bytes += UInt64(bytes)
            }
        }
        return isSent ? max(0, bytes) : 0
    }

    private static func request(in message: borrowing Message, _ admitted: Set<CurvePublicKey>) -> WeightsRequest? {
        // A key that was taken from the list may still have its connection.
        guard message.count == 2, let key = message.authenticatedKey, admitted.contains(key) else { return nil }
        return try? message.withBytes(of: 1, WireCodec.decodeWeightsRequest)
    }

    /// False when the fetcher has gone, or has not taken what it asked for before.
    private static func send(_ reply: consuming Message, over socket: borrowing Socket) throws(ZeroMQError) -> Bool {
        do { return try socket.send(reply) } catch {
            guard error.code == .peerUnreachable else { throw error }
            return false
        }
    }

    /// Bytes of weights in the reply; `nil` where there is nothing to give.
    private static func answer(_ request: WeightsRequest, _ holdings: WeightHoldings, _ reply: inout Message) -> Int? {
        switch request {
        case .manifest(let model):
            guard let manifest = holdings[model]?.manifestBytes else { break }
            reply.append(copying: WireCodec.encode(WeightsReply.manifest(model)))
            reply.append(copying: manifest)
            return 0
        case .held(let model):
            guard let held = holdings[model]?.held else { break }
            reply.append(copying: WireCodec.encode(WeightsReply.held(model, count: held.count)))
            reply.append(copying: held.bytes)
            return 0
        case .chunk(let model, let index):
            guard let holding = holdings[model], index < holding.places.count, holding.held.contains(index) else { break }
            var frame = Frame(byteCount: holding.places[index].byteCount)
            let isRead = frame.withMutableBytes { (try? holding.read(chunk: index, into: $0)) != nil }
            // Room may have been made of it meanwhile.
            guard isRead, holding.held.contains(index) else { break }
            reply.append(copying: WireCodec.encode(WeightsReply.chunk(model, index)))
            reply.append(frame)
            return holding.places[index].byteCount
        }
        reply.append(copying: WireCodec.encode(WeightsReply.missing(request)))
        return nil
    }
}
