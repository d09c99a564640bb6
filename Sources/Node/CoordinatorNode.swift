import ClusterCore
import Foundation
import Logging
import ModelFiles
import Wire
import ZeroMQ

/// A coordinator in the real world: one thread that polls its sockets, feeds the pure `Coordinator` and does what it says.
package final class CoordinatorNode: Sendable {
    private let commands: Mailbox<Command>
    private let inquiries = Inquiries<StatusReport>()
    private let thread: NodeThread

    fileprivate enum Command: Sendable, Equatable {
        case shutdown, inquiry
        case hashed(HashedWeights)
    }

    /// Waiting for the socket thread: more than hashing says, and people ask, while one poll returns.
    private static let commandsMax = 16

    /// Listens at once, so that a caller may start workers when this returns. Throws `NodeError` and `ZeroMQError`.
    package init(settings: CoordinatorSettings, model: ServedModel, logger: Logger) throws {
        let commands = try Mailbox<Command>(capacity: Self.commandsMax)
        self.commands = commands
        thread = try NodeThread(name: "coordinator") { [inquiries] started in
            defer { inquiries.close() }
            var loop = try CoordinatorLoop(settings: settings, model: model, logger: logger, commandsDescriptor: commands.descriptor) { hashed in
                // Progress may be lost; that it is done may not.
                while !commands.post(.hashed(hashed)), hashed.manifest != nil { usleep(10_000) }
            }
            started()
            try loop.run(commands: commands, inquiries: inquiries)
        }
    }

    /// Returns when the coordinator has ended; throws what ended it.
    package func waitUntilEnded() async throws { try await thread.waitUntilEnded() }

    /// What `staffel status` prints; `nil` when the coordinator has ended or too many ask at once. May be called from any thread.
    package func status() async -> StatusReport? { await inquiries.ask { [commands] in commands.post(.inquiry) } }

    /// Every open request is answered, every worker told; then `waitUntilEnded` returns. May be called from any thread.
    package func shutdown() { _ = commands.post(.shutdown) }
}

/// What a coordinator is started with.
package struct CoordinatorSettings: Sendable {
    package var state: StateDirectory
    /// Where to listen, `tcp://127.0.0.1:7300`.
    package var listen: String
    /// How peers reach that, for join lines; the listening endpoint when `nil`, which must then be one address and no wildcard.
    package var advertise: String?
    package var configuration: CoordinatorConfiguration
    /// Hears of every step.
    package var trace: TraceFile?
    /// Guesses for streams that run alone.
    package var draftModel: DraftThread.Settings?
    /// `nil`: workers can't fetch weights from the coordinator, nor learn what they should be.
    package var weightServer: WeightServerSettings?

    package init(state: StateDirectory, listen: String, advertise: String?, configuration: CoordinatorConfiguration) {
        self.state = state
        self.listen = listen
        self.advertise = advertise
        self.configuration = configuration
    }
}

/// The socket thread's state and its loop: poll, hand events to the machine, perform effects, to completion.
private struct CoordinatorLoop: ~Copyable {
    static let domain = "coordinator"
    /// How often tokens are looked at without a handshake, which also bounds a poll.
    static let tokenRefreshMs: UInt64 = 250
    /// Messages taken from the socket before effects of other sources get their turn.
    static let messagesPerRound = 256
    /// How long the last messages may take to leave after the machine has ended.
    static let flushMs = 100
    /// How long the draft model may take to end: a few rows.
    static let draftEndMs = 1_000

    private var machine: Coordinator
    private let model: ServedModel
    private let logger: Logger
    private let context: Context
    private var access: AccessList
    private let socket: Socket
    private let commandsDescriptor: Int32
    private var peers: PeerStore
    private let tokens: TokenStore
    private var tokenKeys: Set<PeerKey> = []
    private var tokensRead = Instant(nanoseconds: 0)
    private let revoked: RevokedKeys
    private var revokedKeys: Set<PeerKey>
    /// The connection over which each key spoke last.
    private var routes: [PeerKey: [UInt8]] = [:]
    /// Those to whom a send failed. The machine hears of them when all that it had decided before is done, or what it decides then would
    /// overtake the rest of that.
    private var unreachable: [PeerKey] = []
    private var senders = SenderKeys()
    private var givingWay = GivingWay()
    /// The same, as something that can be cut.
    private var connections: [PeerKey: PeerConnection] = [:]
    private let trace: TraceFile?
    private let drafter: DraftThread?
    private let hashing: ModelHashing?
    private let weights: WeightServer?
    private let tellHashed: @Sendable (HashedWeights) -> Void
    /// What the machine says of peers: a healthy cluster never comes near this.
    private var wordsOfPeers = LogGate(linesMax: 20, intervalMs: 10_000)
    /// Of frames that can't be read.
    private var unreadable = LogGate(linesMax: 1, intervalMs: 60_000)
    private var hasEnded = false

