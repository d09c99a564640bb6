// From workers to replicas that serve, and back again.

extension Coordinator {
    // MARK: - Planning

    /// Makes replicas of workers that are in none when the time is right; takes standbys in when nothing runs and fewer than expected serve.
    mutating func deploy(_ now: Instant, _ effects: inout [Effect]) {
        if fleet.isIdle && !mayPlan(now) { return }
        form(now, &effects)
        widen(now, &effects)
        considerHandovers(now, &effects)
        for replica in fleet.serving { considerRecut(of: replica, now, &effects) }
    }

    /// Replicas that serve are not asked: a plan over the workers of a lost replica, over standbys, over both.
    private mutating func form(_ now: Instant, _ effects: inout [Effect]) {
        let wanted = replicasWanted
        guard wanted > 0 else { return }
        let candidates = withoutStandbys(freeCandidates(now))
        let keys = candidates.map(\.key)
        guard !keys.isEmpty, keys != fleet.triedInVain else { return }
        let held = heldPlans(now)
        if !held.isEmpty {
            let kept = Array(held.prefix(wanted))
            log(.notice, "the workers' plans of before are kept", [.init("plans", kept.count), .init("beside", fleet.inForce.count)], &effects)
            assign(kept, now, &effects)
            return fleet.triedInVain = freeCandidates(now).map(\.key)
        }
        // Others serve meanwhile.
        if !fleet.isIdle, isAwaitingHolders(now) { return }
        let repaired = repair(over: candidates, at: now).map { [$0] }
        switch repaired.map(Result.success) ?? plans(over: candidates, atMost: wanted, at: now) {
        case .success(let plans):
            assign(plans, now, &effects)
            fleet.triedInVain = freeCandidates(now).map(\.key)
        case .failure(let failure):
            fleet.triedInVain = keys
            // While others serve, the workers stand by for the next loss.
            guard fleet.isIdle else { return }
            fleet.lastFailure = failure
            log(.warning, "no plan fits the workers", [.init("reason", failure.message)], &effects)
        }
    }

    /// How many more replicas there may be.
    var replicasWanted: Int {
        switch configuration.replicas {
        case .automatic: Limits.replicasMax - fleet.inForce.count
        case .exactly(let count): count - fleet.inForce.count
        }
    }

    /// Who may form another replica. Where the number of replicas is chosen here, a machine that has a stage makes no other one: it would share its
    /// memory with itself.
    private func freeCandidates(_ now: Instant) -> [WorkerMember] {
        let free = standbys(now)
        guard mayRegroup, !fleet.isIdle else { return free }
        let taken = membership.workers.values.filter { fleet.replica(of: $0.key) != nil }.map(\.hello.capabilities.machine)
        return free.filter { $0.hello.capabilities.machine == 0 || !taken.contains($0.hello.capabilities.machine) }
    }

    /// Who has no stage and is getting none.
    func standbys(_ now: Instant) -> [WorkerMember] {
        membership.candidates(at: now).filter { fleet.replica(of: $0.key) == nil && fleet.replica(handingOverWith: $0.key) == nil }
    }

    private func plans(over candidates: [WorkerMember], atMost count: Int, at now: Instant) -> Result<[Plan], Failure> {
        let workers = candidates.map { candidate($0, at: now) }
        let planner = replicaPlanner
        switch configuration.replicas {
        case .automatic: return planner.best(of: workers, atMost: count)
        case .exactly(1): return planner.plan(over: workers).map { [$0] }
        case .exactly: return planner.most(of: workers, atMost: count)
        }
    }

    private var replicaPlanner: ReplicaPlanner {
        ReplicaPlanner(
            model: configuration.model, contextTokens: configuration.contextTokens, kvBlocksMax: configuration.kvBlocksMax,
            batch: configuration.plannedSequences, demand: demand)
    }

    /// The first plan waits for the workers that were announced, because a plan over fewer would be cut anew at once. It waits no longer than
    /// `recoveryWaitMs`; and when workers hold slices of an earlier coordinator's plan, only until that is complete, or no more come for
    /// `restartSettleMs`. Once the cluster has served, it plans with whoever is there: a stream is waiting.
    private func mayPlan(_ now: Instant) -> Bool {
        if fleet.hasServed || !heldPlans(now).isEmpty { return true }
        let mayBeHeld = membership.workers.values.contains { $0.heldBefore != nil } || holdersReturned.map { $0 > now } ?? false
        if hasExpectedWorkers, !mayBeHeld { return true }
        return [firstPlanAtTheLatest, restartSettled].compactMap(\.self).contains { $0 <= now }
    }

