import HummingbirdCore
import NIOCore
import NIOHTTPTypes
import NIOTLS

/// Stands in each connection's pipeline twice: at its front, where bytes come in, and behind the HTTP decoder. Closes a connection that is too
/// slow in sending a request, or in reading its answer. Its event loop owns it.
final class PaceKeeper {
    private var pace: ConnectionPace
    private let connection: Connection
    private let writeStallMs: UInt64
    private let onClose: @Sendable (GatewayMetrics.Closing) -> Void
    /// One at a time, looked at when it comes: most requests are over long before.
    private var alarm: Scheduled<Void>?
    private var unwritableSince: ContinuousClock.Instant?

    init(_ connection: Connection, limits: GatewayLimits, onClose: @escaping @Sendable (GatewayMetrics.Closing) -> Void) {
        pace = ConnectionPace(headMs: limits.headMs, bodyMs: limits.bodyMs, at: .now)
        self.connection = connection
        writeStallMs = limits.writeStallMs
        self.onClose = onClose
        connection.idle(since: .now)
    }

    func end() {
        alarm?.cancel()
        alarm = nil
    }

    private func change(_ body: (inout ConnectionPace) -> Void, _ context: ChannelHandlerContext) {
        let before = pace.phase
        body(&pace)
        guard pace.phase != before else { return }
        connection.idle(since: pace.idleSince)
        setAlarm(context)
    }

    private func setAlarm(_ context: ChannelHandlerContext) {
        guard alarm == nil, let deadline else { return }
        let channel = context.channel
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        alarm = context.eventLoop.scheduleTask(in: .nanoseconds(max(0, Int64((deadline - .now).inSeconds * 1e9)) + 1_000_000)) {
            bound.value.alarmCame(channel)
        }
    }

    private var deadline: ContinuousClock.Instant? {
        [pace.deadline, unwritableSince.map { $0 + .milliseconds(writeStallMs) }].compactMap(\.self).min()
    }

    private func alarmCame(_ channel: any Channel) {
        alarm = nil
        guard let deadline else { return }
        guard deadline <= .now else {
            let bound = NIOLoopBound(self, eventLoop: channel.eventLoop)
            alarm = channel.eventLoop.scheduleTask(in: .nanoseconds(Int64((deadline - .now).inSeconds * 1e9) + 1_000_000)) {
                bound.value.alarmCame(channel)
            }
            return
        }
        switch pace.phase {
        case .head: onClose(.slowHead)
        case .body: onClose(.slowBody)
        case .idle, .answering: onClose(.slowReader)
        }
        channel.close(promise: nil)
    }

    /// At the front of the pipeline, before TLS.
    final class Front: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        private let keeper: PaceKeeper

        init(_ keeper: PaceKeeper) { self.keeper = keeper }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            keeper.change({ $0.bytesCame(at: .now) }, context)
            context.fireChannelRead(data)
        }

        func channelWritabilityChanged(context: ChannelHandlerContext) {
            keeper.unwritableSince = context.channel.isWritable ? nil : .now
            keeper.setAlarm(context)
            context.fireChannelWritabilityChanged()
        }
    }

    /// Behind the HTTP decoder.
    final class Inner: ChannelDuplexHandler, RemovableChannelHandler {
        typealias InboundIn = HTTPRequestPart
        typealias OutboundIn = HTTPResponsePart
        typealias OutboundOut = HTTPResponsePart

        private let connections: Connections
        private let limits: GatewayLimits
        private let onClose: @Sendable (GatewayMetrics.Closing) -> Void
        private var keeper: PaceKeeper?

        /// - Parameter connections: has to know the connection already (`ConnectionWatch` stands before this handler).
        init(_ connections: Connections, limits: GatewayLimits, onClose: @escaping @Sendable (GatewayMetrics.Closing) -> Void) {
            self.connections = connections
            self.limits = limits
            self.onClose = onClose
        }

        func handlerAdded(context: ChannelHandlerContext) {
            guard let connection = connections.connection(of: context.channel) else { return }
            let keeper = PaceKeeper(connection, limits: limits, onClose: onClose)
            self.keeper = keeper
            // Only a pipeline that is torn down already refuses it.
            try? context.pipeline.syncOperations.addHandler(Front(keeper), position: .first)
        }

        func handlerRemoved(context: ChannelHandlerContext) { keeper?.end() }

        func channelInactive(context: ChannelHandlerContext) {
            keeper?.end()
            context.fireChannelInactive()
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            switch unwrapInboundIn(data) {
            case .head: keeper?.change({ $0.headEnded(at: .now) }, context)
            case .body: break
            case .end: keeper?.change({ $0.requestEnded() }, context)
            }
            context.fireChannelRead(data)
        }

        func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
            if case .end = unwrapOutboundIn(data) { keeper?.change({ $0.answerEnded(at: .now) }, context) }
            context.write(data, promise: promise)
        }

        func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
            if let event = event as? TLSUserEvent, case .handshakeCompleted = event {
                keeper?.change({ $0.handshakeEnded(at: .now) }, context)
            }
            context.fireUserInboundEventTriggered(event)
        }
    }
}
