// From workers to a plan that serves, and back again.

extension Coordinator {
    // MARK: - Planning

    /// Makes a plan when there is none and the time is right; takes standbys in when nothing runs and fewer than expected serve.
    mutating func deploy(_ now: Instant, _ effects: inout [Effect]) {
        if deployment.isIdle {
            guard mayPlan(now) else { return }
            let candidates = membership.candidates(at: now)
            let keys = candidates.map(\.key)
            guard !keys.isEmpty, keys != deployment.triedInVain else { return }
            switch plan(over: candidates, at: now) {
            case .success(let plan): assign(plan, now, &effects)
            case .failure(let failure):
                deployment.triedInVain = keys
                deployment.lastFailure = failure
                log(.warning, "no plan fits the workers", [.init("reason", failure.message)], &effects)
            }
        } else {
            widen(now, &effects)
            considerRecut(now, &effects)
        }
    }

    private func plan(over candidates: [WorkerMember], at now: Instant) -> Result<Plan, Failure> {
        Planner.plan(
            model: configuration.model, workers: candidates.map { candidate($0, at: now) }, contextTokens: configuration.contextTokens,
            kvBlocksMax: configuration.kvBlocksMax, demand: demand)
    }

    /// The first plan waits for the workers that were announced, because a plan over fewer would be cut anew at once. It waits no longer than
    /// `recoveryWaitMs`; and when workers hold slices of an earlier coordinator's plan, only until no more come for `restartSettleMs`. Once
    /// the cluster has served, it plans with whoever is there: a stream is waiting.
    private func mayPlan(_ now: Instant) -> Bool {
        if deployment.hasServed || membership.workers.count >= configuration.expectedWorkers { return true }
        return [firstPlanAtTheLatest, restartSettled].compactMap(\.self).contains { $0 <= now }
    }

    private var firstPlanAtTheLatest: Instant { deployment.idleSince.advanced(milliseconds: configuration.recoveryWaitMs) }

    private var restartSettled: Instant? {
        guard membership.workers.values.contains(where: \.holdsSlice) else { return nil }
        return deployment.lastChange.advanced(milliseconds: configuration.restartSettleMs)
    }

    /// After a loss the plan is narrower than wanted; a worker that came (back) since stands by. While no request is open nobody pays for
    /// loading, so the plan is made anew over all.
    private mutating func widen(_ now: Instant, _ effects: inout [Effect]) {
        guard case .serving(let current) = deployment.phase, requests.isEmpty, current.stages.count < configuration.expectedWorkers,
            widenAt <= now
        else { return }
        // Who failed a stage lately is only used in need: this is none.
        let candidates = membership.candidates(at: now).filter { membership.strikes[$0.key] == nil }
        let keys = candidates.map(\.key)
        guard candidates.count > current.stages.count, keys != deployment.triedInVain else { return }
        guard case .success(let wider) = plan(over: candidates, at: now), wider.stages.count > current.stages.count else {
            return deployment.triedInVain = keys
        }
        endEpoch(now)
        assign(wider, now, &effects)
    }

    private var widenAt: Instant { deployment.lastChange.advanced(milliseconds: configuration.planSettleMs) }

    mutating func assign(_ plan: Plan, _ now: Instant, _ effects: inout [Effect]) {
        deployment.epoch = max(deployment.epoch, deployment.highestEpochSeen).next
        deployment.triedInVain = nil
        watch.begin(PlanForecast(plan: plan, model: configuration.model, workers: candidates(of: plan, at: now), demand: demand))
        let start = Deployment.Loading(isDone: false, bytesDone: 0, lastProgress: now)
        deployment.phase = .loading(plan, [Deployment.Loading](repeating: start, count: plan.stages.count))
        for (index, stage) in plan.stages.enumerated() {
            log(
                .notice, "stage assigned",
                [
                    .init("epoch", deployment.epoch.value), .init("stage", index), .init("peer", stage.worker),
                    .init("layers", "\(stage.layers.lowerBound)..<\(stage.layers.upperBound)"), .init("kv_blocks", plan.kvBlocks),
                ], &effects)
            effects.append(.send(.assign(assignment(of: index, in: plan)), to: stage.worker))
            membership.workers[stage.worker]!.holdsSlice = true
        }
        for worker in membership.workers.values where worker.holdsSlice && deployment.stage(of: worker.key) == nil {
            effects.append(.send(.release(deployment.epoch), to: worker.key))
            membership.workers[worker.key]!.holdsSlice = false
        }
    }