    private var hasExpectedWorkers: Bool { membership.workers.count >= configuration.expectedWorkers }

    private var firstPlanAtTheLatest: Instant { fleet.idleSince.advanced(milliseconds: configuration.recoveryWaitMs) }

    /// Standbys may come first: who holds a stage is to have the time to come back too.
    private var holdersReturned: Instant? { configuration.isRestart ? startedAt.advanced(milliseconds: configuration.restartReturnMs) : nil }

    private var restartSettled: Instant? {
        guard membership.workers.values.contains(where: \.holdsSlice) else { return nil }
        return fleet.lastChange.advanced(milliseconds: hasExpectedWorkers ? configuration.restartReturnMs : configuration.restartSettleMs)
    }

    /// After a loss fewer workers serve than wanted; one that came (back) since stands by where it can't be a replica of its own. And where it
    /// can, the workers may be divided otherwise than they would be at once. While no request is open nobody pays for loading, so all is
    /// planned anew.
    private mutating func widen(_ now: Instant, _ effects: inout [Effect]) {
        guard mayWiden, widenAt <= now, !isAwaitingHolders(now) else { return }
        // Who failed a stage lately is only used in need: this is none.
        let unfailing = membership.candidates(at: now).filter { membership.strikes[$0.key] == nil }
        let candidates = configuration.standbyWorkers == nil ? unfailing : Array(unfailing.prefix(workersWanted(now)))
        let keys = candidates.map(\.key)
        let used = fleet.workersInUse
        guard candidates.count > used || mayRegroup && candidates.count == used, keys != fleet.widenedInVain else { return }
        let count = if case .exactly(let count) = configuration.replicas { count } else { Limits.replicasMax }
        guard case .success(let wider) = plans(over: candidates, atMost: count, at: now), isBetterThanServing(wider, now) else {
            return fleet.widenedInVain = keys
        }
        for replica in fleet.inForce { endEpoch(of: replica, now) }
        assign(wider, now, &effects)
    }

    /// Over more workers; or where the number of replicas is chosen here, predicted to be faster by so much that it is not just a new measurement.
    private func isBetterThanServing(_ plans: [Plan], _ now: Instant) -> Bool {
        let (used, wouldUse) = (fleet.workersInUse, plans.reduce(0) { $0 + $1.stages.count })
        guard wouldUse == used, mayRegroup else { return wouldUse > used }
        let serving = fleet.replicas.compactMap(\.deployment.plan)
        let groups = { (plans: [Plan]) in plans.map { $0.stages.map(\.worker).sorted() }.sorted { $0[0] < $1[0] } }
        guard groups(plans) != groups(serving) else { return false }
        let workers = (plans + serving).flatMap(\.stages).compactMap { membership.workers[$0.worker] }.map { candidate($0, at: now) }
        let (new, old) = (replicaPlanner.tokensPerSecond(of: plans, workers: workers), replicaPlanner.tokensPerSecond(of: serving, workers: workers))
        return new > old * (1 + ReplicaPlanner.gainMin)
    }

    private var mayRegroup: Bool { configuration.replicas == .automatic }

    var mayWiden: Bool {
        let inForce = fleet.inForce
        guard requests.isEmpty, !inForce.isEmpty, inForce == fleet.serving, fleet.replicas.allSatisfy({ $0.handover == nil }) else { return false }
        return mayRegroup || fleet.workersInUse < configuration.expectedWorkers
    }

    var widenAt: Instant { fleet.lastChange.advanced(milliseconds: configuration.planSettleMs) }

    mutating func assign(_ plans: [Plan], _ now: Instant, _ effects: inout [Effect]) {
        for plan in plans { assign(plan, now, &effects) }
        for worker in membership.workers.values
        where worker.holdsSlice && fleet.replica(of: worker.key) == nil && fleet.replica(handingOverWith: worker.key) == nil
            && !awaitsHolders(worker, now)
        {
            releaseSlice(of: worker.key, &effects)
        }
    }

    /// It has no part in any plan.
    mutating func releaseSlice(of worker: PeerKey, _ effects: inout [Effect]) {
        effects.append(.send(.release(fleet.highestEpoch), to: worker))
        membership.workers[worker]!.holdsSlice = false
        membership.workers[worker]!.heldBefore = nil
    }

