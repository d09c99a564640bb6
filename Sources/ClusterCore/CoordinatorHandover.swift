// Layers move between workers while streams run: to take a worker in, to relieve one, to cut anew.

extension Coordinator {
    // MARK: - Whether

    /// Begins a hand-over where one is wanted: a worker that serves wants to leave, or one that stands by would make the pipeline wider. Looked
    /// at with every event, so what is in vain is remembered.
    mutating func considerHandovers(_ now: Instant, _ effects: inout [Effect]) {
        for replica in fleet.serving
        where fleet[replica].handover == nil && fleet[replica].handoverRetryAt <= now && !fleet[replica].scheduler.isRebuilding {
            relieve(replica, now, &effects)
            if fleet[replica].handover == nil { grow(replica, now, &effects) }
        }
    }

    /// Takes the stages of workers that want to leave from them.
    private mutating func relieve(_ replica: Int, _ now: Instant, _ effects: inout [Effect]) {
        guard let plan = fleet[replica].deployment.plan else { return }
        let leaving = plan.stages.map(\.worker).filter { membership.workers[$0]?.drain?.isWanted == true }
        guard !leaving.isEmpty else { return }
        let staying = membership.candidates(at: now).filter { fleet.replica(of: $0.key) == replica }
        // Standbys take the places of those that leave, as far as there are any and they are needed.
        let free = standbys(now)
        for count in 0...min(leaving.count, free.count) {
            guard case .success(let next) = pipeline(over: staying + free.prefix(count), at: now) else { continue }
            if count < min(leaving.count, free.count), next.stages.count < plan.stages.count { continue }
            if beginHandover(of: replica, to: next, reason: "a worker leaves", now, &effects) { return }
        }
        // Where another replica serves, its streams can go on there, prefilled again.
        if fleet.serving.count > 1 { return recover(replica, "a worker leaves", now, &effects) }
        for worker in leaving { refuseDrain(of: worker, &effects) }
    }

    /// Takes standbys in while fewer workers serve than are wanted.
    private mutating func grow(_ replica: Int, _ now: Instant, _ effects: inout [Effect]) {
        guard mayGrow, !mayWiden, fleet.lastChange.advanced(milliseconds: configuration.planSettleMs) <= now,
            let plan = fleet[replica].deployment.plan
        else { return }
        // Who could not prepare a slice is tried again, after those who never failed; who failed a stage lately is only used in need.
        let unfailing = standbys(now).filter { membership.strikes[$0.key]?.hasFailedServing != true && !awaitsHolders($0, now) }
        let standbys = unfailing.filter { membership.strikes[$0.key] == nil } + unfailing.filter { membership.strikes[$0.key] != nil }
        let room = workersWanted(now) - plan.stages.count
        guard room > 0, !standbys.isEmpty else { return }
        let candidates = membership.candidates(at: now).filter { fleet.replica(of: $0.key) == replica } + standbys.prefix(room)
        let keys = candidates.map(\.key)
        guard keys != fleet.grownInVain else { return }
        fleet.grownInVain = keys
        guard case .success(let wider) = pipeline(over: candidates, at: now), wider.stages.count > plan.stages.count else { return }
        _ = beginHandover(of: replica, to: wider, reason: "a worker joined", now, &effects)
    }

    /// Where there is one pipeline, and standbys can't make another: then they would be one.
    private var mayGrow: Bool {
        if case .exactly(let count) = configuration.replicas, count > 1 { return false }
        return fleet.inForce.count == 1
    }

    /// How many workers serve while there are enough.
    func workersWanted(_ now: Instant) -> Int {
        guard let standbys = configuration.standbyWorkers else { return configuration.expectedWorkers }
        return max(1, membership.candidates(at: now).count - standbys)
    }

    /// Of those who are there for the first plan, those who make it. After a loss everybody is asked.
    func withoutStandbys(_ workers: [WorkerMember]) -> [WorkerMember] {
        guard let standbys = configuration.standbyWorkers, !fleet.hasServed else { return workers }
        return Array(workers.prefix(max(1, workers.count - standbys)))
    }

