import ClusterCore
import Foundation
import Logging
import Synchronization
import Wire
import ZeroMQ

/// A worker's sockets and its machine, and what is done between two sleeps at them. Who may touch it is the affair of `WorkerTurns`.
struct WorkerLoop: ~Copyable {
    static let domain = "stage"
    static let pollMsMax: UInt64 = 250
    static let messagesPerRound = 64
    /// A step's rows at the most: of the widest model, as f32.
    static let rowsBytesMax = Limits.stepRowsMax * Limits.hiddenMax * 4

    private let settings: WorkerSettings
    private let logger: Logger
    private let stage: StageThread
    private let sharing: WeightSharing
    private let inputs: Mailbox<WorkerNode.Input>
    private let context: Context
    private var access: AccessList
    private let data: Socket
    private let dataEndpoint: String
    private var machine: Worker
    private var coordinator: CoordinatorSocket
    private var downstreamPeer: StagePeer?
    private var downstream: DownstreamLink?
    private var upstreamKey: PeerKey?
    private var transferKeys: [PeerKey] = []
    /// As the access list has them, by the keys that messages are known by here.
    private var admitted: Set<PeerKey> = []
    private var transfers = TransferLinks()
    /// Over which other workers sent last, so that a connection ends with its admission.
    private var upstreams: [PeerKey: PeerConnection] = [:]
    /// Activations that the machine knows by handle.
    private var payloads: [PayloadHandle: ActivationBuffer] = [:]
    private var payloadsMade: UInt64 = 0
    private var senders = SenderKeys()
    private var rehearsal: Rehearsal
    /// Came last, and was not taken yet.
    private var foretold: StepFrame?
    private var isRefusalTold = false
    private var end: Result<Void, NodeError>?
    /// What the thread that keeps watch waits for, and until when at most.
    private var watched: Watched?
    private var sleepsUntil = Instant(nanoseconds: 0)
    /// What was done since it began to wait asks for other sockets to be watched.
    private var isWatchStale = false
    private var passedOn: PassedOn
    private var posts: [WorkerNode.Input] = []

    private struct Watched {
        var handshakes: Poller.Entry
        var activations: Poller.Entry
        var messages: Poller.Entry
        var refusals: Poller.Entry
        var posted: Poller.Entry
    }

    /// What is left to do when nobody is kept from the loop any more.
    struct PassedOn {
        let stage: StageThread
        /// Commands that the stage thread has and was not woken for.
        var commands = 0
        /// Another thread of this process has a step to go on with.
        var hasStep = false

        func wake() { for _ in 0..<commands { stage.wakeUp() } }
    }

    init(settings: WorkerSettings, logger: Logger, stage: StageThread, sharing: WeightSharing, inputs: Mailbox<WorkerNode.Input>) throws {
        try AdvertisedEndpoint.check(listen: settings.dataListen, advertise: settings.dataAdvertise, option: "--data-advertise")
        let context = try Context()
        let access = try AccessList(context, domain: Self.domain)
        var options = SocketOptions(.curveServer(settings.keys, domain: Self.domain))
        options.maxPartBytes = Self.rowsBytesMax
        options.maxMessageBytes = Self.rowsBytesMax + Limits.controlFrameBytesMax
        let data = try Socket(context, .pull, options)
        let endpoint = try data.bind(settings.dataListen)
        let coordinator = try CoordinatorSocket(context: context, enrolment: settings.enrolment, own: settings.keys)
        self.coordinator = coordinator
        var configuration = WorkerConfiguration(
            session: settings.session, name: settings.name, capabilities: settings.capabilities,
            dataEndpoint: settings.dataAdvertise ?? endpoint)
        configuration.weightsEndpoint = sharing.endpoint
        configuration.version = settings.version
        self.machine = Worker(configuration: configuration)
        self.sharing = sharing
        self.settings = settings
        self.logger = logger
        self.stage = stage
        passedOn = PassedOn(stage: stage)
        self.inputs = inputs
        self.context = context
        self.access = access
        self.data = data
        dataEndpoint = endpoint
        rehearsal = Rehearsal(key: PeerKey(settings.keys.publicKey))
        self.downstreamPeer = nil
        self.downstream = nil
        logger.info("listening", metadata: ["endpoint": "\(endpoint)", "coordinator": "\(settings.enrolment.endpoint)"])
    }