    private mutating func assign(_ plan: Plan, _ now: Instant, _ effects: inout [Effect]) {
        let replica = fleet.takePlace { Self.emptyReplica(configuration) }
        let epoch = fleet.takeEpoch()
        var plan = plan
        // Only here, so that an assignment which is repeated says the same.
        linkFaults.forget(at: now)
        // Who keeps layers has no memory for more blocks of them.
        if let remains = fleet[replica].remains { plan.kvBlocks = min(plan.kvBlocks, remains.plan.kvBlocks) }
        fleet.triedInVain = nil
        fleet.widenedInVain = nil
        let start = Deployment.Loading(isDone: false, bytesDone: 0, lastProgress: now)
        fleet[replica].deployment.epoch = epoch
        predict(plan, of: replica, candidates(of: plan, at: now))
        fleet[replica].deployment.phase = .loading(plan, [Deployment.Loading](repeating: start, count: plan.stages.count))
        for (index, stage) in plan.stages.enumerated() {
            log(
                .notice, "stage assigned",
                [
                    .init("epoch", epoch.value), .init("replica", replica), .init("stage", index), .init("peer", stage.worker),
                    .init("layers", "\(stage.layers.lowerBound)..<\(stage.layers.upperBound)"), .init("kv_blocks", plan.kvBlocks),
                ], &effects)
            effects.append(.send(.assign(loadAssignment(of: index, in: plan, of: replica)), to: stage.worker))
            membership.workers[stage.worker]!.holdsSlice = true
            membership.workers[stage.worker]!.ahead = nil
            membership.workers[stage.worker]!.heldBefore = nil
            membership.assigned.insert(stage.worker)
        }
    }

    /// What the plan is expected to reach.
    mutating func predict(_ plan: Plan, of replica: Int, _ workers: [Planner.Candidate]) {
        let forecast = PlanForecast(plan: plan, model: configuration.model, workers: workers, demand: demand)
        fleet[replica].watch.begin(forecast)
        fleet[replica].forecast = PipelineForecast(forecast, contextTokens: configuration.contextTokens)
    }

    func assignment(of index: Int, in plan: Plan, epoch: Epoch) -> StageAssignment {
        let workers = plan.stages.map(\.worker)
        let isRing = allowsFollowUps(plan)
        let next = index + 1 < workers.count ? workers[index + 1] : isRing ? workers[0] : nil
        let previous = index > 0 ? workers[index - 1] : isRing ? workers[workers.count - 1] : nil
        var assignment = StageAssignment(
            epoch: epoch, stage: index, stageCount: plan.stages.count, layers: plan.stages[index].layers, kvBlocks: plan.kvBlocks,
            kvType: configuration.kvType, boundary: configuration.boundary, modelDigest: configuration.model.digest,
            modelPath: configuration.modelPath, upstream: previous,
            downstream: next.flatMap { key in membership.workers[key].map { StagePeer(key: key, endpoint: $0.hello.dataEndpoint) } })
        assignment.foretells = assignment.isLast && isRing && allSpeak(ProtocolVersion.foretellMinor, [workers[0], workers[workers.count - 1]])
        if !assignment.isLast { assignment.inputBlocks = min(plan.kvBlocks, inputBlocks(of: plan.stages[index].worker)) }
        return assignment
    }

    /// Whether the plan's last worker may send steps to its first: both have to know of it, and what was sent so has not got lost of late.
    func allowsFollowUps(_ plan: Plan) -> Bool {
        guard plan.stages.count > 1, let first = plan.stages.first?.worker, let last = plan.stages.last?.worker else { return false }
        guard !linkFaults.have(from: last, to: first) else { return false }
        return allSpeak(ProtocolVersion.followUpMinor, [first, last])
    }

    private func allSpeak(_ minor: UInt32, _ workers: [PeerKey]) -> Bool {
        workers.allSatisfy { membership.workers[$0].map { $0.hello.version.minor >= minor } ?? false }
    }

    /// The replica whose epoch a worker's message names, if the worker has a stage of it; else the message is dropped.
    mutating func replica(of worker: PeerKey, in epoch: Epoch, _ effects: inout [Effect]) -> Int? {
        guard let replica = fleet.replica(in: epoch) else {
            drop(.oldEpoch, from: worker, &effects)
            return nil
        }
        guard fleet[replica].deployment.stage(of: worker) != nil else {
            drop(.wrongState, from: worker, &effects)
            return nil
        }
        return replica
    }

    // MARK: - Loading