    private func pipeline(over workers: [WorkerMember], at now: Instant) -> Result<Plan, Failure> {
        Planner.plan(
            model: configuration.model, workers: workers.map { candidate($0, at: now) }, contextTokens: configuration.contextTokens,
            kvBlocksMax: configuration.kvBlocksMax, demand: demand)
    }

    /// Why workers can't change from one plan to another while they serve; `nil`: they can.
    private func obstacle(from old: Plan, to new: Plan, blocksUsed: Int) -> String? {
        let cost = StageCost(model: configuration.model, demand: demand)
        let layerCount = configuration.model.layerBytes.count
        func bytes(_ layers: Range<Int>) -> UInt64 {
            cost.fixedBytes(layers, hasHead: layers.upperBound == layerCount) + cost.kvBytes(blocks: blocksUsed, layers: layers.count)
        }
        for key in new.stages.map(\.worker) + Handover.moves(from: old, to: new).map(\.from) {
            guard let worker = membership.workers[key] else { return "a worker has gone" }
            if worker.hello.version.minor < ProtocolVersion.handoverMinor {
                return "worker \(worker.hello.name) speaks protocol \(worker.hello.version), which has no hand-over"
            }
        }
        for stage in new.stages {
            guard let worker = membership.workers[stage.worker], let before = old.stages.first(where: { $0.worker == stage.worker }) else { continue }
            // For a while it holds what it had and what it gets.
            let isOne = before.layers.overlaps(stage.layers) || before.layers.upperBound == stage.layers.lowerBound
                || stage.layers.upperBound == before.layers.lowerBound
            let both = min(before.layers.lowerBound, stage.layers.lowerBound)..<max(before.layers.upperBound, stage.layers.upperBound)
            let needed = streamedHandoverBytes(worker, before.layers, stage.layers, cost, blocks: blocksUsed)
                ?? (isOne ? bytes(both) : bytes(before.layers) + bytes(stage.layers))
            if needed > worker.hello.capabilities.memoryBytes {
                return "worker \(worker.hello.name) would need \(ByteCount(needed)) for its old and its new layers together"
            }
        }
        return nil
    }

    // MARK: - Its beginning

    /// `false`: it can't be done.
    mutating func beginHandover(of replica: Int, to next: Plan, reason: String, _ now: Instant, _ effects: inout [Effect]) -> Bool {
        guard let old = fleet[replica].deployment.plan, old.stages != next.stages else { return false }
        var plan = next
        // Who keeps layers keeps their memory: it can be used up to a lower block, but has none beyond.
        plan.kvBlocks = min(next.kvBlocks, old.kvBlocks)
        if let obstacle = obstacle(from: old, to: plan, blocksUsed: fleet[replica].scheduler.allocator.usedCount) {
            log(.warning, "layers can't be handed over while they serve", [.init("replica", replica), .init("reason", obstacle)], &effects)
            return false
        }
        // A slice of a past plan would pass for layers that its worker still has. Who came back while it loaded one has not said so yet.
        for stage in plan.stages where old.stages.allSatisfy({ $0.worker != stage.worker }) { releaseSlice(of: stage.worker, &effects) }
        let handover = Handover(from: old, to: plan, epoch: fleet.takeEpoch(), reason: reason, at: now)
        fleet[replica].handover = handover
        fleet[replica].scheduler.trackChanges()
        log(
            .notice, "handing layers over",
            [
                .init("epoch", handover.epoch.value), .init("replica", replica), .init("reason", reason), .init("stages", plan.stages.count),
                .init("layers", handover.moves.reduce(0) { $0 + $1.layers.count }),
            ], &effects)
        for (index, stage) in plan.stages.enumerated() {
            membership.workers[stage.worker]!.holdsSlice = true
            membership.workers[stage.worker]!.ahead = nil
            membership.workers[stage.worker]!.heldBefore = nil
            let sources = handover.senders(to: stage.worker).compactMap { stagePeer($0) }
            effects.append(
                .send(.handover(.prepare(assignment(of: index, in: plan, epoch: handover.epoch), sources: sources)), to: stage.worker))
        }
        return true
    }

