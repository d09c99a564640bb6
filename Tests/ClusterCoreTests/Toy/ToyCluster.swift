import Testing

@testable import ClusterCore

/// A coordinator, workers and a gateway in one thread: messages in queues, a clock that the driver owns, stage threads that run when the seed
/// says so. Queues keep their order; a broken connection loses what is in it.
struct ToyCluster {
    struct Settings {
        var model = ToyModel()
        var workers = 2
        var kvBlocks = 64
        var stepsInFlightPerStage = 1
        var sequencesRunningMax = 64
        var prefillRowsPerStep = 40
        /// Bytes that each worker offers.
        var workerMemory: UInt64 = 1 << 30
        /// Instead of that, by worker.
        var memoryOfWorker: [Int: UInt64] = [:]
        /// Among those that are started; the rest stand by.
        var expectedWorkers: Int?
        var replicas = ReplicaCount.exactly(1)
        /// What a layer of a step is said to take; without it, a microsecond a row.
        var layerNanoseconds: UInt64?
        /// Times that, by worker.
        var slowness: [Int: UInt64] = [:]
        /// What each worker says of itself.
        var readBytesPerSecond = 1e9
        var configure: @Sendable (inout CoordinatorConfiguration) -> Void = { _ in }
    }

    private enum Party: Hashable {
        case coordinator
        case worker(Int)
        case gateway
    }

    private struct Route: Hashable {
        var from: Party
        var to: Party
        /// A connection of its own, for keys and values.
        var isTransfer = false
    }

    private enum Message {
        case up(ToCoordinator)
        case down(FromCoordinator)
        case activation(StepFrame, [UInt64])
        case transfer(TransferFrame, [UInt64]?)
        case followUp(Step)
    }

    private enum Job {
        case load(StageAssignment)
        case unload
        case compute(StepFrame, [UInt64]?)
        case read(KVFrame)
        case write(KVFrame, [UInt64], from: PeerKey)
        case adopt(StageAssignment)
    }

    private struct WorkerProcess {
        var machine: Worker
        var jobs: [Job] = []
        var stage: ToyStage?
        var downstream: Int?
        var upstream: Int?
        var payloads: [PayloadHandle: [UInt64]] = [:]
        var peers: [Int] = []
        /// What its preparer works on, and what it made: the new layers' memory.
        var preparing: StageAssignment?
        var prepared: (epoch: Epoch, memory: [Int: [UInt64]])?
        var hasEnded = false
        var isHung = false
    }

    /// What a client saw.
    struct Stream {
        var request: GenerationRequest
        var tokens: [[TokenID]]
        var finishes: [FinishReason?]
        var failure: Failure?
        var isCancelled = false
        var pauses = 0

        var isOver: Bool { failure != nil || finishes.allSatisfy { $0 != nil } }
    }

    let settings: Settings
    let seed: UInt64
    var numbers: SeededNumbers
    private(set) var now = Instant(nanoseconds: 1_000_000)
    private(set) var coordinator: Coordinator
    private var coordinatorIsUp = true
    /// What the draft model was asked for last.
    private var wish: DraftWish?
    private var workers: [WorkerProcess?] = []
    private(set) var gateway: GatewayLink
    private(set) var streams: [RequestID: Stream] = [:]
    private(set) var order: [RequestID] = []
    private var routes: [(route: Route, queue: [Message])] = []
    private var nextHandle: UInt64 = 1
    private var nextSession: UInt64 = 1
    private(set) var coordinatorLog: [LogEntry] = []
    private(set) var unexpected: [String] = []

    init(seed: UInt64, settings: Settings = Settings()) {
        self.seed = seed
        self.settings = settings
        numbers = SeededNumbers(seed: seed)
        coordinator = Coordinator(configuration: Self.configuration(settings, session: 1_000_000), at: now)
        gateway = GatewayLink(configuration: GatewayLinkConfiguration(session: 77, name: "gateway"))
        for index in 0..<settings.workers {
            workers.append(nil)
            startWorker(index)
        }
        var effects: [GatewayLink.Effect] = []
        gateway.handle(.start, at: now, into: &effects)
        perform(effects)
    }