    mutating func loadProgressed(_ progress: LoadProgress, _ worker: PeerKey, _ now: Instant, _ effects: inout [Effect]) {
        if let replica = fleet.replica(handingOverTo: progress.epoch) {
            return fleet[replica].handover!.loadProgressed(worker, bytesDone: progress.bytesDone, at: now)
        }
        guard let replica = replica(of: worker, in: progress.epoch, &effects) else { return }
        guard case .loading(let plan, var stages) = fleet[replica].deployment.phase, let stage = fleet[replica].deployment.stage(of: worker) else {
            return drop(.wrongState, from: worker, &effects)
        }
        // Only more bytes count as life, or a loader stuck in a loop could hold the cluster up for ever.
        guard progress.bytesDone > stages[stage].bytesDone else { return }
        stages[stage].bytesDone = progress.bytesDone
        stages[stage].bytesTotal = progress.bytesTotal
        stages[stage].lastProgress = now
        fleet[replica].deployment.phase = .loading(plan, stages)
    }

    mutating func loaded(_ epoch: Epoch, kept: Range<Int> = 0..<0, _ worker: PeerKey, _ now: Instant, _ effects: inout [Effect]) {
        guard let replica = replica(of: worker, in: epoch, &effects) else { return }
        guard case .loading(let plan, var stages) = fleet[replica].deployment.phase, let stage = fleet[replica].deployment.stage(of: worker) else {
            return drop(.wrongState, from: worker, &effects)
        }
        stages[stage].isDone = true
        stages[stage].kept = kept
        endFetch(of: worker, &effects)
        fleet[replica].deployment.phase = .loading(plan, stages)
        if stages.allSatisfy(\.isDone) { prove(replica, plan, stages, now, &effects) }
    }

    mutating func loadFailed(_ epoch: Epoch, _ failure: Failure, _ worker: PeerKey, _ now: Instant, _ effects: inout [Effect]) {
        guard let replica = replica(of: worker, in: epoch, &effects) else { return }
        guard case .loading = fleet[replica].deployment.phase else { return drop(.wrongState, from: worker, &effects) }
        strike(worker, failure, now, &effects)
    }

    /// Loaded slices are not yet a pipeline: one step through all stages shows that each reaches the next.
    private mutating func prove(
        _ replica: Int, _ plan: Plan, _ stages: [Deployment.Loading], _ now: Instant, _ effects: inout [Effect]
    ) {
        fleet[replica].deployment.phase = .proving(plan)
        beginSteps(of: replica, plan, stages, &effects)
        send(fleet[replica].scheduler.makeProbe(sequence: takeSequenceID(), at: now), to: replica, &effects)
    }

    mutating func serve(_ replica: Int, _ plan: Plan, _ now: Instant, _ effects: inout [Effect]) {
        fleet[replica].deployment.phase = .serving(plan)
        fleet[replica].deployment.servingSince = now
        fleet[replica].scheduler.allowsFollowUps = allowsFollowUps(plan)
        if fleet.hasServed, let since = fleet.unservedSince {
            metrics.lastRecoveryNanoseconds = now.nanoseconds(since: since)
            metrics.recoveryNanoseconds += metrics.lastRecoveryNanoseconds
        }
        fleet.unservedSince = nil
        fleet.hasServed = true
        fleet.lastFailure = nil
        fleet[replica].account.begin(plan.stages, rowBytes: configuration.model.hidden * configuration.boundary.bytesPerValue, at: now)
        let epoch = fleet[replica].deployment.epoch
        traceEpoch(epoch, plan, &effects)
        log(
            .notice, "serving", [.init("epoch", epoch.value), .init("replica", replica), .init("stages", plan.stages.count)], &effects)
    }

    // MARK: - Loss

    /// The replica's epoch ends; `deploy` makes the next one over whoever is free. Its sequences keep what those who are left have of them; where
    /// that is nothing, or another replica serves, they keep their tokens and are prefilled again.
    mutating func recover(_ replica: Int, _ reason: String, _ now: Instant, _ effects: inout [Effect]) {
        // Workers of a hand-over that ends so may have changed over or not: nobody knows what they have.
        let isKnown = fleet[replica].handover?.phase != .adopting
        let deployment = fleet[replica].deployment
        guard !deployment.isIdle else { return }
        if deployment.isServing { metrics.recoveries += 1 }
        log(
            .warning, "epoch ended", [.init("epoch", deployment.epoch.value), .init("replica", replica), .init("reason", reason)], &effects)
        dropHandover(of: replica, now, &effects)
        endEpoch(of: replica, keepingWhatIsLeft: isKnown, now)
        if fleet.isIdle { fleet.lastFailure = Failure(.noCapacity, reason) }
    }