    mutating func begin() { handle(.start) }

    mutating func takePassedOn() -> PassedOn {
        defer { passedOn = PassedOn(stage: stage) }
        return passedOn
    }

    var hasEnded: Bool { end != nil }

    /// For how many nanoseconds who keeps watch may sleep at most; `nil`: the machine has ended.
    mutating func watch(_ poller: inout Poller) throws -> Int64? {
        guard end == nil else { return nil }
        poller.removeAll()
        let (handshakes, activations) = (poller.watch(access.socket), poller.watch(data))
        let (messages, refusals) = coordinator.watched(by: &poller)
        watched = Watched(
            handshakes: handshakes, activations: activations, messages: messages, refusals: refusals, posted: poller.watch(inputs))
        downstream?.watched(by: &poller)
        transfers.watched(by: &poller)
        isWatchStale = false
        let now = MonotonicClock.now
        sleepsUntil = min(machine.nextDeadline ?? Instant(nanoseconds: .max), now.advanced(milliseconds: Self.pollMsMax))
        return try poller.askSockets() ? 0 : Int64(sleepsUntil.nanoseconds(since: now))
    }

    /// What the sleep brought.
    mutating func work(_ poller: borrowing Poller, _ inquiries: Inquiries<WorkerReport>, reportsWaiting: borrowing Atomic<Int>) throws {
        guard let watched else { preconditionFailure("who keeps watch works on what it waited for") }
        foretold = nil
        if poller.isReadable(watched.handshakes) { try access.answerPending() }
        if poller.isReadable(watched.posted) {
            inputs.drain(into: &posts)
            for input in posts { handle(input) }
            let reports = posts.count { if case .report = $0 { true } else { false } }
            // What a report brought is somebody else's by now, and the stage thread looks whether it may use the memory again.
            posts.removeAll(keepingCapacity: true)
            if reports > 0 { reportsWaiting.subtract(reports, ordering: .relaxed) }
            inquiries.answer {
                var report = sharing.completed(machine.report)
                report.rehearsals = rehearsal.count
                return report
            }
        }
        if poller.isReadable(watched.activations) { try receiveActivations() }
        if poller.isReadable(watched.messages) { try receiveFromCoordinator() }
        try coordinator.flush()
        try downstream?.flush()
        try transfers.flush()
        if poller.isReadable(watched.refusals) { try tellRefusal() }
        if let deadline = machine.nextDeadline, deadline <= MonotonicClock.now { handle(.deadline) }
    }

    /// After the end, for who does no more with the loop.
    mutating func ended() -> (stage: StageThread, end: Result<Void, NodeError>?, logger: Logger) { (stage, end, logger) }

    /// Who keeps watch expects a step and has waited for it for a while.
    mutating func rehearse() { rehearsal.send(to: dataEndpoint, context, settings.keys) }

    /// The stage thread hands a step on. False: it has to post it, because its next step waits and somebody
    /// else, where there is somebody, should have the work of packing and sending.
    mutating func takeTurn(with report: StageThread.Report, isWatched: Bool) -> Bool {
        guard end == nil, watched != nil, !isWatched || !stage.hasCommands else { return false }
        handle(.report(report))
        return true
    }

    /// On the last stage. Nothing is lost with it: false where there is nobody to tell, or other things wait to be sent.
    mutating func foretell(_ sequence: SequenceID, _ position: Int, _ token: TokenID) -> Bool {
        guard end == nil, let step = machine.foretold(sequence, position, token), downstream?.hasSomethingToDo() == false,
            (try? downstream?.send(foretold: step)) == true
        else { return false }
        letItLeave()
        return true
    }

    /// A step that will probably come next; nothing else is to be computed.
    mutating func takeForetold() -> StepFrame? {
        defer { foretold = nil }
        return foretold
    }

    /// Ends its sleep.
    func wakeSocketThread() { inputs.wake() }

    /// The end of such a turn, for which nobody waits.
    mutating func wakeSocketThreadIfNeeded() { if needsSocketThread() { wakeSocketThread() } }