    private static func configuration(_ settings: Settings, session: UInt64) -> CoordinatorConfiguration {
        var configuration = CoordinatorConfiguration(
            session: session, model: settings.model.profile, modelPath: "/models/toy", expectedWorkers: settings.expectedWorkers ?? settings.workers)
        configuration.kvBlocksMax = settings.kvBlocks
        configuration.stepsInFlightPerStage = settings.stepsInFlightPerStage
        configuration.sequencesRunningMax = settings.sequencesRunningMax
        configuration.prefillRowsPerStep = settings.prefillRowsPerStep
        configuration.replicas = settings.replicas
        settings.configure(&configuration)
        return configuration
    }

    static func key(_ index: Int) -> PeerKey { PeerKey(bytes: [UInt8(index + 1)] + [UInt8](repeating: 0, count: 31))! }
    private static let consoleKey = PeerKey(bytes: [UInt8](repeating: 201, count: 32))!
    private(set) var drainAnswers: [DrainStatus] = []
    /// How often the coordinators told a worker to give its slice up.
    private(set) var releases = 0
    private static let gatewayKey = PeerKey(bytes: [UInt8](repeating: 200, count: 32))!

    // MARK: - Faults

    mutating func startWorker(_ index: Int) {
        nextSession += 1
        let capabilities = WorkerCapabilities(
            memoryBytes: settings.memoryOfWorker[index] ?? settings.workerMemory, threads: 1, isa: "portable",
            readBytesPerSecond: settings.readBytesPerSecond, opsPerSecond: 1e9)
        let configuration = WorkerConfiguration(
            session: nextSession, name: "worker-\(index)", capabilities: capabilities, dataEndpoint: "tcp://127.0.0.1:\(9_000 + index)")
        workers[index] = WorkerProcess(machine: Worker(configuration: configuration))
        handle(.start, worker: index)
    }

    mutating func killWorker(_ index: Int) {
        workers[index] = nil
        routes.removeAll { $0.route.from == .worker(index) || $0.route.to == .worker(index) }
    }

    mutating func hangWorker(_ index: Int) { workers[index]?.isHung = true }

    /// Another worker than those that the cluster began with.
    mutating func addWorker() -> Int {
        workers.append(nil)
        startWorker(workers.count - 1)
        return workers.count - 1
    }

    /// As `staffel drain` does.
    mutating func drain(_ index: Int, undo: Bool = false) {
        handle(.received(.drain(DrainRequest(worker: "worker-\(index)", isUndone: undo)), from: Self.consoleKey, role: .console))
    }

    /// As SIGTERM does.
    mutating func tellToLeave(_ index: Int, withinMs milliseconds: UInt64 = 60_000) {
        handle(.leave(withinMs: milliseconds), worker: index)
        endWorkers()
    }

    func hasEnded(_ index: Int) -> Bool { workers[index] == nil }

    /// What the next preparing does.
    var preparingFails = false

    func isHung(_ index: Int) -> Bool { workers[index]?.isHung == true }
    func isUp(_ index: Int) -> Bool { workers[index] != nil }

    /// What is under way on one connection is lost; the parties are not told.
    mutating func loseConnection() {
        guard let lost = routes.filter({ !$0.queue.isEmpty }).randomElement(using: &numbers)?.route else { return }
        routes.removeAll { $0.route == lost }
    }

    mutating func restartCoordinator() {
        nextSession += 1
        var configuration = Self.configuration(settings, session: 1_000_000 + nextSession)
        configuration.isRestart = true
        coordinator = Coordinator(configuration: configuration, at: now)
        routes.removeAll { $0.route.from == .coordinator || $0.route.to == .coordinator }
    }

    // MARK: - Clients

    mutating func submit(_ request: GenerationRequest) {
        streams[request.id] = Stream(
            request: request, tokens: [[TokenID]](repeating: [], count: request.choices),
            finishes: [FinishReason?](repeating: nil, count: request.choices))
        order.append(request.id)
        tell(.submit(request))
    }

