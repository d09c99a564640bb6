// Plans of the coordinator before this one, found again in what the workers hold.
//
// A coordinator that starts anew has measured nothing yet, and workers come back to it one by one: a plan of its own could cut otherwise, or
// take a standby in the place of one who comes a moment later, and weights would be loaded again while streams wait. So the first plan is the
// one that the workers still serve, as soon as all of its parts are there; what would be better is found out later, while it serves.

extension Coordinator {
    /// Every plan whose slices free workers hold completely, the newest epoch first. Empty where none is, or the memory no longer does.
    func heldPlans(_ now: Instant) -> [Plan] {
        var holders = standbys(now).filter { worker in
            worker.heldBefore.map { $0.modelDigest == configuration.model.digest && !$0.layers.isEmpty } ?? false
        }
        var epochs: [Epoch] = []
        for epoch in holders.map({ $0.heldBefore!.epoch }).sorted(by: >) where epoch.value > 0 && epochs.last != epoch { epochs.append(epoch) }
        var plans: [Plan] = []
        for epoch in epochs {
            guard let stages = stages(of: epoch, heldBy: holders), let plan = keptPlan(stages, holders, now) else { continue }
            plans.append(plan)
            holders.removeAll { holder in stages.contains { $0.worker == holder.key } }
        }
        return plans
    }

    /// Whether a worker's slice may still be a part of a plan whose other holders are about to come: of the first one, or of another replica's.
    func awaitsHolders(_ worker: WorkerMember, _ now: Instant) -> Bool {
        worker.heldBefore != nil && holdersSettled > now && (!fleet.hasServed || replicasWanted > 0)
    }

    /// Whether anybody does.
    func isAwaitingHolders(_ now: Instant) -> Bool {
        holdersSettled > now && membership.workers.values.contains { fleet.replica(of: $0.key) == nil && awaitsHolders($0, now) }
    }

    /// Nobody is waited for any longer.
    var holdersSettled: Instant { fleet.lastChange.advanced(milliseconds: configuration.restartSettleMs) }

    /// The stages of one epoch, end to end. A worker whose stage broke in the meantime names no epoch, but holds its weights.
    private func stages(of epoch: Epoch, heldBy holders: [WorkerMember]) -> [StagePlan]? {
        var stages: [StagePlan] = []
        var covered = 0
        while covered < configuration.model.layerBytes.count {
            let fitting = holders.filter { $0.heldBefore!.layers.lowerBound == covered }
            guard let next = fitting.first(where: { $0.heldBefore!.epoch == epoch }) ?? fitting.first(where: { $0.heldBefore!.epoch.value == 0 })
            else { return nil }
            stages.append(StagePlan(worker: next.key, layers: next.heldBefore!.layers))
            covered = next.heldBefore!.layers.upperBound
        }
        return covered == configuration.model.layerBytes.count ? stages : nil
    }

    /// With as many KV blocks as there is room for now.
    private func keptPlan(_ stages: [StagePlan], _ holders: [WorkerMember], _ now: Instant) -> Plan? {
        let workers = stages.compactMap { stage in holders.first { $0.key == stage.worker } }
        return Planner.kept(
            stages, model: configuration.model, workers: workers.map { candidate($0, at: now) }, contextTokens: configuration.contextTokens,
            kvBlocksMax: configuration.kvBlocksMax, demand: demand)
    }
}

extension Planner {
    /// A plan of given stages, in their order; `nil` where one does not fit its worker's memory.
    static func kept(
        _ stages: [StagePlan], model: ModelProfile, workers: [Candidate], contextTokens: Int, kvBlocksMax: Int, demand: PlanDemand
    ) -> Plan? {
        let planner = Planner(
            cost: StageCost(model: model, demand: demand), workers: workers, contextTokens: contextTokens, kvBlocksMax: kvBlocksMax,
            ordersTriedMax: 0)
        guard zip(workers, stages).allSatisfy({ planner.fits($0, $1.layers, limit: .infinity) }) else { return nil }
        return Plan(stages: stages, kvBlocks: planner.kvBlocks(stages))
    }
}