    /// Whether what was done meanwhile is more than the sleeping socket thread can know of.
    private mutating func needsSocketThread() -> Bool {
        if isWatchStale || end != nil { return true }
        if let deadline = machine.nextDeadline, deadline < sleepsUntil { return true }
        if downstream?.hasSomethingToDo() == true { return true }
        // A socket that can't be asked will say so to the socket thread, too.
        do { return try coordinator.hasSomethingToDo() } catch { return true }
    }

    /// libzmq tries again for ever when a key is refused; the person who started the worker should know why it waits.
    private mutating func tellRefusal() throws {
        guard try coordinator.isRefused(), !isRefusalTold else { return }
        isRefusalTold = true
        logger.error(
            "the coordinator does not admit this worker's key; enrol it again with a new token",
            metadata: ["coordinator": "\(settings.enrolment.endpoint)"])
    }

    /// Parts: the frame, the rows.
    private mutating func receiveActivations() throws {
        for _ in 0..<Self.messagesPerRound {
            var tooLarge = 0
            let received = try data.receive(maxParts: 2) { tooLarge += 1 }
            for _ in 0..<tooLarge { handle(.malformedFrame(from: nil)) }
            guard let message = received else { return }
            // Parts arrive together; what it takes to unpack them counts as waiting in the stage, not as wire.
            let arrived = MonotonicClock.now
            let sender = senders.key(of: message)
            if let sender {
                if rehearsal.receives(message, from: sender, at: arrived, by: machine) { continue }
                note(message, of: sender)
                switch message.withBytes(of: 0, WireCodec.kindBetweenWorkers) {
                case .step: break
                case .transfer:
                    receiveTransfer(message, from: sender, at: arrived)
                    continue
                case .followUp:
                    receiveFollowUp(message, from: sender, at: arrived)
                    continue
                case .foretold:
                    receiveForetold(message, from: sender)
                    continue
                }
            }
            guard let sender, message.count == 2, let frame = try? message.withBytes(of: 0, WireCodec.decodeStepFrame) else {
                handle(.malformedFrame(from: sender))
                continue
            }
            handle(.activation(frame, payload: keep(ActivationBuffer(rowsOf: message)), from: sender), at: arrived)
        }
    }

    /// Parts: the frame; beside keys and values, their bytes.
    private mutating func receiveTransfer(_ message: borrowing Message, from sender: PeerKey, at arrived: Instant) {
        guard let frame = try? message.withBytes(of: 0, WireCodec.decodeTransferFrame) else { return handle(.malformedFrame(from: sender)) }
        let payload = message.count == 2 ? keep(ActivationBuffer(rowsOf: message)) : nil
        handle(.transfer(frame, payload: payload, from: sender), at: arrived)
    }

    /// Part: the frame.
    private mutating func receiveFollowUp(_ message: borrowing Message, from sender: PeerKey, at arrived: Instant) {
        guard message.count == 1, let step = try? message.withBytes(of: 0, WireCodec.decodeFollowUp) else {
            return handle(.malformedFrame(from: sender))
        }
        handle(.followUp(step, from: sender), at: arrived)
    }

    /// Part: the frame.
    private mutating func receiveForetold(_ message: borrowing Message, from sender: PeerKey) {
        guard message.count == 1, let step = try? message.withBytes(of: 0, WireCodec.decodeForetold) else {
            return handle(.malformedFrame(from: sender))
        }
        foretold = machine.canBegin(step, from: sender) ? StepFrame(step: step) : nil
    }

    /// Connections that stand are not asked for their keys again: one that is not admitted any more is cut here, or with its next frame.
    private mutating func note(_ message: borrowing Message, of sender: PeerKey) {
        let isAdmitted = admitted.contains(sender)
        if let known = upstreams[sender], isAdmitted, message.seems(over: known) { return }
        upstreams[sender] = message.connection
        if !isAdmitted { cutStrangers() }
    }

    private mutating func cutStrangers() {
        for (key, connection) in upstreams where !admitted.contains(key) {
            connection.cut()
            upstreams[key] = nil
        }
    }