    mutating func cancel(_ id: RequestID) {
        streams[id]!.isCancelled = true
        tell(.cancel(id))
    }

    mutating func tell(_ event: GatewayLink.Event) {
        var effects: [GatewayLink.Effect] = []
        gateway.handle(event, at: now, into: &effects)
        perform(effects)
    }

    /// A request that the seed makes up.
    mutating func inventRequest() -> GenerationRequest {
        var sampling = SamplingParameters()
        sampling.seed = numbers.next()
        sampling.maxTokens = Int32.random(in: 1...60, using: &numbers)
        sampling.minTokens = numbers.oneIn(4) ? Int32.random(in: 0...sampling.maxTokens, using: &numbers) : 0
        sampling.ignoreEndTokens = numbers.oneIn(3)
        if numbers.oneIn(4) { sampling.stopTokens = [TokenID.random(in: 0..<TokenID(settings.model.vocabulary), using: &numbers)] }
        let length = numbers.oneIn(5) ? Int.random(in: 1..<settings.model.contextTokens, using: &numbers) : Int.random(in: 1...30, using: &numbers)
        var prompt = (0..<length).map { _ in TokenID.random(in: 0..<TokenID(settings.model.vocabulary), using: &numbers) }
        // Often the beginning of an earlier prompt, as chats and system prompts have it.
        if numbers.oneIn(2), let earlier = order.randomElement(using: &numbers).flatMap({ streams[$0]?.request.prompt }) {
            let shared = Int.random(in: 0...min(earlier.count, prompt.count), using: &numbers)
            prompt.replaceSubrange(..<shared, with: earlier[..<shared])
        }
        return GenerationRequest(
            id: RequestID(high: numbers.next(), low: numbers.next()), prompt: prompt, sampling: sampling,
            choices: numbers.oneIn(6) ? 2 : 1, priority: numbers.oneIn(6) ? -1 : 0,
            tenant: Tenant(UInt64.random(in: 0...3, using: &numbers)), weight: numbers.oneIn(4) ? 3 : 1)
    }

    // MARK: - Running

    /// Runs until nothing is left to do but wait for a deadline later than `end`, or until `isDone`.
    mutating func run(milliseconds: UInt64 = 0, microseconds: UInt64 = 0, until isDone: (ToyCluster) -> Bool = { _ in false }) {
        let end = Instant(nanoseconds: now.advanced(milliseconds: milliseconds).nanoseconds + microseconds * 1_000)
        while !isDone(self) {
            fireDeadlines()
            if !deliverSomething() {
                guard let next = nextDeadline, next <= end else { break }
                now = max(now, next)
            }
            now = Instant(nanoseconds: now.nanoseconds + UInt64.random(in: 0..<20_000, using: &numbers))
            if now > end { break }
        }
        if now < end, !isDone(self) { now = end }
    }

    private var nextDeadline: Instant? {
        (workers.map { $0?.machine.nextDeadline } + [coordinator.nextDeadline, gateway.nextDeadline]).compactMap(\.self).min()
    }

    private mutating func fireDeadlines() {
        if let due = coordinator.nextDeadline, due <= now {
            handle(.deadline)
            if let next = coordinator.nextDeadline, next <= now { unexpected.append("the coordinator's deadline does not move on") }
        }
        if let due = gateway.nextDeadline, due <= now {
            tell(.deadline)
            if let next = gateway.nextDeadline, next <= now { unexpected.append("the gateway's deadline does not move on") }
        }
        for index in workers.indices {
            guard let due = workers[index]?.machine.nextDeadline, due <= now else { continue }
            handle(.deadline, worker: index)
            if let next = workers[index]?.machine.nextDeadline, next <= now { unexpected.append("a worker's deadline does not move on") }
        }
    }