    private func stagePeer(_ key: PeerKey) -> StagePeer? {
        membership.workers[key].map { StagePeer(key: key, endpoint: $0.hello.dataEndpoint) }
    }

    // MARK: - Reports

    mutating func handoverReported(_ report: HandoverReport, _ worker: PeerKey, _ now: Instant, _ effects: inout [Effect]) {
        guard let replica = fleet.replica(handingOverTo: report.epoch) else { return drop(.oldEpoch, from: worker, &effects) }
        guard fleet[replica].handover!.participants.contains(worker) else { return drop(.wrongState, from: worker, &effects) }
        let taken: Handover.Taken
        switch report {
        case .progress(_, let bytes):
            fleet[replica].handover!.sent(worker, bytes: bytes, at: now)
            return
        case .prepared:
            endFetch(of: worker, &effects)
            taken = fleet[replica].handover!.answered(worker, .preparing, at: now)
        case .sent(_, let round, let bytes):
            fleet[replica].handover!.sent(worker, bytes: bytes, at: now)
            taken = fleet[replica].handover!.answered(worker, .copying, round: round, at: now)
        case .switched: taken = fleet[replica].handover!.answered(worker, .adopting, at: now)
        case .failed(_, let failure): return handoverFailed(replica, worker, failure, now, &effects)
        }
        if taken == .unexpected { drop(.wrongState, from: worker, &effects) }
    }

    private mutating func handoverFailed(
        _ replica: Int, _ worker: PeerKey, _ failure: Failure, _ now: Instant, _ effects: inout [Effect]
    ) {
        let name = membership.workers[worker]?.hello.name ?? "\(worker)"
        // Who can't load is not asked again at once, as in `strike`; its stage under the old plan goes on.
        if failure.code == .loadFailed { membership.strikes[worker, default: Strikes()].strike(at: now, isPreparing: true) }
        giveUpHandover(of: replica, because: "worker \(name): \(failure.message)", now, &effects)
    }

    // MARK: - From phase to phase

    /// What is due in any hand-over: looked at with every event, because steps that come back are what some phases wait for.
    mutating func advanceHandovers(_ now: Instant, _ effects: inout [Effect]) {
        for replica in fleet.replicas.indices {
            guard let handover = fleet[replica].handover else { continue }
            if let deadline = deadline(of: handover), deadline <= now {
                giveUpHandover(of: replica, because: "nothing happened for too long while \(handover.phase)", now, &effects)
                continue
            }
            guard handover.awaited.isEmpty else { continue }
            switch handover.phase {
            case .preparing: if fleet[replica].scheduler.knowsAllChanges { sendBlocks(replica, isLast: false, now, &effects) }
            case .copying: copyOnOrClose(replica, now, &effects)
            case .closing: if fleet[replica].scheduler.inFlight.isEmpty { sendBlocks(replica, isLast: true, now, &effects) }
            case .finishing: askToAdopt(replica, now, &effects)
            case .adopting: completeHandover(replica, now, &effects)
            }
        }
    }

    /// One more round in the background, unless so little has changed that steps may as well wait for it.
    private mutating func copyOnOrClose(_ replica: Int, _ now: Instant, _ effects: inout [Effect]) {
        let scheduler = fleet[replica].scheduler
        let isLittle = scheduler.changedBlockCount <= max(Self.lastBlocksMin, 2 * scheduler.running.count)
        guard isLittle || fleet[replica].handover!.round >= Limits.handoverRoundsMax else {
            return sendBlocks(replica, isLast: false, now, &effects)
        }
        fleet[replica].scheduler.hold()
        fleet[replica].handover!.close(at: now)
        if fleet[replica].scheduler.inFlight.isEmpty { sendBlocks(replica, isLast: true, now, &effects) }
    }

    /// So many blocks, or two for each that runs, are left for the last round.
    static let lastBlocksMin = 16

