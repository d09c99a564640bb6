import ClusterCore

/// A coordinator, one worker and one gateway that serve a few requests, so that what strangers say meets machines at work. A clock of its own; no
/// sockets: what one machine sends the next one hears at once.
struct Machines {
    static let worker = PeerKey(bytes: [UInt8](repeating: 1, count: 32))!
    static let gateway = PeerKey(bytes: [UInt8](repeating: 2, count: 32))!
    /// A second worker that is admitted and says what the fuzzer wants.
    static let other = PeerKey(bytes: [UInt8](repeating: 3, count: 32))!
    static let settleMax = 200

    var coordinator: Coordinator
    var stage: Worker
    var link: GatewayLink
    private var milliseconds: UInt64 = 1_000
    private var toCoordinator: [(ToCoordinator, PeerKey, PeerRole)] = []
    private var toStage: [Worker.Event] = []
    private var toLink: [GatewayLink.Event] = []
    /// All that was said, for those who want inputs that fit.
    private(set) var heardByCoordinator: [ToCoordinator] = []
    private(set) var heardFromCoordinator: [FromCoordinator] = []
    private(set) var steps: [StepFrame] = []
    private var requests: UInt64 = 0

    init() {
        let profile = ModelProfile(
            digest: ModelDigest(bytes: [UInt8](repeating: 5, count: 32))!, name: "toy", layerBytes: [UInt64](repeating: 1_000, count: 4),
            embeddingBytes: 300, headBytes: 300, headIsTied: true, hidden: 8, vocabulary: 211, contextTokens: 128, kvBytesPerTokenPerLayer: 1,
            endTokens: [0])
        let now = Instant(nanoseconds: 1_000_000_000)
        coordinator = Coordinator(configuration: CoordinatorConfiguration(session: 9, model: profile, modelPath: "/m", expectedWorkers: 1), at: now)
        let capabilities = WorkerCapabilities(memoryBytes: 1 << 20, threads: 1, isa: "portable", readBytesPerSecond: 1e9, opsPerSecond: 1e9)
        stage = Worker(configuration: WorkerConfiguration(session: 7, name: "w", capabilities: capabilities, dataEndpoint: "tcp://127.0.0.1:9"))
        link = GatewayLink(configuration: GatewayLinkConfiguration(session: 8, name: "g"))
        toStage.append(.start)
        toLink.append(.start)
        settle()
        for _ in 0..<3 { submit() }
        settle()
    }

    var now: Instant { Instant(nanoseconds: milliseconds * 1_000_000) }

    private mutating func submit() {
        requests += 1
        var sampling = SamplingParameters()
        sampling.maxTokens = 20
        let request = GenerationRequest(
            id: RequestID(high: 1, low: requests), prompt: [5, 6, 7, TokenID(requests)], sampling: sampling, choices: requests % 2 == 0 ? 2 : 1)
        toLink.append(.submit(request))
    }

    mutating func say(_ message: ToCoordinator, as peer: PeerKey, _ role: PeerRole) {
        toCoordinator.append((message, peer, role))
        settle(Self.settleMax / 10)
    }

    mutating func tellStage(_ event: Worker.Event) {
        toStage.append(event)
        settle(Self.settleMax / 10)
    }

    func canBegin(_ step: Step) -> Bool { stage.canBegin(step, from: Self.worker) }

    mutating func tellLink(_ message: FromCoordinator) {
        toLink.append(.received(message))
        settle(Self.settleMax / 10)
    }

    /// Lets machines talk until they have no more to say, or have said enough.
    private mutating func settle(_ most: Int = settleMax) {
        for _ in 0..<most {
            milliseconds += 1
            if !toCoordinator.isEmpty {
                let (message, peer, role) = toCoordinator.removeFirst()
                var effects: [Coordinator.Effect] = []
                coordinator.handle(.received(message, from: peer, role: role), at: now, into: &effects)
                perform(effects)
            } else if !toStage.isEmpty {
                var effects: [Worker.Effect] = []
                stage.handle(toStage.removeFirst(), at: now, into: &effects)
                perform(effects)
            } else if !toLink.isEmpty {
                var effects: [GatewayLink.Effect] = []
                link.handle(toLink.removeFirst(), at: now, into: &effects)
                for case .send(let message) in effects { hear(message, Self.gateway, .gateway) }
            } else {
                break
            }
        }
        var effects: [Coordinator.Effect] = []
        if let deadline = coordinator.nextDeadline, deadline <= now { coordinator.handle(.deadline, at: now, into: &effects) }
        perform(effects)
    }

    private mutating func hear(_ message: ToCoordinator, _ peer: PeerKey, _ role: PeerRole) {
        if heardByCoordinator.count < 256 { heardByCoordinator.append(message) }
        toCoordinator.append((message, peer, role))
    }

    private mutating func perform(_ effects: [Coordinator.Effect]) {
        for case .send(let message, let peer) in effects {
            if heardFromCoordinator.count < 256 { heardFromCoordinator.append(message) }
            if peer == Self.worker { toStage.append(.received(message)) }
            if peer == Self.gateway { toLink.append(.received(message)) }
        }
    }

    private mutating func perform(_ effects: [Worker.Effect]) {
        for effect in effects {
            switch effect {
            case .send(let message): hear(message, Self.worker, .worker)
            case .load(let assignment): toStage.append(.loaded(assignment.epoch))
            case .compute(let frame, _): computed(frame)
            default: break
            }
        }
    }

    private mutating func computed(_ frame: StepFrame) {
        if steps.count < 64 { steps.append(frame) }
        let tokens = frame.step.segments.filter(\.samples).map {
            SampledToken(sequence: $0.sequence, position: $0.start + $0.tokens.count, emitted: EmittedToken(token: 9))
        }
        let isLast = stage.report.assignment?.isLast ?? true
        toStage.append(
            .stepComputed(
                frame.step.epoch, frame.step.number, StepOutcome(tokens: isLast ? tokens : [], computeNanoseconds: 1_000),
                payload: isLast ? nil : PayloadHandle(1)))
    }
}