    /// One message or one job of a stage thread, as the seed chooses.
    private mutating func deliverSomething() -> Bool {
        let ready = routes.indices.filter { !routes[$0].queue.isEmpty }
        let busy = workers.indices.filter { workers[$0].map { !$0.jobs.isEmpty && !$0.isHung } ?? false }
        let loading = workers.indices.filter { workers[$0].map { $0.preparing != nil && !$0.isHung } ?? false }
        guard !ready.isEmpty || !busy.isEmpty || !loading.isEmpty else { return false }
        answerWish()
        let pick = Int.random(in: 0..<ready.count + busy.count + loading.count, using: &numbers)
        if pick < ready.count {
            let message = routes[ready[pick]].queue.removeFirst()
            deliver(message, routes[ready[pick]].route)
        } else if pick < ready.count + busy.count {
            runJob(of: busy[pick - ready.count])
        } else {
            prepare(loading[pick - ready.count - busy.count])
        }
        endWorkers()
        return true
    }

    /// The draft model is right by chance, wrong by chance, late, and silent where it is asked again before.
    private mutating func answerWish() {
        guard let wish, coordinatorIsUp, numbers.oneIn(4) else { return }
        self.wish = nil
        let guesses = (0..<Int.random(in: 1...wish.count, using: &numbers)).map { _ in TokenID(numbers.next() % UInt64(settings.model.vocabulary)) }
        handle(.drafted(wish.sequence, atLength: wish.known, tokens: Array(wish.tokens[wish.known...]) + guesses))
    }

    private mutating func deliver(_ message: Message, _ route: Route) {
        switch (message, route.from, route.to) {
        case (.up(let message), .worker(let index), _): handle(.received(message, from: Self.key(index), role: .worker))
        case (.up(let message), _, _): handle(.received(message, from: Self.gatewayKey, role: .gateway))
        case (.down(let message), _, .worker(let index)): handle(.received(message), worker: index)
        case (.down(let message), _, _): tell(.received(message))
        case (.activation(let frame, let values), .worker(let from), .worker(let to)):
            guard workers[to] != nil, workers[to]!.upstream == from else { return }
            let handle = store(values, at: to)
            self.handle(.activation(frame, payload: handle, from: Self.key(from)), worker: to)
        case (.transfer(let frame, let values), .worker(let from), .worker(let to)):
            guard workers[to] != nil, workers[to]!.peers.contains(from) else { return }
            let payload = values.map { store($0, at: to) }
            self.handle(.transfer(frame, payload: payload, from: Self.key(from)), worker: to)
        case (.followUp(let step), .worker(let from), .worker(let to)):
            guard workers[to] != nil, workers[to]!.upstream == from else { return }
            self.handle(.followUp(step, from: Self.key(from)), worker: to)
        case (.activation, _, _), (.transfer, _, _), (.followUp, _, _): preconditionFailure("activations, keys and values pass between workers")
        }
    }

    private mutating func send(_ message: Message, from: Party, to: Party, isTransfer: Bool = false) {
        let route = Route(from: from, to: to, isTransfer: isTransfer)
        if let index = routes.firstIndex(where: { $0.route == route }) {
            routes[index].queue.append(message)
        } else {
            routes.append((route, [message]))
        }
    }

    // MARK: - Effects

    private mutating func handle(_ event: Coordinator.Event) {
        var effects: [Coordinator.Effect] = []
        coordinator.handle(event, at: now, into: &effects)
        for effect in effects {
            switch effect {
            case .admitFetchers, .hashWeights: break
            case .send(let message, let key):
                if key == Self.consoleKey, case .drainStatus(let status) = message { drainAnswers.append(status) }
                if case .release = message { releases += 1 }
                if key == Self.gatewayKey { send(.down(message), from: .coordinator, to: .gateway) }
                if let index = workers.indices.first(where: { Self.key($0) == key }), workers[index] != nil {
                    send(.down(message), from: .coordinator, to: .worker(index))
                }
            case .log(let entry):
                coordinatorLog.append(entry)
                if entry.level == .error { unexpected.append(entry.message) }
            case .draft(let wish): self.wish = wish
            case .admit, .consumeToken, .trace, .ended: break
            }
        }
        coordinator.audit(into: &unexpected)
    }

