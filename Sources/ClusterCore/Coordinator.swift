import OrderedCollections

/// The cluster's decisions: who takes part, who computes which layers, which rows run next, what clients get.
///
/// States: waiting for workers → loading → proving → serving, and back to loading or waiting at each loss, each replica for itself
/// (`Deployment`, `Fleet`); ended after
/// `.shutdown`, when every event is ignored. Wrong calls: whatever a peer sends in the wrong state, epoch or role is dropped and counted; an
/// event for an unknown peer is answered with `helloExpected`; `handle` with a time before the last one's is our own bug but harmless, because
/// `Instant` differences saturate.
///
/// All state is soft. After a restart workers say what they hold, gateways submit their open requests again with the tokens so far, and
/// the streams go on.
package struct Coordinator: Sendable {
    package let configuration: CoordinatorConfiguration
    var membership = Membership()
    var fleet: Fleet
    /// Empty while there is but one replica.
    var backlog = Backlog()
    var refusal: Refusal?
    var lastPrecedence: UInt64 = 0
    var speeds = MeasuredSpeeds()
    var linkFaults = LinkFaults()
    var weights = WeightSources()
    /// In the order of submission.
    var requests: OrderedDictionary<RequestID, OpenRequest> = [:]
    /// Those whose gateway is gone, and since when, in this order: kept for a while for a client that comes back (`CoordinatorAbandoned`).
    var abandoned: OrderedDictionary<RequestID, Instant> = [:]
    package internal(set) var metrics = CoordinatorMetrics()
    var announced: ClusterHealth
    var nextSequence: UInt64 = 1
    var nextArrival: UInt64 = 1
    /// Steps that came back and are in no account yet.
    var unsettled: [ReturnedStep] = []
    /// And in no trace.
    var untold: [StepTrace] = []
    /// What is due whatever came waits for `settle`.
    private var hasToCarryOn = false
    private(set) var lastHandled: Instant
    let startedAt: Instant
    private(set) var hasEnded = false

    package init(configuration: CoordinatorConfiguration, at now: Instant) {
        self.configuration = configuration
        fleet = Fleet(first: Self.emptyReplica(configuration), at: now)
        lastHandled = now
        startedAt = now
        announced = ClusterHealth(state: .waitingForWorkers, detail: "")
        announced = health
    }

    static func emptyReplica(_ configuration: CoordinatorConfiguration) -> Replica {
        let clock = StepClock(
            floorMs: configuration.stepDeadlineFloorMs, unmeasuredMs: configuration.stepDeadlineUnmeasuredMs,
            factor: configuration.stepDeadlineFactor)
        let scheduler = Scheduler(
            settings: Scheduler.Settings(
                stepRowsMax: configuration.stepRowsMax, prefillRowsPerStep: configuration.prefillRowsPerStep,
                interTokenBudgetMs: configuration.interTokenBudgetMs,
                sequencesRunningMax: configuration.sequencesRunningMax, tenantStretchMax: configuration.tenantStretchMax,
                contextTokens: configuration.contextTokens,
                vocabulary: configuration.model.vocabulary, endTokens: configuration.model.endTokens,
                sharesPrefixes: configuration.sharesPrefixes, prefixCachePercent: configuration.prefixCachePercent,
                longPromptTokens: configuration.model.longPromptTokens,
                speculation: configuration.speculation, hasDraftModel: configuration.hasDraftModel),
            clock: clock)
        return Replica(scheduler: scheduler)
    }

    package mutating func handle(_ event: Event, at now: Instant, into effects: inout [Effect]) {
        decide(event, at: now, into: &effects)
        settle(into: &effects)
    }

    /// The first half of `handle`: what somebody waits for, the next step above all. Between it and `settle` its effects may be performed; nothing
    /// but `settle` may come before the next event.
    package mutating func decide(_ event: Event, at now: Instant, into effects: inout [Effect]) {
        guard !hasEnded else { return }
        lastHandled = now
        switch event {
        case .received(let message, let peer, let role): received(message, from: peer, role: role, now, &effects)
        case .enrolRequested(let request, let token): enrol(request, over: token, &effects)
        case .malformedFrame(let peer): drop(.malformed, from: peer, &effects)
        case .weightsHashed(let hashed): weights.hashed = hashed
        case .disconnected(let peer): disconnected(peer, now, &effects)
        case .revoked(let peer): revoked(peer, now, &effects)
        case .drafted(let sequence, let length, let tokens): drafted(sequence, atLength: length, tokens)
        case .deadline: break
        case .shutdown: return shutDown(&effects)
        }
        // Stages wait for what follows a result, and for nothing of what else may be due.
        guard case .received(.stepResult, _, _) = event else { return carryOn(now, &effects) }
        fillPipeline(now, &effects)
        hasToCarryOn = true
    }

    /// The second half: the accounts of the steps that came back, what is due whatever came, and what the gateways hear of the cluster's health.
    package mutating func settle(into effects: inout [Effect]) {
        guard !hasEnded else { return }
        settleAccounts()
        if hasToCarryOn {
            hasToCarryOn = false
            carryOn(lastHandled, &effects)
        }
        for trace in untold { effects.append(.trace(.step(trace))) }
        untold.removeAll(keepingCapacity: true)
        announceHealth(&effects)
    }

    /// What follows every event: look for silence, give up what waited too long, plan, fill the pipeline.
    private mutating func carryOn(_ now: Instant, _ effects: inout [Effect]) {
        failOverdue(now, &effects)
        advanceHandovers(now, &effects)
        expireRequests(now, &effects)
        closeAbandoned(now, &effects)
        deploy(now, &effects)
        finishDrains(&effects)
        fillPipeline(now, &effects)
        placeStandbys(now, &effects)
    }

    private mutating func received(
        _ message: ToCoordinator, from peer: PeerKey, role: PeerRole, _ now: Instant, _ effects: inout [Effect]
    ) {
        switch (message, role) {
        case (.statusQuery, _): effects.append(.send(.status(status(at: now)), to: peer))
        case (.drain(let request), .console): drain(request, from: peer, now, &effects)
        case (.workerHello(let hello), .worker): greet(hello, from: peer, now, &effects)
        case (.gatewayHello(let hello), .gateway): greet(hello, from: peer, now, &effects)
        case (_, .worker) where membership.workers.keys.contains(peer): receivedFromWorker(message, peer, now, &effects)
        case (_, .gateway) where membership.gateways.keys.contains(peer): receivedFromGateway(message, peer, now, &effects)
        case (.heartbeat, .worker), (.heartbeat, .gateway), (.submit, .gateway):
            drop(.unknownPeer, from: peer, &effects)
            effects.append(.send(.refused(Failure(.helloExpected, "the coordinator does not know this peer; say hello")), to: peer))
        case (_, .worker), (_, .gateway): drop(.unknownPeer, from: peer, &effects)
        case (_, .console): drop(.wrongRole, from: peer, &effects)
        }
    }

    private mutating func receivedFromWorker(
        _ message: ToCoordinator, _ worker: PeerKey, _ now: Instant, _ effects: inout [Effect]
    ) {
        membership.workers[worker]!.lastHeard = now
        switch message {
        case .heartbeat(let heartbeat):
            heard(heartbeat, from: worker, now, &effects)
            effects.append(.send(.heartbeatReply(heartbeat), to: worker))
        case .loadProgress(let progress): loadProgressed(progress, worker, now, &effects)
        case .loaded(let epoch, let kept): loaded(epoch, kept: kept, worker, now, &effects)
        case .loadFailed(let epoch, let failure): loadFailed(epoch, failure, worker, now, &effects)
        case .stepResult(let result): stepReturned(result, worker, now, &effects)
        case .stepFailed(let epoch, _, let failure): stepFailed(epoch, failure, worker, now, &effects)
        case .leaving: lose(worker: worker, because: "the worker left", now, &effects)
        case .handoverReport(let report): handoverReported(report, worker, now, &effects)
        case .wishToLeave: wishedToLeave(worker, now, &effects)
        case .weightsQuery(let model): weightsQueried(model, by: worker, &effects)
        case .enrol, .workerHello, .gatewayHello, .submit, .cancel, .cancelChoice, .statusQuery, .drain: drop(.wrongRole, from: worker, &effects)
        }
    }

    private mutating func receivedFromGateway(
        _ message: ToCoordinator, _ gateway: PeerKey, _ now: Instant, _ effects: inout [Effect]
    ) {
        membership.gateways[gateway]!.lastHeard = now
        membership.gateways[gateway]!.lostSince = nil
        switch message {
        case .heartbeat(var heartbeat):
            heartbeat.expectedWaitMs = expectedWaitMs()
            effects.append(.send(.heartbeatReply(heartbeat), to: gateway))
        case .submit(let request): submit(request, from: gateway, now, &effects)
        case .cancel(let id): cancel(id, from: gateway, &effects)
        case .cancelChoice(let id, let choice): cancel(choice, of: id, from: gateway, &effects)
        case .leaving: lose(gateway: gateway, because: "the gateway left", keepingRequestsSince: now, &effects)
        case .enrol, .workerHello, .gatewayHello, .loadProgress, .loaded, .loadFailed, .stepResult, .stepFailed, .statusQuery,
            .handoverReport, .drain, .wishToLeave, .weightsQuery:
            drop(.wrongRole, from: gateway, &effects)
        }
    }

    private mutating func shutDown(_ effects: inout [Effect]) {
        for id in requests.keys {
            fail(id, Failure(.shuttingDown, "the cluster is shutting down; send the request again later"), &effects)
        }
        for peer in membership.gateways.keys { effects.append(.send(.closing, to: peer)) }
        for peer in membership.workers.keys { effects.append(.send(.closing, to: peer)) }
        log(.notice, "coordinator ends", [], &effects)
        effects.append(.ended)
        hasEnded = true
    }

    // MARK: - Time

    /// When `.deadline` is due. Later than any time at which this machine was last handled, so a driver never spins.
    package var nextDeadline: Instant? {
        guard !hasEnded else { return nil }
        return [membershipDeadline, deploymentDeadline, requestDeadline, abandonedDeadline, stepDeadline, handoverDeadline].compactMap(\.self).min()
    }

    // MARK: - Words

    mutating func drop(_ cause: DropCause, from peer: PeerKey?, _ effects: inout [Effect]) {
        if let entry = metrics.dropped.count(cause, from: peer) { effects.append(.log(entry)) }
    }

    func log(_ level: LogEntry.Level, _ message: String, _ fields: [LogEntry.Field], _ effects: inout [Effect]) {
        effects.append(.log(LogEntry(level, message, fields)))
    }
}