    init(
        settings: CoordinatorSettings, model: ServedModel, logger: Logger, commandsDescriptor: Int32,
        tellHashed: @escaping @Sendable (HashedWeights) -> Void
    ) throws {
        try AdvertisedEndpoint.check(listen: settings.listen, advertise: settings.advertise, option: "--advertise")
        let isRestart = try settings.state.noteStart()
        let keys = try CurveKeyFile(path: settings.state.file("coordinator.key")).createIfMissing()
        let console = try CurveKeyFile(path: settings.state.file("console.key")).createIfMissing()
        let context = try Context()
        var access = try AccessList(context, domain: Self.domain)
        var options = SocketOptions(.curveServer(keys, domain: Self.domain))
        options.maxPartBytes = Limits.controlFrameBytesMax
        let socket = try Socket(context, .router, options)
        let endpoint = try socket.bind(settings.listen)
        try Enrolment(endpoint: settings.advertise ?? endpoint, coordinatorKey: PeerKey(keys.publicKey)).write(to: settings.state)

        var peers = try PeerStore(directory: settings.state)
        let revoked = try RevokedKeys(directory: settings.state)
        let revokedKeys = Set(revoked.all())
        for key in revokedKeys { try peers.remove(key) }
        try peers.admit(PeerStore.Entry(key: PeerKey(console.publicKey), role: .console, name: "console"))
        access.admitOnly(peers.entries.map(\.key.curve))
        let tokens = try TokenStore(directory: settings.state)
        let holdings = WeightHoldings()
        let hashing = try settings.weightServer.map { _ in
            try ModelHashing(path: model.path, fallback: settings.state.file("manifests"), holdings: holdings, logger: logger)
        }
        let weights = try settings.weightServer.map { try WeightServer(keys: keys, settings: $0, holdings: holdings, logger: logger) }
        trace = settings.trace
        self.hashing = hashing
        self.weights = weights
        self.tellHashed = tellHashed
        var configuration = settings.configuration
        configuration.isRestart = isRestart
        configuration.tracesSteps = settings.trace != nil
        configuration.hasDraftModel = settings.draftModel != nil
        configuration.weightsPeer = weights.map { StagePeer(key: PeerKey(keys.publicKey), endpoint: $0.endpoint) }
        if ModelOpener.isFolder(model.path) { configuration.weightsMinor = ProtocolVersion.namedPartsMinor }
        self.machine = Coordinator(configuration: configuration, at: MonotonicClock.now)
        self.model = model
        self.logger = logger
        self.context = context
        self.access = access
        self.socket = socket
        self.commandsDescriptor = commandsDescriptor
        self.peers = peers
        self.tokens = tokens
        drafter = settings.draftModel.map { DraftThread($0, logger: logger) }
        self.revoked = revoked
        self.revokedKeys = revokedKeys
        logger.info("listening", metadata: ["endpoint": "\(endpoint)", "model": "\(settings.configuration.model.name)"])
    }

    mutating func run(commands mailbox: Mailbox<CoordinatorNode.Command>, inquiries: Inquiries<StatusReport>) throws {
        defer {
            trace?.end()
            weights?.end()
        }
        var poller = Poller()
        while !hasEnded {
            if MonotonicClock.now.milliseconds(since: tokensRead) >= Self.tokenRefreshMs {
                refreshTokens()
                refreshRevocations()
            }
            poller.removeAll()
            let handshakes = poller.watch(access.socket)
            let messages = poller.watch(socket)
            let commands = poller.watch(descriptor: commandsDescriptor)
            _ = try poller.wait(milliseconds: millisecondsUntilDeadline())
            if poller.isReadable(handshakes) {
                // A token may be used the moment it was made, and not at all once it was revoked; so it is with keys.
                refreshTokens()
                refreshRevocations()
                try access.answerPending()
            }
            if poller.isReadable(commands) {
                let posted = mailbox.drain()
                for case .hashed(let hashed) in posted { handle(.weightsHashed(hashed)) }
                if posted.contains(.shutdown) { handle(.shutdown) }
                inquiries.answer { machine.status(at: MonotonicClock.now) }
            }
            if poller.isReadable(messages) {
                hearDraftModel()
                try receive()
            }
            if let deadline = machine.nextDeadline, deadline <= MonotonicClock.now { handle(.deadline) }
        }
        usleep(UInt32(Self.flushMs * 1000))
        if drafter?.end(timeoutMs: Self.draftEndMs) == false { logger.warning("the draft model does not end") }
    }