    func assignment(of index: Int, in plan: Plan) -> StageAssignment {
        let next = index + 1 < plan.stages.count ? plan.stages[index + 1].worker : nil
        return StageAssignment(
            epoch: deployment.epoch, stage: index, stageCount: plan.stages.count, layers: plan.stages[index].layers, kvBlocks: plan.kvBlocks,
            kvType: configuration.kvType, boundary: configuration.boundary, modelDigest: configuration.model.digest,
            modelPath: configuration.modelPath, upstream: index > 0 ? plan.stages[index - 1].worker : nil,
            downstream: next.flatMap { key in membership.workers[key].map { StagePeer(key: key, endpoint: $0.hello.dataEndpoint) } })
    }

    // MARK: - Loading

    mutating func loadProgressed(_ progress: LoadProgress, _ worker: PeerKey, _ now: Instant, _ effects: inout [Effect]) {
        guard progress.epoch == deployment.epoch else { return drop(.oldEpoch, from: worker, &effects) }
        guard case .loading(let plan, var stages) = deployment.phase, let stage = deployment.stage(of: worker) else {
            return drop(.wrongState, from: worker, &effects)
        }
        // Only more bytes count as life, or a loader stuck in a loop could hold the cluster up for ever.
        guard progress.bytesDone > stages[stage].bytesDone else { return }
        stages[stage].bytesDone = progress.bytesDone
        stages[stage].bytesTotal = progress.bytesTotal
        stages[stage].lastProgress = now
        deployment.phase = .loading(plan, stages)
    }

    mutating func loaded(_ epoch: Epoch, _ worker: PeerKey, _ now: Instant, _ effects: inout [Effect]) {
        guard epoch == deployment.epoch else { return drop(.oldEpoch, from: worker, &effects) }
        guard case .loading(let plan, var stages) = deployment.phase, let stage = deployment.stage(of: worker) else {
            return drop(.wrongState, from: worker, &effects)
        }
        stages[stage].isDone = true
        deployment.phase = .loading(plan, stages)
        if stages.allSatisfy(\.isDone) { prove(plan, now, &effects) }
    }

    mutating func loadFailed(_ epoch: Epoch, _ failure: Failure, _ worker: PeerKey, _ now: Instant, _ effects: inout [Effect]) {
        guard epoch == deployment.epoch else { return drop(.oldEpoch, from: worker, &effects) }
        guard case .loading = deployment.phase, deployment.stage(of: worker) != nil else { return drop(.wrongState, from: worker, &effects) }
        strike(worker, failure, now, &effects)
    }

    /// Loaded slices are not yet a pipeline: one step through all stages shows that each reaches the next.
    private mutating func prove(_ plan: Plan, _ now: Instant, _ effects: inout [Effect]) {
        deployment.phase = .proving(plan)
        scheduler.begin(
            epoch: deployment.epoch, kvBlocks: plan.kvBlocks, stages: plan.stages.count,
            stepsInFlightMax: plan.stages.count * configuration.stepsInFlightPerStage)
        send(scheduler.makeProbe(sequence: takeSequenceID(), at: now), &effects)
    }

    mutating func serve(_ plan: Plan, _ now: Instant, _ effects: inout [Effect]) {
        deployment.phase = .serving(plan)
        if deployment.hasServed, let since = deployment.unservedSince {
            metrics.lastRecoveryNanoseconds = now.nanoseconds(since: since)
            metrics.recoveryNanoseconds += metrics.lastRecoveryNanoseconds
        }
        deployment.unservedSince = nil
        deployment.servingSince = now
        deployment.hasServed = true
        deployment.lastFailure = nil
        account.begin(plan.stages, rowBytes: configuration.model.hidden * configuration.boundary.bytesPerValue, at: now)
        traceEpoch(plan, &effects)
        log(.notice, "serving", [.init("epoch", deployment.epoch.value), .init("stages", plan.stages.count)], &effects)
    }