    private mutating func handle(_ event: Worker.Event, worker index: Int) {
        guard workers[index] != nil else { return }
        var effects: [Worker.Effect] = []
        workers[index]!.machine.handle(event, at: now, into: &effects)
        for effect in effects { perform(effect, worker: index) }
    }

    private mutating func perform(_ effect: Worker.Effect, worker index: Int) {
        switch effect {
        case .send(let message): send(.up(message), from: .worker(index), to: .coordinator)
        case .load(let assignment): workers[index]!.jobs.append(.load(assignment))
        case .unload: workers[index]!.jobs.append(.unload)
        case .connectDownstream(let peer):
            routes.removeAll { if case .worker = $0.route.to { $0.route.from == .worker(index) && !$0.route.isTransfer } else { false } }
            workers[index]!.downstream = peer.flatMap { peer in workers.indices.first { Self.key($0) == peer.key } }
        case .admitUpstream(let key): workers[index]!.upstream = key.flatMap { key in workers.indices.first { Self.key($0) == key } }
        case .compute(let frame, let payload): workers[index]!.jobs.append(.compute(frame, payload.map { take($0, at: index) }))
        case .forward(let frame, let payload):
            let values = take(payload, at: index)
            if let next = workers[index]!.downstream { send(.activation(frame, values), from: .worker(index), to: .worker(next)) }
        case .followUp(let step): if let first = workers[index]!.downstream { send(.followUp(step), from: .worker(index), to: .worker(first)) }
        case .discard(let payload): _ = take(payload, at: index)
        case .reconnect:
            routes.removeAll {
                $0.route == Route(from: .worker(index), to: .coordinator) || $0.route == Route(from: .coordinator, to: .worker(index))
            }
        case .prepare(let assignment):
            workers[index]!.prepared = nil
            workers[index]!.preparing = assignment
        case .dropPrepared:
            workers[index]!.prepared = nil
            workers[index]!.preparing = nil
        case .readBlocks(let frame): workers[index]!.jobs.append(.read(frame))
        case .writeBlocks(let frame, let payload, let peer): workers[index]!.jobs.append(.write(frame, take(payload, at: index), from: peer))
        case .adopt(let assignment): workers[index]!.jobs.append(.adopt(assignment))
        case .admitPeers(let keys): workers[index]!.peers = keys.compactMap { key in workers.indices.first { Self.key($0) == key } }
        case .transfer(let frame, let payload, let peer):
            let values = payload.map { take($0, at: index) }
            guard let to = workers.indices.first(where: { Self.key($0) == peer.key }) else { return }
            send(.transfer(frame, values), from: .worker(index), to: .worker(to), isTransfer: true)
        case .closeTransfers: routes.removeAll { $0.route.from == .worker(index) && $0.route.isTransfer }
        // The toy's workers have their weights.
        case .offerWeights, .admitFetchers, .loadAhead: break
        case .log(let entry): if entry.level == .error { unexpected.append(entry.message) }
        case .ended(let failure):
            workers[index]!.hasEnded = true
            if let failure { unexpected.append("worker ended: \(failure.message)") }
        }
    }

    /// A process that has ended says its last words, and is gone.
    private mutating func endWorkers() {
        for index in workers.indices where workers[index]?.hasEnded == true {
            workers[index] = nil
            routes.removeAll { $0.route.to == .worker(index) || $0.route.from == .worker(index) && $0.route.to != .coordinator }
        }
    }

    private mutating func perform(_ effects: [GatewayLink.Effect]) {
        for effect in effects {
            switch effect {
            case .send(let message): send(.up(message), from: .gateway, to: .coordinator)
            case .deliver(let id, let event): delivered(id, event)
            case .reconnect:
                routes.removeAll { $0.route == Route(from: .gateway, to: .coordinator) || $0.route == Route(from: .coordinator, to: .gateway) }
            case .log(let entry): if entry.level == .error { unexpected.append(entry.message) }
            case .welcomed, .health, .expectedWait, .status: break
            case .ended(let failure): if let failure { unexpected.append("gateway ended: \(failure.message)") }
            }
        }
    }