    private mutating func receiveFromCoordinator() throws {
        for _ in 0..<Self.messagesPerRound {
            let arrived = MonotonicClock.now
            switch try coordinator.receive() {
            case .success(let message): handle(.received(message), at: arrived)
            case .failure(let error) where error.code == .versionMismatch:
                // It answered, so it will not have us: with other words than ours.
                handle(.received(.refused(Failure(.versionMismatch, "the coordinator speaks another protocol: \(error.message)"))), at: arrived)
            case .failure(let error):
                logger.debug("malformed frame", metadata: ["reason": "\(error)"])
                handle(.malformedFrame(from: settings.enrolment.coordinatorKey))
            case nil: return
            }
        }
    }

    private mutating func handle(_ input: WorkerNode.Input) {
        switch input {
        case .shutdown: handle(Worker.Event.shutdown)
        case .leave(let milliseconds): handle(Worker.Event.leave(withinMs: milliseconds))
        case .report(.prepared(let epoch)): handle(.prepared(epoch))
        case .report(.handoverFailed(let epoch, let failure)): handle(.handoverFailed(epoch, failure))
        case .report(.read(let frame, let bytes)): handle(.blocksRead(frame, payload: keep(bytes), bytes: bytes.count))
        case .report(.loadedAhead(let layers)): handle(.loadedAhead(layers))
        case .report(.written(let frame, let peer)): handle(.blocksWritten(frame, from: peer))
        case .report(.switched(let epoch)): handle(.switched(epoch))
        case .inquiry: break
        case .weightsWanted(let model): handle(Worker.Event.weightsWanted(model))
        case .report(.loadProgressed(let epoch, let done, let total)): handle(.loadProgressed(epoch, bytesDone: done, bytesTotal: total))
        case .report(.loaded(let epoch, let kept)): handle(.loaded(epoch, kept: kept))
        case .report(.loadFailed(let epoch, let failure)): handle(.loadFailed(epoch, failure))
        case .report(.computed(let epoch, let number, let outcome, let output)):
            handle(.stepComputed(epoch, number, outcome, payload: output.map { keep($0) }))
        case .report(.failed(let epoch, let number, let failure)): handle(.stepFailed(epoch, number, failure))
        }
    }

    private mutating func keep(_ buffer: ActivationBuffer) -> PayloadHandle {
        payloadsMade += 1
        let handle = PayloadHandle(payloadsMade)
        payloads[handle] = buffer
        return handle
    }

    private mutating func take(_ handle: PayloadHandle) -> ActivationBuffer {
        guard let buffer = payloads.removeValue(forKey: handle) else { preconditionFailure("the machine names a payload twice") }
        return buffer
    }

    private mutating func handle(_ event: Worker.Event, at now: Instant = MonotonicClock.now) {
        var effects: [Worker.Effect] = []
        // A heartbeat that is due goes out with whatever event comes next.
        if let deadline = machine.nextDeadline, deadline <= now { machine.handle(.workDone(stage.workDone), at: now, into: &effects) }
        machine.handle(event, at: now, into: &effects)
        for effect in effects {
            if effect.isPassedOn { passedOn.hasStep = true } else if !effect.leavesSockets { isWatchStale = true }
            do { try perform(effect) } catch {
                logger.error("an effect failed", metadata: ["error": "\(error)"])
                end = .failure(NodeError(.socketFailed, "the worker can't go on", cause: error))
            }
        }
    }