    /// Its word is wanted when a step is formed, which follows a message; it wakes nobody by itself.
    private mutating func hearDraftModel() {
        guard let word = drafter?.takeWord() else { return }
        handle(.drafted(word.sequence, atLength: word.atLength, tokens: word.tokens))
    }

    private func millisecondsUntilDeadline() -> Int {
        guard let deadline = machine.nextDeadline else { return Int(Self.tokenRefreshMs) }
        // Rounded up: waking a fraction too early would spin until the deadline.
        let left = deadline.nanoseconds(since: MonotonicClock.now)
        return Int(min((left + 999_999) / 1_000_000, Self.tokenRefreshMs))
    }

    /// Tokens are files that another process makes; those past their expiry are removed.
    private mutating func refreshTokens() {
        tokensRead = MonotonicClock.now
        let (valid, expired) = tokens.all().reduce(into: ([TokenStore.Token](), [TokenStore.Token]())) { result, token in
            if token.expires > Int64(Date.now.timeIntervalSince1970) { result.0.append(token) } else { result.1.append(token) }
        }
        for token in expired { tokens.remove(token.key) }
        let keys = Set(valid.map(\.key))
        for key in tokenKeys.subtracting(keys) where peers.role(of: key) == nil { access.revoke(key.curve) }
        for key in keys.subtracting(tokenKeys) { access.admit(key.curve) }
        tokenKeys = keys
    }

    /// Revoked keys are files that another process makes. What such a peer has open ends now, and its work goes to others as if it had died.
    private mutating func refreshRevocations() {
        for key in revoked.all() where revokedKeys.insert(key).inserted {
            logger.notice("a key was revoked", metadata: ["peer": "\(key)", "note": "\(revoked.note(of: key))"])
            access.revoke(key.curve)
            tokenKeys.remove(key)
            do { try peers.remove(key) } catch {
                logger.error("a peer can't be taken off the list", metadata: ["peer": "\(key)", "error": "\(error)"])
            }
            cut(key)
            handle(.revoked(key))
        }
    }

    /// Ends a peer's connection. Its next one is asked for its key.
    private mutating func cut(_ key: PeerKey) {
        connections.removeValue(forKey: key)?.cut()
        routes[key] = nil
    }

    /// Parts: the connection's id, the message.
    private mutating func receive() throws {
        for _ in 0..<Self.messagesPerRound {
            var tooLarge = 0
            let received = try socket.receive(maxParts: 2) { tooLarge += 1 }
            for _ in 0..<tooLarge { handle(.malformedFrame(from: nil)) }
            guard let message = received else { return }
            let key = senders.key(of: message)
            guard let key, message.count == 2 else {
                handle(.malformedFrame(from: key))
                continue
            }
            do {
                let decoded = try message.withBytes(of: 1, WireCodec.decodeToCoordinator)
                noteRoute(message, to: key)
                dispatch(decoded, from: key)
            } catch {
                if error.code == .versionMismatch { refuseVersion(of: key, over: message.bytes(of: 0), error) }
                if let leftOut = unreadable.pass(LogGate.Kind(message: "malformed frame", peer: "\(key)"), at: MonotonicClock.now) {
                    logger.debug("malformed frame", metadata: ["peer": "\(key)", "reason": "\(error)", "left_out": "\(leftOut)"])
                }
                handle(.malformedFrame(from: key))
            }
        }
    }

    private mutating func noteRoute(_ message: borrowing Message, to key: PeerKey) {
        let isKnown = message.withBytes(of: 0) { found in routes[key].map { found.elementsEqual($0) } ?? false }
        guard !isKnown else { return }
        routes[key] = message.bytes(of: 0)
        connections[key] = message.connection
    }