    private mutating func delivered(_ id: RequestID, _ event: StreamEvent) {
        if streams[id]!.isOver { unexpected.append("something came after a stream's end: \(event)") }
        if streams[id]!.isCancelled { unexpected.append("something came after a cancel: \(event)") }
        switch event {
        case .tokens(let choice, let tokens):
            if streams[id]!.finishes[Int(choice)] != nil { unexpected.append("tokens after a choice's end") }
            streams[id]!.tokens[Int(choice)] += tokens.map(\.token)
        case .finished(let choice, let reason):
            if streams[id]!.finishes[Int(choice)] != nil { unexpected.append("a choice ended twice") }
            streams[id]!.finishes[Int(choice)] = reason
        case .failed(let failure): streams[id]!.failure = failure
        case .paused: streams[id]!.pauses += 1
        case .resumed: break
        }
    }

    // MARK: - Stage threads

    private mutating func runJob(of index: Int) {
        switch workers[index]!.jobs.removeFirst() {
        case .load(let assignment):
            workers[index]!.stage = ToyStage(model: settings.model, assignment: assignment, garbage: numbers.next())
            workers[index]!.stage!.layerNanoseconds = settings.layerNanoseconds.map { $0 * (settings.slowness[index] ?? 1) }
            handle(.loadProgressed(assignment.epoch, bytesDone: 1, bytesTotal: 2), worker: index)
            handle(.loaded(assignment.epoch), worker: index)
        case .unload: workers[index]!.stage = nil
        case .compute(let frame, let input):
            // A job of an old epoch may find the next epoch's stage: the real stage thread would notice as well.
            guard workers[index]!.stage?.assignment.epoch == frame.step.epoch else { return unexpected.append("a step met another epoch's stage") }
            let (outcome, output) = workers[index]!.stage!.compute(frame.step, input: input)
            let payload = workers[index]!.stage!.assignment.isLast ? nil : store(output, at: index)
            handle(.stepComputed(frame.step.epoch, frame.step.number, outcome, payload: payload), worker: index)
        case .read(let frame):
            guard let stage = workers[index]!.stage else { return unexpected.append("blocks are read where there is no stage") }
            let values = stage.read(frame)
            handle(.blocksRead(frame, payload: store(values, at: index), bytes: 8 * values.count), worker: index)
        case .write(let frame, let values, let peer):
            // A hand-over that is given up may leave a frame behind.
            if write(frame, values, at: index) { handle(.blocksWritten(frame, from: peer), worker: index) }
        case .adopt(let assignment):
            guard let prepared = workers[index]!.prepared, prepared.epoch == assignment.epoch else { return }
            workers[index]!.stage = ToyStage(
                model: settings.model, adopting: assignment, prepared: prepared.memory, keeping: workers[index]!.stage)
            workers[index]!.stage!.layerNanoseconds = settings.layerNanoseconds.map { $0 * (settings.slowness[index] ?? 1) }
            workers[index]!.prepared = nil
            handle(.switched(assignment.epoch), worker: index)
        }
    }

    /// The preparer loads beside what the stage thread does.
    private mutating func prepare(_ index: Int) {
        guard let assignment = workers[index]!.preparing else { return }
        workers[index]!.preparing = nil
        if preparingFails {
            return handle(.handoverFailed(assignment.epoch, Failure(.loadFailed, "the disk is broken")), worker: index)
        }
        let kept = workers[index]!.stage?.assignment.layers ?? 0..<0
        let slots = assignment.kvBlocks * Limits.positionsPerBlock
        let garbage = numbers.next()
        var memory: [Int: [UInt64]] = [:]
        for layer in assignment.layers where !kept.contains(layer) { memory[layer] = (0..<slots).map { mixed(garbage, UInt64(layer * slots + $0)) } }
        workers[index]!.prepared = (assignment.epoch, memory)
        handle(.loadProgressed(assignment.epoch, bytesDone: 1, bytesTotal: 2), worker: index)
        handle(.prepared(assignment.epoch), worker: index)
    }