    private mutating func sendBlocks(_ replica: Int, isLast: Bool, _ now: Instant, _ effects: inout [Effect]) {
        let kvBlocks = fleet[replica].handover!.plan.kvBlocks
        // Whoever holds a block that there is no room for will be computed again.
        let blocks = fleet[replica].scheduler.takeChangedBlocks().filter { Int($0.value) < kvBlocks }
        guard !blocks.isEmpty, !fleet[replica].handover!.moves.isEmpty else {
            if isLast { return askToAdopt(replica, now, &effects) }
            return copyOnOrClose(replica, now, &effects)
        }
        fleet[replica].handover!.beginRound(isLast: isLast, at: now)
        let handover = fleet[replica].handover!
        for sender in handover.senders {
            let targets = handover.moves.filter { $0.from == sender }.compactMap { move in
                stagePeer(move.to).map { KVTarget(peer: $0, layers: move.layers) }
            }
            let order = KVOrder(
                epoch: handover.epoch, round: handover.round, blocks: blocks, targets: targets,
                blockBytes: max(1, Int(clamping: configuration.model.kvBytesPerTokenPerLayer) * Limits.positionsPerBlock))
            effects.append(.send(.handover(.send(order)), to: sender))
        }
    }

    private mutating func askToAdopt(_ replica: Int, _ now: Instant, _ effects: inout [Effect]) {
        fleet[replica].handover!.adopt(at: now)
        let handover = fleet[replica].handover!
        for stage in handover.plan.stages { effects.append(.send(.handover(.adopt(handover.epoch)), to: stage.worker)) }
    }

    /// All workers have changed over: the next step is one of the new epoch.
    private mutating func completeHandover(_ replica: Int, _ now: Instant, _ effects: inout [Effect]) {
        guard let handover = fleet[replica].handover else { return }
        let old = fleet[replica].deployment.plan
        fleet[replica].handover = nil
        fleet[replica].handoverRetryMs = 0
        let stepMicroseconds = pipelineStepMicroseconds(replica, now)
        fleet[replica].watch.end(at: now, &speeds)
        fleet[replica].deployment.epoch = handover.epoch
        fleet[replica].place = nil
        fleet[replica].lastSlowStep = nil
        fleet[replica].deployment.phase = .serving(handover.plan)
        fleet[replica].deployment.servingSince = now
        fleet[replica].scheduler.proceed(
            under: handover.epoch, kvBlocks: handover.plan.kvBlocks, stages: handover.plan.stages.count,
            stepsInFlightMax: handover.plan.stages.count * configuration.stepsInFlightPerStage)
        fleet[replica].scheduler.allowsFollowUps = allowsFollowUps(handover.plan)
        renewStores(of: replica, handover.plan, keeping: fleet[replica].stores)
        let workers = candidates(of: handover.plan, at: now)
        predict(handover.plan, of: replica, workers)
        fleet[replica].account.begin(
            handover.plan.stages, rowBytes: configuration.model.hidden * configuration.boundary.bytesPerValue, at: now)
        fleet.triedInVain = nil
        fleet.widenedInVain = nil
        fleet.grownInVain = nil
        let pause = handover.heldSince.map { now.nanoseconds(since: $0) } ?? 0
        metrics.handovers.finished(pauseNanoseconds: pause)
        metrics.handovers.moved(bytes: handover.bytesSent)
        let parts = handover.pauseParts(at: now)
        traceEpoch(handover.epoch, handover.plan, &effects)
        log(
            .notice, "layers were handed over",
            [
                .init("epoch", handover.epoch.value), .init("replica", replica), .init("rounds", handover.round),
                .init("bytes", handover.bytesSent), .init("ms", now.milliseconds(since: handover.startedAt)), .init("pause_us", pause / 1_000),
                .init("waited_for_steps_us", parts.steps), .init("last_blocks_us", parts.lastBlocks), .init("last_blocks_bytes", handover.bytesLast),
                .init("change_us", parts.change), .init("step_us", stepMicroseconds),
            ], &effects)
        for stage in old?.stages ?? [] where handover.plan.stages.allSatisfy({ $0.worker != stage.worker }) {
            effects.append(.send(.release(handover.epoch), to: stage.worker))
            membership.workers[stage.worker]?.holdsSlice = false
        }
    }