    /// A peer of another major can't read what we say, but sees from the header of any answer why; and whoever looks after the cluster sees it here.
    private mutating func refuseVersion(of key: PeerKey, over route: [UInt8], _ error: WireError) {
        routes[key] = route
        if let leftOut = unreadable.pass(LogGate.Kind(message: "a peer speaks another protocol", peer: "\(key)"), at: MonotonicClock.now) {
            logger.warning(
                "a peer speaks another protocol",
                metadata: ["peer": "\(key)", "reason": "\(error.message)", "left_out": "\(leftOut)"])
        }
        send(.refused(Failure(.versionMismatch, error.message)), to: key)
    }

    /// A one-time token's key may enrol and nothing else; a known key may do everything but that.
    private mutating func dispatch(_ message: ToCoordinator, from key: PeerKey) {
        if let role = peers.role(of: key) {
            handle(.received(message, from: key, role: role))
        } else if tokenKeys.contains(key), case .enrol(let request) = message {
            enrol(request, over: key)
        } else {
            handle(.malformedFrame(from: key))
            // Admitted when it connected, and not any more: a token that was used, a key that was revoked.
            if !tokenKeys.contains(key) { cut(key) }
        }
    }

    private mutating func enrol(_ request: EnrolRequest, over token: PeerKey) {
        var refusal = peers.refusal(of: request.key, as: request.role)
        if revokedKeys.contains(request.key) { refusal = "this key was revoked: remove node.key from its state folder, so that a new one is made" }
        if tokenKeys.contains(request.key) { refusal = "a token's key is for enrolling only" }
        if let refusal { return send(.refused(Failure(.notAdmitted, refusal)), to: token) }
        handle(.enrolRequested(request, overToken: token))
    }

    private mutating func handle(_ event: Coordinator.Event) {
        var effects: [Coordinator.Effect] = []
        let now = MonotonicClock.now
        machine.decide(event, at: now, into: &effects)
        var tokens: [Coordinator.Effect] = []
        perform(effects, holdingBack: &tokens)
        let sent = effects.count { if case .send(.step, _) = $0 { true } else { false } }
        if sent > 0 { givingWay.giveWay() }
        effects.removeAll(keepingCapacity: true)
        machine.settle(into: &effects)
        perform(effects, holdingBack: &tokens)
        for effect in tokens { perform(effect) }
        if let trace, sent > 0 { trace.note(turn: TraceTurn(from: now, to: MonotonicClock.now, stepsSent: sent)) }
        if !unreachable.isEmpty { handle(.disconnected(unreachable.removeFirst())) }
    }

    /// Stages wait for a step and nobody's stream does for a token's last microseconds, and whom tokens wake may stand in the way of whom the step
    /// wakes. So steps, and what no peer hears of, go before the tokens of the steps before them, and nothing else does.
    private mutating func perform(_ effects: [Coordinator.Effect], holdingBack tokens: inout [Coordinator.Effect]) {
        for effect in effects {
            switch effect {
            case .send(.tokens, _): tokens.append(effect)
            case .send(.step, _), .trace, .log: perform(effect)
            default:
                for effect in tokens { perform(effect) }
                tokens.removeAll(keepingCapacity: true)
                perform(effect)
            }
        }
    }

    private mutating func perform(_ effect: Coordinator.Effect) {
        switch effect {
        case .send(let message, let key):
            send(message, to: key)
        case .admit(let key, let role, let name):
            do {
                try peers.admit(PeerStore.Entry(key: key, role: role, name: name))
                access.admit(key.curve)
            } catch {
                logger.error("a peer can't be written to the list", metadata: ["peer": "\(key)", "error": "\(error)"])
            }
        case .consumeToken(let key):
            tokens.remove(key)
            tokenKeys.remove(key)
            access.revoke(key.curve)
        case .draft(let wish):
            drafter?.post(wish)
        case .admitFetchers(let keys): weights?.admit(keys)
        case .hashWeights: hashing?.begin(tell: tellHashed)
        case .log(let entry):
            if let entry = wordsOfPeers.pass(entry, at: MonotonicClock.now) { logger.log(entry) }
        case .trace(let event):
            trace?.note(event)
        case .ended:
            hasEnded = true
        }
    }

    private mutating func send(_ message: FromCoordinator, to key: PeerKey) {
        guard let route = routes[key] else { return }
        var parts = Message(copying: route)
        parts.append(copying: WireCodec.encode(message))
        if case .gatewayWelcome = message { parts.append(copying: model.header) }
        do {
            // A peer that does not read is a peer that is gone: its heartbeats will say the same.
            if try !socket.send(&parts) { routes[key] = nil }
        } catch {
            routes[key] = nil
            connections[key] = nil
            unreachable.append(key)
        }
    }
}
