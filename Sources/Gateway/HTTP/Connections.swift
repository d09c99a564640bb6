import NIOCore
import Synchronization

/// The open client connections, so that a request's handler hears of its client's leaving and shutdown can close what lingers.
///
/// Above seven eighths of what there may be, those that have been idle longest are closed, so that idle clients can't keep others out.
final class Connections: Sendable {
    private let open = Mutex<[ObjectIdentifier: Connection]>([:])
    private let max: Int
    private let onEvicted: @Sendable () -> Void

    init(max: Int, onEvicted: @escaping @Sendable () -> Void = {}) {
        self.max = max
        self.onEvicted = onEvicted
    }

    var count: Int { open.withLock { $0.count } }

    func connection(of channel: any Channel) -> Connection? {
        open.withLock { $0[ObjectIdentifier(channel)] }
    }

    func closeAll() {
        for connection in open.withLock({ Array($0.values) }) { connection.close() }
    }

    fileprivate func add(_ connection: Connection) {
        let evicted: [Connection] = open.withLock { open in
            open[ObjectIdentifier(connection.channel)] = connection
            // A sixteenth at once: looking through all of them for each newcomer would be an attack of its own.
            let batch = Swift.max(1, max / 16)
            guard open.count > max - max / 8, open.count % batch == 0 else { return [] }
            let idle = open.values.compactMap { other in other === connection ? nil : other.idleSince.map { (since: $0, connection: other) } }
            let longest = idle.sorted { $0.since < $1.since }.prefix(batch).map(\.connection)
            // They stay here until they are closed, and must not be chosen again until then.
            for connection in longest { connection.idle(since: nil) }
            return longest
        }
        for connection in evicted {
            onEvicted()
            connection.close()
        }
    }

    fileprivate func remove(_ connection: Connection) {
        _ = open.withLock { $0.removeValue(forKey: ObjectIdentifier(connection.channel)) }
    }
}

/// One client's connection. HTTP/1 has one request at a time on it, so one listener is enough.
final class Connection: Sendable {
    fileprivate let channel: any Channel
    private let state = Mutex(State())

    private struct State {
        var isGone = false
        var onGone: (@Sendable () -> Void)?
        var idleSince: ContinuousClock.Instant?
    }

    /// `nil` while a request comes in or is answered.
    var idleSince: ContinuousClock.Instant? { state.withLock { $0.idleSince } }

    func idle(since: ContinuousClock.Instant?) { state.withLock { $0.idleSince = since } }

    fileprivate init(channel: any Channel) { self.channel = channel }

    var isGone: Bool { state.withLock { $0.isGone } }

    /// Calls `action` once when the client closes its side or the connection breaks, at once if that has happened.
    /// Replaces the listener before it; `nil` takes it away.
    func onGone(_ action: (@Sendable () -> Void)?) {
        let isGone = state.withLock { state in
            if !state.isGone { state.onGone = action }
            return state.isGone
        }
        if isGone { action?() }
    }

    /// Drops what the client has not read yet. Writers that wait for the client throw.
    func close() { channel.close(promise: nil) }

    fileprivate func gone() {
        let action = state.withLock { state in
            defer { state.onGone = nil }
            state.isGone = true
            return state.onGone
        }
        action?()
    }
}

/// Stands in each connection's pipeline and sees the client's half-close, reset or close even while nobody reads or writes.
///
/// A half-close counts as leaving: no HTTP client in use closes its sending side and goes on reading.
final class ConnectionWatch: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = NIOAny

    private let connections: Connections
    private var connection: Connection?

    init(_ connections: Connections) { self.connections = connections }

    func handlerAdded(context: ChannelHandlerContext) {
        let connection = Connection(channel: context.channel)
        self.connection = connection
        connections.add(connection)
    }

    func handlerRemoved(context: ChannelHandlerContext) { leave() }

    func channelInactive(context: ChannelHandlerContext) {
        leave()
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if error is IOError { connection?.gone() }
        context.fireErrorCaught(error)
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let event = event as? ChannelEvent, event == .inputClosed { connection?.gone() }
        context.fireUserInboundEventTriggered(event)
    }

    private func leave() {
        guard let connection else { return }
        self.connection = nil
        connections.remove(connection)
        connection.gone()
    }
}
