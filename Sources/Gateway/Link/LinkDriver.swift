import ClusterCore
import Logging

/// What the async side asks of the link.
enum LinkCommand: Sendable {
    case submit(GenerationRequest, GenerationStream, prompt: Int)
    case cancel(RequestID)
    case cancelChoice(RequestID, UInt32)
    case askStatus
    case shutDown
}

/// Who runs a `LinkDriver`, as the server and the async side know it.
struct LinkOwner: Sendable {
    /// Hands over a command from any thread; false when there is no room for it.
    var post: @Sendable (LinkCommand) -> Bool
    /// Called once, before anything else is of use.
    var start: @Sendable (ClusterLink) -> Void
    /// Returns when the driver has ended and its socket is closed.
    var join: @Sendable () async -> Void
}

/// The machine `GatewayLink` and the streams it feeds. Performs all effects but those that need the socket.
///
/// Not thread-safe: one owner, the socket thread, calls it from `start` until it answers `.ended`.
struct LinkDriver {
    /// What is left for the owner of the socket, in order.
    enum Action {
        case send(ToCoordinator)
        /// Close the socket and open a new one.
        case reconnect
        case ended
    }

    private struct Consumer {
        var stream: GenerationStream
        var prompt: Int
        var choicesOpen: Int
    }

    private var machine: GatewayLink
    private let link: ClusterLink
    private let logger: Logger
    private var consumers: [RequestID: Consumer] = [:]
    private var effects: [GatewayLink.Effect] = []
    private var hasEnded = false

    init(link: ClusterLink, session: UInt64, name: String, requestsOpenMax: Int, coordinatorWaitMs: UInt64 = Limits.recoveryWaitMs, logger: Logger) {
        var configuration = GatewayLinkConfiguration(session: session, name: name)
        configuration.requestsOpenMax = requestsOpenMax
        configuration.coordinatorWaitMs = coordinatorWaitMs
        machine = GatewayLink(configuration: configuration)
        self.link = link
        self.logger = logger
    }

    var nextDeadline: Instant? { hasEnded ? nil : machine.nextDeadline }

    mutating func start(at now: Instant) -> [Action] { handle(.start, header: nil, at: now) }

    mutating func perform(_ command: LinkCommand, at now: Instant) -> [Action] {
        switch command {
        case .submit(let request, let stream, let prompt):
            guard !hasEnded else {
                _ = stream.deliver(.failed(link.endedFailure), prompt: prompt)
                return []
            }
            consumers[request.id] = Consumer(stream: stream, prompt: prompt, choicesOpen: request.choices)
            return handle(.submit(request), header: nil, at: now)
        case .cancel(let id):
            consumers[id] = nil
            return handle(.cancel(id), header: nil, at: now)
        case .cancelChoice(let id, let choice):
            return handle(.cancelChoice(id, choice), header: nil, at: now)
        case .askStatus:
            return handle(.statusWanted, header: nil, at: now)
        case .shutDown:
            return handle(.shutdown, header: nil, at: now)
        }
    }

    /// - Parameter header: the message's payload part: the model file's header beside a welcome.
    mutating func received(_ message: FromCoordinator, header: [UInt8]?, at now: Instant) -> [Action] {
        handle(.received(message), header: header, at: now)
    }

    mutating func receivedMalformedFrame(at now: Instant) -> [Action] { handle(.malformedFrame, header: nil, at: now) }

    mutating func reachedDeadline(at now: Instant) -> [Action] { handle(.deadline, header: nil, at: now) }

    private mutating func handle(_ event: GatewayLink.Event, header: [UInt8]?, at now: Instant) -> [Action] {
        guard !hasEnded else { return [] }
        var actions: [Action] = []
        machine.handle(event, at: now, into: &effects)
        // Performing an effect may give an event of its own (a reader too slow is cancelled), whose effects join the end.
        var next = 0
        while next < effects.count {
            perform(effects[next], header: header, at: now, &actions)
            next += 1
        }
        effects.removeAll(keepingCapacity: true)
        return actions
    }

    private mutating func perform(_ effect: GatewayLink.Effect, header: [UInt8]?, at now: Instant, _ actions: inout [Action]) {
        switch effect {
        case .send(let message): actions.append(.send(message))
        case .reconnect: actions.append(.reconnect)
        case .deliver(let id, let event): deliver(event, to: id, at: now)
        case .welcomed(let welcome): link.welcomed(welcome, header: header ?? [])
        case .health(let health): link.healthChanged(health)
        case .expectedWait(let milliseconds): link.expectedWaitChanged(milliseconds: milliseconds)
        case .status(let report): link.statusCame(report)
        case .log(let entry): logger.log(entry)
        case .ended(let failure):
            hasEnded = true
            link.ended(failure)
            actions.append(.ended)
        }
    }

    private mutating func deliver(_ event: StreamEvent, to id: RequestID, at now: Instant) {
        guard var consumer = consumers[id] else { return }
        let isTaken = consumer.stream.deliver(event, prompt: consumer.prompt)
        switch event {
        case .failed: consumers[id] = nil
        case .finished:
            consumer.choicesOpen -= 1
            consumers[id] = consumer.choicesOpen > 0 ? consumer : nil
        case .tokens, .paused, .resumed: break
        }
        if !isTaken, consumers.removeValue(forKey: id) != nil {
            machine.handle(.cancel(id), at: now, into: &effects)
        }
    }
}

extension Logger {
    /// Writes what a machine wants written.
    func log(_ entry: LogEntry) {
        let level: Logger.Level =
            switch entry.level {
            case .debug: .debug
            case .info: .info
            case .notice: .notice
            case .warning: .warning
            case .error: .error
            }
        let metadata = Dictionary(entry.fields.map { ($0.key, MetadataValue.string($0.value)) }) { _, later in later }
        log(level: level, "\(entry.message)", metadata: metadata)
    }
}