    /// What a step takes from its sending to its result, on average of the last seconds.
    private func pipelineStepMicroseconds(_ replica: Int, _ now: Instant) -> UInt64 {
        UInt64(fleet.replicas[replica].account.report(at: now, isIdle: false).roundTripMilliseconds * 1_000)
    }

    // MARK: - Its failure

    /// The old plan goes on, and its streams with it, where no worker can have changed over yet; else the epoch ends as at any loss.
    mutating func giveUpHandover(of replica: Int, because reason: String, _ now: Instant, _ effects: inout [Effect]) {
        guard let handover = fleet[replica].handover else { return }
        if handover.phase == .adopting { return recover(replica, "a hand-over failed at its end: \(reason)", now, &effects) }
        dropHandover(of: replica, now, &effects)
        fleet[replica].scheduler.endTracking()
        log(
            .warning, "a hand-over was given up; the old plan goes on",
            [.init("epoch", handover.epoch.value), .init("replica", replica), .init("reason", reason)], &effects)
    }

    /// Workers forget what they prepared. What becomes of the replica is the caller's matter.
    mutating func dropHandover(of replica: Int, _ now: Instant, _ effects: inout [Effect]) {
        guard let handover = fleet[replica].handover else { return }
        fleet[replica].handover = nil
        metrics.handovers.rolledBack += 1
        metrics.handovers.moved(bytes: handover.bytesSent)
        let pause = min(max(fleet[replica].handoverRetryMs * 2, Limits.handoverRetryMs), Limits.handoverRetryMaxMs)
        fleet[replica].handoverRetryMs = pause
        fleet[replica].handoverRetryAt = now.advanced(milliseconds: pause)
        fleet.grownInVain = nil
        for worker in handover.participants where membership.workers[worker] != nil {
            endFetch(of: worker, &effects)
            effects.append(.send(.handover(.abandon(handover.epoch)), to: worker))
            // Who may have changed over already has a stage until it is told otherwise.
            if fleet[replica].deployment.stage(of: worker) == nil, handover.phase != .adopting { membership.workers[worker]!.holdsSlice = false }
        }
    }

    /// A worker is gone, or may have missed something.
    mutating func giveUpHandovers(with worker: PeerKey, because reason: String, _ now: Instant, _ effects: inout [Effect]) {
        for replica in fleet.replicas.indices where fleet[replica].handover?.participants.contains(worker) == true {
            giveUpHandover(of: replica, because: reason, now, &effects)
        }
    }

    // MARK: - Deadlines

    private func deadline(of handover: Handover) -> Instant? {
        handover.deadline(
            silenceMs: Limits.handoverSilenceMs, loadSilenceMs: configuration.loadProgressTimeoutMs, pauseMs: Limits.handoverPauseMs,
            changeMs: handover.phase == .adopting ? changeOverMs(handover.plan) : 0)
    }

    var handoverDeadline: Instant? {
        var deadlines = fleet.replicas.compactMap { $0.handover.flatMap(deadline(of:)) }
        for replica in fleet.serving where fleet[replica].handover == nil {
            let isWanted = fleet[replica].deployment.plan!.stages.contains { membership.workers[$0.worker]?.drain?.isWanted == true }
            if isWanted, fleet[replica].handoverRetryAt > lastHandled { deadlines.append(fleet[replica].handoverRetryAt) }
        }
        if mayGrow, let serving = fleet.serving.first, fleet[serving].handover == nil,
            fleet.workersInUse < workersWanted(lastHandled), membership.workers.count > fleet.workersInUse
        {
            deadlines += [max(widenAt, fleet[serving].handoverRetryAt)].filter { $0 > lastHandled }
        }
        return deadlines.min()
    }
}