    private mutating func write(_ frame: KVFrame, _ values: [UInt64], at index: Int) -> Bool {
        guard workers[index]!.prepared?.epoch == frame.epoch else { return false }
        let size = Limits.positionsPerBlock
        var next = 0
        for block in frame.blocks {
            for layer in frame.layers {
                guard workers[index]!.prepared!.memory[layer] != nil else { return false }
                for slot in 0..<size { workers[index]!.prepared!.memory[layer]![Int(block.value) * size + slot] = values[next + slot] }
                next += size
            }
        }
        return true
    }

    private mutating func store(_ values: [UInt64], at index: Int) -> PayloadHandle {
        nextHandle += 1
        workers[index]!.payloads[PayloadHandle(nextHandle)] = values
        return PayloadHandle(nextHandle)
    }

    private mutating func take(_ handle: PayloadHandle, at index: Int) -> [UInt64] {
        guard let values = workers[index]!.payloads.removeValue(forKey: handle) else {
            unexpected.append("a payload was handed back twice")
            return []
        }
        return values
    }

    var payloadsHeld: Int { workers.compactMap { $0?.payloads.count }.reduce(0, +) }
    /// Indices of the workers in the plan, in order.
    var stages: [Int] { coordinator.deployment.plan?.stages.map { Int($0.worker.bytes[0]) - 1 } ?? [] }
    var isServing: Bool { coordinator.fleet.isServing }
    var workerCount: Int { workers.count }
}

extension Coordinator {
    /// What must hold after every event.
    func audit(into findings: inout [String]) {
        var workers: [PeerKey] = []
        var epochs: [Epoch] = []
        for replica in fleet.replicas {
            audit(replica, into: &findings)
            workers += replica.deployment.plan?.stages.map(\.worker) ?? []
            if !replica.deployment.isIdle { epochs.append(replica.deployment.epoch) }
        }
        if Set(workers).count != workers.count { findings.append("a worker has two stages") }
        if Set(epochs).count != epochs.count { findings.append("two plans have the same epoch") }
        if backlog.count > 0 && fleet.replicas.count == 1 { findings.append("one replica has a line beside its own") }
        for request in requests.values {
            for id in request.choices.compactMap(\.sequence) {
                let homes = fleet.replicas.count { $0.scheduler[id] != nil } + (backlog[id] == nil ? 0 : 1)
                if homes != 1 { findings.append("an open sequence has \(homes) homes") }
            }
        }
        let openChoices = requests.values.reduce(0) { $0 + $1.choices.count { $0.sequence != nil } }
        if openChoices != openCount { findings.append("open choices and open sequences differ") }
    }

    private func audit(_ replica: Replica, into findings: inout [String]) {
        let (deployment, scheduler) = (replica.deployment, replica.scheduler)
        let allocator = scheduler.allocator
        var holders: [BlockID: Int] = [:]
        for id in scheduler.running {
            guard let sequence = scheduler[id] else { return findings.append("a sequence runs that is not open") }
            for block in sequence.blocks { holders[block, default: 0] += 1 }
            if Set(sequence.blocks).count != sequence.blocks.count { findings.append("a sequence has a block twice") }
            if requests[sequence.request] == nil { findings.append("a sequence runs for no request") }
        }
        if holders.contains(where: { allocator.holderCount($0.key) != $0.value }) { findings.append("holders of a block are miscounted") }
        let probing = if case .proving = deployment.phase { 1 } else { 0 }
        if allocator.freeCount + holders.count + probing != allocator.total { findings.append("blocks were lost or made up") }
        if scheduler.waiting.count + scheduler.running.count != scheduler.openCount { findings.append("a sequence neither waits nor runs") }
        if let plan = deployment.plan, scheduler.inFlight.count > plan.stages.count * configuration.stepsInFlightPerStage {
            findings.append("too many steps are in flight")
        }
        if deployment.isIdle && fleet.replicas.count > 1 && scheduler.openCount > 0 { findings.append("an idle replica keeps a sequence") }
    }
}