    private mutating func perform(_ effect: Worker.Effect) throws {
        switch effect {
        case .send(let message):
            if try !coordinator.send(message) { logger.warning("a message for the coordinator was dropped: too many wait") }
        case .load(let assignment): post(.load(assignment))
        case .loadAhead(let assignment): post(.loadAhead(assignment))
        case .unload: post(.unload)
        case .connectDownstream(let peer):
            downstreamPeer = peer
            downstream = nil
        case .admitUpstream(let key):
            upstreamKey = key
            admit()
        case .admitPeers(let keys):
            transferKeys = keys
            admit()
        case .prepare(let assignment): post(.prepare(assignment))
        case .dropPrepared: post(.dropPrepared)
        case .readBlocks(let frame): post(.read(frame))
        case .writeBlocks(let frame, let payload, let peer): post(.write(frame, take(payload), from: peer))
        case .adopt(let assignment): post(.adopt(assignment))
        case .transfer(let frame, let payload, let peer):
            let bytes = payload.map { take($0) }
            if try !transfers.send(frame, bytes, to: peer, context, settings.keys) {
                logger.warning("keys and values for another worker were dropped: too many wait")
            }
        case .closeTransfers: transfers.close()
        case .compute(let frame, let payload):
            let input = payload.map { take($0) }
            rehearsal.computes(frame, rowsBytes: input?.count ?? 0)
            post(.compute(frame, input: input))
        case .forward(let frame, let payload):
            let buffer = take(payload)
            try connectDownstream()
            if try downstream?.send(frame, buffer) != true { logger.warning("a step for the next stage was dropped: too many wait") }
            letItLeave()
        case .followUp(let step):
            try connectDownstream()
            if try downstream?.send(step) != true { logger.warning("a step for the first stage was dropped: too many wait") }
            letItLeave()
        case .discard(let payload):
            _ = take(payload)
        case .offerWeights(let offer): sharing.supply.offered(offer)
        case .admitFetchers(let keys): sharing.admit(keys)
        case .reconnect:
            coordinator = try CoordinatorSocket(context: context, enrolment: settings.enrolment, own: settings.keys)
        case .log(let entry):
            logger.log(entry)
        case .ended(let failure):
            end = failure.map { .failure(NodeError(.ended, $0.message)) } ?? .success(())
        }
    }

    /// On a processor of one core libzmq's thread can send only when this one stops, and here a step goes before all else that is to be done.
    private func letItLeave() { sched_yield() }

    /// Not before there is a step: the next stage admits our key when it gets its assignment, perhaps after we have ours, and libzmq
    /// gives a connection up for good that was refused once. Steps come when all stages have said that they are ready.
    private mutating func connectDownstream() throws(ZeroMQError) {
        guard downstream == nil, let downstreamPeer else { return }
        downstream = try DownstreamLink(context: context, peer: downstreamPeer, own: settings.keys)
    }

    private mutating func admit() {
        admitted = Set((upstreamKey.map { [$0] } ?? []) + transferKeys)
        // Its own for rehearsals.
        access.admitOnly(admitted.map(\.curve) + [settings.keys.publicKey])
        cutStrangers()
    }

    private mutating func post(_ command: StageThread.Command) {
        passedOn.commands += 1
        precondition(stage.enqueue(command), "more commands for the stage thread than the machine may have open")
    }
}

extension Worker.Effect {
    /// Whether another thread of this process now has a step to go on with.
    fileprivate var isPassedOn: Bool {
        switch self {
        case .compute, .forward, .followUp, .send(.stepResult): true
        default: false
        }
    }

    /// Whether the same sockets are to be watched after it, but for what waits to be sent over them.
    fileprivate var leavesSockets: Bool {
        switch self {
        case .send, .discard, .log: true
        default: false
        }
    }
}

/// The push socket to the next stage.
private struct DownstreamLink: ~Copyable {
    static let stepsWaitingMax = Limits.stagesMax

    private let socket: Socket
    private var queue = SendQueue(capacity: stepsWaitingMax)

    init(context: Context, peer: StagePeer, own: CurveKeyPair) throws(ZeroMQError) {
        let socket = try Socket(context, .push, SocketOptions(.curveClient(own, server: peer.key.curve)))
        try socket.connect(peer.endpoint)
        self.socket = socket
    }

    mutating func send(_ frame: StepFrame, _ rows: ActivationBuffer) throws(ZeroMQError) -> Bool {
        var message = Message(copying: WireCodec.encode(frame))
        message.append(Frame(adopting: rows.rows) { _ in withExtendedLifetime(rows) {} })
        return try queue.send(message, over: socket)
    }

    mutating func send(_ followUp: Step) throws(ZeroMQError) -> Bool {
        try queue.send(Message(copying: WireCodec.encodeFollowUp(followUp)), over: socket)
    }

    mutating func send(foretold step: Step) throws(ZeroMQError) -> Bool {
        try queue.send(Message(copying: WireCodec.encodeForetold(step)), over: socket)
    }

    mutating func flush() throws(ZeroMQError) { try queue.flush(over: socket) }

    borrowing func watched(by poller: inout Poller) { if !queue.isEmpty { _ = poller.watch(socket, .writable) } }

    /// Whether a step waits to be sent.
    borrowing func hasSomethingToDo() -> Bool { !queue.isEmpty }
}