    mutating func endEpoch(of replica: Int, _ now: Instant) {
        fleet[replica].scheduler.halt()
        fleet[replica].remains = nil
        closeAccounts(of: replica, now)
    }

    mutating func closeAccounts(of replica: Int, _ now: Instant) {
        settleAccounts()
        fleet[replica].watch.end(at: now, &speeds)
        fleet[replica].account.end()
        fleet[replica].place = nil
        fleet[replica].lastSlowStep = nil
        fleet[replica].deployment.phase = .idle
        fleet[replica].deployment.servingSince = nil
        fleet[replica].forecast = nil
        fleet.triedInVain = nil
        fleet.widenedInVain = nil
        if fleet.isIdle { fleet.idleSince = now }
        if !fleet.isServing { fleet.unservedSince = fleet.unservedSince ?? now }
    }

    /// A present worker failed its stage: no plan uses it for a while, longer each time.
    mutating func strike(_ worker: PeerKey, _ failure: Failure, _ now: Instant, _ effects: inout [Effect]) {
        membership.strikes[worker, default: Strikes()].strike(at: now)
        log(
            .warning, "worker failed its stage",
            [.init("peer", worker), .init("code", "\(failure.code)"), .init("reason", failure.message)], &effects)
        if let replica = fleet.replica(of: worker) { recover(replica, failure.message, now, &effects) }
    }

    // MARK: - Deadlines

    mutating func failOverdue(_ now: Instant, _ effects: inout [Effect]) {
        failSilentPeers(now, &effects)
        for replica in fleet.replicas.indices {
            failSlowLoads(of: replica, now, &effects)
            failOverdueStep(of: replica, now, &effects)
        }
    }

    private mutating func failSlowLoads(of replica: Int, _ now: Instant, _ effects: inout [Effect]) {
        guard case .loading(let plan, let stages) = fleet[replica].deployment.phase else { return }
        for (stage, loading) in zip(plan.stages, stages) where !loading.isDone && loadDeadline(loading) <= now {
            // The first strike ends the epoch; the others of the same plan are struck too, for they would only fail the next.
            strike(
                stage.worker, Failure(.loadFailed, "a worker made no progress for \(configuration.loadProgressTimeoutMs) ms while it loaded"),
                now, &effects)
        }
    }

    private func loadDeadline(_ loading: Deployment.Loading) -> Instant {
        loading.lastProgress.advanced(milliseconds: configuration.loadProgressTimeoutMs)
    }

    var deploymentDeadline: Instant? {
        var deadlines: [Instant?] = []
        for replica in fleet.replicas {
            guard case .loading(_, let stages) = replica.deployment.phase else { continue }
            deadlines += stages.filter { !$0.isDone }.map(loadDeadline)
        }
        var later: [Instant?] = []
        if fleet.isIdle && !fleet.hasServed { later += [firstPlanAtTheLatest, restartSettled, holdersReturned] }
        if replicasWanted > 0 { later.append(membership.nextCandidate(after: lastHandled)) }
        if !fleet.isIdle, isAwaitingHolders(lastHandled) { later.append(holdersSettled) }
        if mayWiden && (mayRegroup || membership.workers.count > fleet.workersInUse) { later.append(widenAt) }
        return (deadlines + later.filter { $0.map { $0 > lastHandled } ?? false }).compactMap(\.self).min()
    }

    // MARK: - Health

    var health: ClusterHealth {
        let inForce = fleet.inForce
        let workers = fleet.workersInUse
        guard !inForce.isEmpty else {
            let present = "\(membership.workers.count) of \(configuration.expectedWorkers) expected workers are there"
            return ClusterHealth(state: .waitingForWorkers, detail: fleet.lastFailure.map { present + "; " + $0.message } ?? present)
        }
        guard fleet.isServing else {
            return ClusterHealth(state: fleet.hasServed ? .recovering : .loading, detail: "\(workers) workers load the model")
        }
        guard inForce.count > 1 else { return ClusterHealth(state: .serving, detail: "serving on \(workers) stages") }
        let loading = inForce.count - fleet.serving.count
        let detail = "serving on \(inForce.count - loading) replicas" + (loading > 0 ? ", \(loading) more loads" : "")
        return ClusterHealth(state: .serving, detail: detail + "; \(workers) workers in all")
    }

    mutating func announceHealth(_ effects: inout [Effect]) {
        let health = health
        guard health != announced else { return }
        announced = health
        for gateway in membership.gateways.keys { effects.append(.send(.health(health), to: gateway)) }
    }
}