    // MARK: - Loss

    /// The epoch ends; `deploy` makes the next one over whoever is left. Sequences keep their tokens and are prefilled again.
    mutating func recover(_ reason: String, _ now: Instant, _ effects: inout [Effect]) {
        guard !deployment.isIdle else { return }
        if deployment.isServing { metrics.recoveries += 1 }
        log(.warning, "epoch ended", [.init("epoch", deployment.epoch.value), .init("reason", reason)], &effects)
        deployment.lastFailure = Failure(.noCapacity, reason)
        endEpoch(now)
    }

    mutating func endEpoch(_ now: Instant) {
        watch.end(at: now)
        scheduler.halt()
        account.end()
        deployment.phase = .idle
        deployment.idleSince = now
        deployment.unservedSince = deployment.unservedSince ?? now
        deployment.servingSince = nil
        deployment.triedInVain = nil
    }

    /// A present worker failed its stage: no plan uses it for a while, longer each time.
    mutating func strike(_ worker: PeerKey, _ failure: Failure, _ now: Instant, _ effects: inout [Effect]) {
        membership.strikes[worker, default: Strikes()].strike(at: now)
        log(
            .warning, "worker failed its stage",
            [.init("peer", worker), .init("code", "\(failure.code)"), .init("reason", failure.message)], &effects)
        recover(failure.message, now, &effects)
    }

    // MARK: - Deadlines

    mutating func failOverdue(_ now: Instant, _ effects: inout [Effect]) {
        failSilentPeers(now, &effects)
        failSlowLoads(now, &effects)
        failOverdueStep(now, &effects)
    }

    private mutating func failSlowLoads(_ now: Instant, _ effects: inout [Effect]) {
        guard case .loading(let plan, let stages) = deployment.phase else { return }
        for (stage, loading) in zip(plan.stages, stages)
        where !loading.isDone && loading.lastProgress.advanced(milliseconds: configuration.loadProgressTimeoutMs) <= now {
            // The first strike ends the epoch; the others of the same plan are struck too, for they would only fail the next.
            strike(
                stage.worker, Failure(.loadFailed, "a worker made no progress for \(configuration.loadProgressTimeoutMs) ms while it loaded"),
                now, &effects)
        }
    }

    var deploymentDeadline: Instant? {
        switch deployment.phase {
        case .loading(_, let stages):
            return stages.filter { !$0.isDone }.map { $0.lastProgress.advanced(milliseconds: configuration.loadProgressTimeoutMs) }.min()
        case .proving: return nil
        case .serving(let plan):
            let mayWiden = requests.isEmpty && plan.stages.count < configuration.expectedWorkers && membership.workers.count > plan.stages.count
            return mayWiden && widenAt > lastHandled ? widenAt : nil
        case .idle:
            let first = deployment.hasServed ? [] : [firstPlanAtTheLatest, restartSettled]
            return (first + [membership.nextCandidate(after: lastHandled)]).compactMap(\.self).filter { $0 > lastHandled }.min()
        }
    }

    // MARK: - Health

    var health: ClusterHealth {
        switch deployment.phase {
        case .serving(let plan):
            return ClusterHealth(state: .serving, detail: "serving on \(plan.stages.count) stages")
        case .loading(let plan, _), .proving(let plan):
            let state: ClusterHealth.State = deployment.hasServed ? .recovering : .loading
            return ClusterHealth(state: state, detail: "\(plan.stages.count) workers load the model")
        case .idle:
            let state: ClusterHealth.State = deployment.hasServed ? .recovering : .waitingForWorkers
            let present = "\(membership.workers.count) of \(configuration.expectedWorkers) expected workers are there"
            return ClusterHealth(state: state, detail: deployment.lastFailure.map { present + "; " + $0.message } ?? present)
        }
    }

    mutating func announceHealth(_ effects: inout [Effect]) {
        let health = health
        guard health != announced else { return }
        announced = health
        for gateway in membership.gateways.keys { effects.append(.send(.health(health), to: gateway)) }
    }
}
