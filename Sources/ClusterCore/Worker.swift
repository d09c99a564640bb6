import DequeModule

/// One worker: holds at most one stage, computes its steps strictly in order, passes them on.
///
/// The stage thread has the next step before it ends the present one, so it never waits while results are packed, encrypted and sent.
///
/// States of its link: greeting, joined (`CoordinatorLink`). States of its stage: none, loading, serving, broken (a step failed or is missing; it
/// waits for the next epoch). End state: ended, after `.shutdown` or a refusal that no retry mends. Wrong calls: frames of another epoch,
/// number, sender or state are dropped and counted; events of the stage thread for an epoch that is over are ignored; frames of an
/// epoch that still loads cannot come, since the coordinator starts an epoch only when all have loaded, so they are dropped like any other.
package struct Worker: Sendable {
    private let configuration: WorkerConfiguration
    private(set) var link: CoordinatorLink
    var stage: Stage?
    var handover: WorkerHandover?
    var lastEpoch = Epoch(0)
    /// Without a stage: the one that it loads ahead, and the layers of it that are in memory.
    var ahead: StageAssignment?
    var held = 0..<0
    /// Of the protocol that the coordinator speaks.
    private(set) var coordinatorMinor: UInt32 = 0
    /// As told last; `nil` before that.
    private var workDone: UInt64?
    /// It ends by then, with its layers handed over or not.
    var leavingBy: Instant?
    private var hasEnded = false
    package private(set) var metrics = WorkerMetrics()

    struct Stage {
        enum State { case loading, serving, broken }

        var assignment: StageAssignment
        var state = State.loading
        /// Steps that wait for the stage thread.
        var queue: Deque<Arrival> = []
        /// The steps that the stage thread has, in their order: the one that it computes, and those that it goes on with without waiting for us.
        var computing: Deque<Computing> = []
        /// The last step that came, and the last that was computed.
        var lastArrived = StepNumber(0)
        var lastComputed = StepNumber(0)
        /// Of the last step that came.
        var followUps = 0
        /// On the last stage: the step that it sent to the first by itself.
        var lastFollowUp = StepNumber(0)
        /// On the first stage: steps of the coordinator that overtook a follow-up.
        var early: Deque<Arrival> = []
        /// When the stage thread last had nothing more to do: the end of loading or of a step.
        var idleSince = Instant(nanoseconds: 0)
        var ledger: StageLedger
        /// So much of the load was reported.
        var bytesReported: UInt64 = 0
        /// Layers that still have their keys and values, as the stage thread said.
        var kept = 0..<0
    }

    struct Arrival {
        var frame: StepFrame
        var payload: PayloadHandle?
        var at: Instant
    }

    struct Computing {
        var frame: StepFrame
        var arrivedAt: Instant
        /// When it was given to the stage thread.
        var givenAt: Instant
    }

    package init(configuration: WorkerConfiguration) {
        self.configuration = configuration
        link = CoordinatorLink(
            heartbeatIntervalMs: configuration.heartbeatIntervalMs, timeoutMs: configuration.heartbeatTimeoutMs,
            backoffMinMs: configuration.reconnectBackoffMinMs, backoffMaxMs: configuration.reconnectBackoffMaxMs)
    }

    /// What `/metrics` of this worker says.
    package var report: WorkerReport {
        WorkerReport(
            name: configuration.name, capabilities: configuration.capabilities, isJoined: link.isJoined, assignment: stage?.assignment,
            isServing: stage?.state == .serving, stepsQueued: stage?.queue.count ?? 0, metrics: metrics)
    }

    package var nextDeadline: Instant? {
        guard !hasEnded, let due = link.deadline else { return hasEnded ? nil : leavingBy }
        return leavingBy.map { min($0, due) } ?? due
    }

    package mutating func handle(_ event: Event, at now: Instant, into effects: inout [Effect]) {
        guard !hasEnded else {
            if case .activation(_, let payload, _) = event { effects.append(.discard(payload)) }
            if case .stepComputed(_, _, _, let payload?) = event { effects.append(.discard(payload)) }
            if case .blocksRead(_, let payload, _) = event { effects.append(.discard(payload)) }
            if case .transfer(_, let payload?, _) = event { effects.append(.discard(payload)) }
            return
        }
        switch event {
        case .start: perform(link.start(at: now), &effects)
        case .received(let message): received(message, now, &effects)
        case .activation(let frame, let payload, let peer): arrived(frame, payload, from: peer, now, &effects)
        case .followUp(let step, let peer): followUp(step, from: peer, now, &effects)
        case .loadProgressed(let epoch, let done, let total): loadProgressed(epoch, done, total, &effects)
        case .loaded(let epoch, let kept): loaded(epoch, kept, now, &effects)
        case .loadFailed(let epoch, let failure): loadFailed(epoch, failure, &effects)
        case .stepComputed(let epoch, let number, let outcome, let payload): computed(epoch, number, outcome, payload, now, &effects)
        case .stepFailed(let epoch, let number, let failure):
            if isComputing(epoch, number) { breakStage(failure, at: number, &effects) }
        case .prepared(let epoch): prepared(epoch, &effects)
        case .handoverFailed(let epoch, let failure): handoverFailed(epoch, failure, &effects)
        case .transfer(let frame, let payload, let peer): transferred(frame, payload, from: peer, &effects)
        case .blocksRead(let frame, let payload, let bytes): blocksRead(frame, payload, bytes: bytes, &effects)
        case .blocksWritten(let frame, let peer): blocksWritten(frame, from: peer, &effects)
        case .switched(let epoch): switched(epoch, now, &effects)
        case .weightsWanted(let model): if link.isJoined { effects.append(.send(.weightsQuery(model))) }
        case .malformedFrame(let peer): drop(.malformed, from: peer, &effects)
        case .loadedAhead(let layers): loadedAhead(layers, &effects)
        case .workDone(let count): workDone = count
        case .deadline: break
        case .leave(let milliseconds): wishToLeave(withinMs: milliseconds, now, &effects)
        case .shutdown: leave(&effects)
        }
        if !hasEnded, let by = leavingBy, by <= now { leave(&effects) }
        if hasEnded { return }
        perform(link.tick(at: now), &effects)
        // Nobody is there to say where the layers should go.
        if leavingBy != nil, !link.isJoined { leave(&effects) }
    }

    private mutating func perform(_ actions: [CoordinatorLink.Action], _ effects: inout [Effect]) {
        for action in actions {
            switch action {
            case .hello: effects.append(.send(.workerHello(hello)))
            case .heartbeat: effects.append(.send(.heartbeat(heartbeat)))
            case .reconnect:
                metrics.reconnects += 1
                effects.append(.log(LogEntry(.warning, "the coordinator is silent; connecting anew")))
                effects.append(.reconnect)
            }
        }
    }

    private var hello: WorkerHello {
        WorkerHello(
            version: configuration.version, session: configuration.session, name: configuration.name, capabilities: configuration.capabilities,
            dataEndpoint: configuration.dataEndpoint, holding: holding, lastEpoch: lastEpoch, weightsEndpoint: configuration.weightsEndpoint)
    }

    private var holding: HeldSlice? {
        guard let stage, stage.state != .loading else { return nil }
        // A broken stage still has its weights, but takes part in no epoch.
        let epoch = stage.state == .serving ? stage.assignment.epoch : Epoch(0)
        return HeldSlice(epoch: epoch, modelDigest: stage.assignment.modelDigest, layers: stage.assignment.layers)
    }

    private var heartbeat: Heartbeat {
        var heartbeat = Heartbeat(
            epoch: stage?.assignment.epoch ?? Epoch(0), lastStep: stage?.lastComputed ?? StepNumber(0), stepsQueued: stage?.queue.count ?? 0,
            lastReceived: stage?.lastArrived)
        heartbeat.held = held
        heartbeat.work = workDone
        return heartbeat
    }

    // MARK: - The coordinator's word

    private mutating func received(_ message: FromCoordinator, _ now: Instant, _ effects: inout [Effect]) {
        link.heard(at: now)
        switch message {
        case .workerWelcome(let welcome): welcomed(welcome, now, &effects)
        case .refused(let failure): refused(failure, now, &effects)
        case .heartbeatReply: break
        case .assign(let assignment): assigned(assignment, &effects)
        case .loadAhead(let assignment): loadAhead(assignment, &effects)
        case .release(let epoch): released(epoch, &effects)
        case .step(let step): arrived(step, now, &effects)
        case .handover(let order): received(order, now, &effects)
        case .drainStatus(let status): drainAnswered(status, &effects)
        case .closing:
            effects.append(.log(LogEntry(.notice, "the coordinator ends; waiting for the next one")))
            link.dismissed(at: now)
        case .weightsOffer(let offer): effects.append(.offerWeights(offer))
        case .weightsFetchers(let keys): effects.append(.admitFetchers(keys))
        case .enrolled, .gatewayWelcome, .health, .tokens, .finished, .failed, .status: drop(.wrongRole, from: nil, &effects)
        }
    }

    private mutating func welcomed(_ welcome: WorkerWelcome, _ now: Instant, _ effects: inout [Effect]) {
        if !link.isJoined { effects.append(.log(LogEntry(.notice, "joined the cluster"))) }
        link.welcomed(at: now)
        coordinatorMinor = welcome.version.minor
        // It answers a hello, with which it gave up whatever hand-over this worker had a part in; a new coordinator has never heard of one.
        if handover?.state != .adopting { endHandover(&effects) }
        // A coordinator that was started anew has not heard of it.
        if leavingBy != nil, coordinatorMinor >= ProtocolVersion.handoverMinor { effects.append(.send(.wishToLeave)) }
    }

    private mutating func refused(_ failure: Failure, _ now: Instant, _ effects: inout [Effect]) {
        switch failure.code {
        case .helloExpected: perform(link.helloExpected(at: now), &effects)
        case .limitExceeded, .notReady, .shuttingDown:
            effects.append(.log(LogEntry(.warning, "the coordinator refused this worker for now", [.init("reason", failure.message)])))
            link.dismissed(at: now)
        default:
            effects.append(.log(LogEntry(.warning, "the coordinator refused this worker", [.init("reason", failure.message)])))
            end(failure, &effects)
        }
    }

    /// An epoch below the last one comes from a coordinator that has not seen all of us; it will say a higher one. The same one again is a
    /// repeat: the answer to the first may be lost.
    private mutating func assigned(_ assignment: StageAssignment, _ effects: inout [Effect]) {
        if let stage, stage.assignment == assignment {
            if stage.state == .serving { effects.append(.send(.loaded(assignment.epoch, kept: stage.kept))) }
            return
        }
        guard assignment.epoch > lastEpoch else { return drop(.oldEpoch, from: nil, &effects) }
        guard isSound(assignment) else { return drop(.invalid, from: nil, &effects) }
        endHandover(&effects)
        forgetAhead()
        dropQueue(&effects)
        lastEpoch = assignment.epoch
        stage = Stage(assignment: assignment, ledger: StageLedger(kvBlocks: assignment.kvBlocks))
        effects.append(
            .log(
                LogEntry(
                    .notice, "loading a stage",
                    [
                        .init("epoch", assignment.epoch.value), .init("stage", assignment.stage),
                        .init("layers", "\(assignment.layers.lowerBound)..<\(assignment.layers.upperBound)"),
                    ])))
        effects.append(.admitUpstream(assignment.upstream))
        effects.append(.connectDownstream(assignment.downstream))
        effects.append(.load(assignment))
    }

    func isSound(_ assignment: StageAssignment) -> Bool {
        assignment.epoch.value <= Limits.epochMax && (1...Limits.stagesMax).contains(assignment.stageCount)
            && (0..<assignment.stageCount).contains(assignment.stage) && !assignment.layers.isEmpty
            && (assignment.upstream != nil || assignment.isFirst) && (assignment.downstream != nil || assignment.isLast)
            && (1...Int(UInt32.max)).contains(assignment.kvBlocks)
    }

    private mutating func released(_ epoch: Epoch, _ effects: inout [Effect]) {
        guard let stage, stage.assignment.epoch <= epoch, epoch.value <= Limits.epochMax else { return }
        endHandover(&effects)
        dropQueue(&effects)
        self.stage = nil
        lastEpoch = max(lastEpoch, epoch)
        effects.append(.log(LogEntry(.notice, "released a stage; standing by", [.init("epoch", epoch.value)])))
        effects.append(.admitUpstream(nil))
        effects.append(.connectDownstream(nil))
        effects.append(.unload)
    }

    // MARK: - Loading

    private mutating func loadProgressed(_ epoch: Epoch, _ done: UInt64, _ total: UInt64, _ effects: inout [Effect]) {
        if handover?.epoch == epoch, handover?.state == .preparing, done > handover!.bytesReported {
            handover!.bytesReported = done
            return effects.append(.send(.loadProgress(LoadProgress(epoch: epoch, bytesDone: done, bytesTotal: total))))
        }
        guard let stage, stage.assignment.epoch == epoch, stage.state == .loading, done > stage.bytesReported else { return }
        self.stage!.bytesReported = done
        effects.append(.send(.loadProgress(LoadProgress(epoch: epoch, bytesDone: done, bytesTotal: total))))
    }

    private mutating func loaded(_ epoch: Epoch, _ kept: Range<Int>, _ now: Instant, _ effects: inout [Effect]) {
        guard let stage, stage.assignment.epoch == epoch, stage.state == .loading else { return }
        self.stage!.state = .serving
        self.stage!.kept = kept
        self.stage!.idleSince = now
        effects.append(.send(.loaded(epoch, kept: kept)))
    }

    private mutating func loadFailed(_ epoch: Epoch, _ failure: Failure, _ effects: inout [Effect]) {
        guard let stage, stage.assignment.epoch == epoch, stage.state == .loading else { return }
        effects.append(.log(LogEntry(.warning, "could not load a stage", [.init("reason", failure.message)])))
        effects.append(.admitUpstream(nil))
        effects.append(.connectDownstream(nil))
        effects.append(.send(.loadFailed(epoch, failure)))
        self.stage = nil
    }

    // MARK: - Steps arrive

    private mutating func arrived(_ step: Step, _ now: Instant, _ effects: inout [Effect]) {
        guard stage?.state == .serving, stage!.assignment.isFirst else { return drop(.wrongState, from: nil, &effects) }
        enqueue(Arrival(frame: StepFrame(step: step), payload: nil, at: now), from: nil, &effects)
        computeNext(now, &effects)
    }

    private mutating func arrived(
        _ frame: StepFrame, _ payload: PayloadHandle, from peer: PeerKey, _ now: Instant, _ effects: inout [Effect]
    ) {
        let cause: DropCause? =
            switch stage {
            case .some(let stage) where stage.state == .serving && !stage.assignment.isFirst:
                if stage.assignment.upstream != peer {
                    .wrongUpstream
                } else {
                    frame.timings.count == stage.assignment.stage ? nil : .invalid
                }
            default: .wrongState
            }
        if let cause {
            effects.append(.discard(payload))
            return drop(cause, from: peer, &effects)
        }
        enqueue(Arrival(frame: frame, payload: payload, at: now), from: peer, &effects)
        computeNext(now, &effects)
    }

    /// Takes the step that comes next. Without the one before it a stage's keys and values would have a hole that nobody sees, so a gap ends
    /// this stage's part in the epoch.
    private mutating func enqueue(_ arrival: Arrival, from peer: PeerKey?, _ effects: inout [Effect]) {
        let step = arrival.frame.step
        precondition(stage != nil, "steps are taken by a stage")
        func refuse(_ cause: DropCause) {
            if let payload = arrival.payload { effects.append(.discard(payload)) }
            drop(cause, from: peer, &effects)
        }
        guard step.epoch == stage!.assignment.epoch else { return refuse(.oldEpoch) }
        guard step.number > stage!.lastArrived else { return refuse(.unknownStep) }
        guard step.number.value == stage!.lastArrived.value + 1 else {
            if awaitsFollowUp(arrival) { return }
            refuse(.unknownStep)
            let lost = StepNumber(stage!.lastArrived.value + 1)
            return breakStage(Failure(.frameLost, "step \(step.number.value) came where \(lost.value) was due"), at: lost, &effects)
        }
        guard stage!.queue.count < configuration.stepsQueuedMax else {
            refuse(.queueFull)
            return breakStage(Failure(.limitExceeded, "\(stage!.queue.count) steps wait for the stage thread already"), at: step.number, &effects)
        }
        if let fault = self.stage!.ledger.take(step) {
            refuse(.invalid)
            return breakStage(Failure(.internalError, "\(Self.unfitStep): \(fault)"), at: step.number, &effects)
        }
        self.stage!.lastArrived = step.number
        self.stage!.followUps = step.followUps
        self.stage!.queue.append(arrival)
        if let next = stage!.early.popFirst() { enqueue(next, from: nil, &effects) }
    }

    /// How a report begins of a step that the coordinator had no right to send.
    package static let unfitStep = "a step does not fit the stage"

    // MARK: - Follow-up steps

    /// Where the coordinator allows it, unless one of the sequences may have ended.
    private func canFollow(_ frame: StepFrame, _ tokens: [SampledToken]) -> Bool {
        guard frame.step.followUps > 0, let stage, stage.assignment.downstream != nil, frame.poisoned.isEmpty else { return false }
        return tokens.count == frame.step.segments.count && !tokens.contains { stage.ledger.mayEnd($0.sequence, with: $0.emitted.token) }
    }

    private mutating func followUp(_ step: Step, from peer: PeerKey, _ now: Instant, _ effects: inout [Effect]) {
        guard let stage, stage.state == .serving, stage.assignment.isFirst, !stage.assignment.isLast else {
            return drop(.wrongState, from: peer, &effects)
        }
        guard stage.assignment.upstream == peer else { return drop(.wrongUpstream, from: peer, &effects) }
        guard step.epoch == stage.assignment.epoch else { return drop(.oldEpoch, from: peer, &effects) }
        guard step.number.value == stage.lastArrived.value + 1 else { return drop(.unknownStep, from: peer, &effects) }
        guard step.canBeFollowUp, stage.followUps > 0, step.followUps == stage.followUps - 1 else { return drop(.invalid, from: peer, &effects) }
        enqueue(Arrival(frame: StepFrame(step: step), payload: nil, at: now), from: peer, &effects)
        computeNext(now, &effects)
    }

    /// A step came where an earlier one is due. Where the step before may have a follow-up, that is on its way, and this one waits.
    private mutating func awaitsFollowUp(_ arrival: Arrival) -> Bool {
        guard stage!.assignment.isFirst, stage!.followUps > 0, stage!.early.count < configuration.stepsQueuedMax else { return false }
        stage!.early.append(arrival)
        metrics.stepsEarly += 1
        return true
    }

    // MARK: - Steps are computed

    private mutating func computeNext(_ now: Instant, _ effects: inout [Effect]) {
        while let given = stage?.computing.count, given < configuration.stepsGivenMax, let arrival = stage!.queue.popFirst() {
            stage!.computing.append(Computing(frame: arrival.frame, arrivedAt: arrival.at, givenAt: now))
            effects.append(.compute(arrival.frame, payload: arrival.payload))
        }
    }

    private func isComputing(_ epoch: Epoch, _ number: StepNumber) -> Bool {
        stage?.assignment.epoch == epoch && stage?.computing.first?.frame.step.number == number
    }

    private mutating func computed(
        _ epoch: Epoch, _ number: StepNumber, _ outcome: StepOutcome, _ payload: PayloadHandle?, _ now: Instant, _ effects: inout [Effect]
    ) {
        guard isComputing(epoch, number) else {
            if let payload { effects.append(.discard(payload)) }
            return
        }
        // Taken out whole: a second holder of the stage's queues would have them copied at each change.
        var computing = stage!.computing.removeFirst()
        stage!.lastComputed = number
        var timing = timing(of: outcome, computing, now)
        timing.readBytes = outcome.readBytes
        (timing.streamedBytes, timing.streamWaitNanoseconds) = (outcome.streamedBytes, outcome.streamWaitNanoseconds)
        timing.streamReadNanoseconds = outcome.streamReadNanoseconds
        metrics.computed(computing.frame.step, timing)
        metrics.layersBegun &+= UInt64(outcome.layersBegun)
        if let foretold = outcome.foretold {
            metrics.foretold += 1
            if outcome.tokens.first?.emitted.token == foretold { metrics.foretoldRight += 1 }
        }
        computing.frame.timings.append(timing)
        // Whoever saw it first names the layers.
        let known = computing.frame.poisoned
        computing.frame.poisoned += outcome.poisoned.filter { new in !known.contains { $0.sequence == new.sequence } }
        if stage!.assignment.isLast {
            precondition(payload == nil, "the last stage hands no activations on")
            let frame = computing.frame
            var result = StepResult(epoch: epoch, number: number, tokens: outcome.tokens, poisoned: frame.poisoned, timings: frame.timings)
            // Before the result, because the first stage waits for it.
            if canFollow(frame, outcome.tokens) {
                effects.append(.followUp(frame.step.followUp(outcome.tokens)))
                result.isFollowed = true
                stage!.lastFollowUp = StepNumber(number.value + 1)
                metrics.followUps += 1
            }
            effects.append(.send(.stepResult(result)))
        } else {
            guard let payload else { preconditionFailure("a stage that is not the last hands activations on") }
            // Later stages have no use for the opens' tokens beyond their own state, but the value stays whole: it is one thing.
            effects.append(.forward(computing.frame, payload: payload))
        }
        computeNext(now, &effects)
    }

    /// `now` is when the step is handed on: effects are performed at once.
    private mutating func timing(of outcome: StepOutcome, _ computing: Computing, _ now: Instant) -> StageTiming {
        guard let startedAt = outcome.startedAt else {
            return StageTiming(
                queueNanoseconds: computing.givenAt.nanoseconds(since: computing.arrivedAt), computeNanoseconds: outcome.computeNanoseconds)
        }
        let begun = min(outcome.begunNanoseconds, outcome.computeNanoseconds)
        let endedAt = Instant(nanoseconds: startedAt.nanoseconds &+ (outcome.computeNanoseconds - begun))
        let pause = startedAt.nanoseconds(since: stage!.idleSince)
        stage!.idleSince = endedAt
        var timing = StageTiming(
            queueNanoseconds: startedAt.nanoseconds(since: computing.arrivedAt), computeNanoseconds: outcome.computeNanoseconds,
            idleNanoseconds: pause - min(pause, begun), handOverNanoseconds: now.nanoseconds(since: endedAt))
        timing.begunNanoseconds = begun
        return timing
    }

    private mutating func breakStage(_ failure: Failure, at number: StepNumber, _ effects: inout [Effect]) {
        guard let stage else { return }
        effects.append(
            .log(
                LogEntry(
                    .warning, "a step failed",
                    [.init("step", number.value), .init("code", "\(failure.code)"), .init("reason", failure.message)])))
        effects.append(.send(.stepFailed(stage.assignment.epoch, number, failure)))
        dropQueue(&effects)
        self.stage!.state = .broken
    }

    /// What the stage thread has comes back and is discarded then.
    private mutating func dropQueue(_ effects: inout [Effect]) {
        guard let stage else { return }
        for arrival in stage.queue { if let payload = arrival.payload { effects.append(.discard(payload)) } }
        self.stage!.queue = []
        self.stage!.early = []
        self.stage!.computing = []
    }

    // MARK: - The end

    mutating func leave(_ effects: inout [Effect]) {
        effects.append(.send(.leaving))
        end(nil, &effects)
    }

    private mutating func end(_ failure: Failure?, _ effects: inout [Effect]) {
        endHandover(&effects)
        dropQueue(&effects)
        stage = nil
        effects.append(.admitUpstream(nil))
        effects.append(.connectDownstream(nil))
        effects.append(.unload)
        effects.append(.ended(failure))
        hasEnded = true
    }

    mutating func drop(_ cause: DropCause, from peer: PeerKey?, _ effects: inout [Effect]) {
        if let entry = metrics.dropped.count(cause, from: peer) { effects.append(.log(entry)) }
    }
}
