// Workers without a stage load ahead the one whose loss would cost most, so that its successor does not wait for weights.

extension Coordinator {
    /// Looked at with every event; anew only when a plan or the standbys have changed.
    mutating func placeStandbys(_ now: Instant, _ effects: inout [Effect]) {
        guard membership.workers.count > fleet.workersInUse else { return fleet.standbyPlaces = nil }
        let isSettled = !fleet.serving.isEmpty && fleet.inForce == fleet.serving && fleet.replicas.allSatisfy { $0.handover == nil }
        guard isSettled else { return }
        let free = standbys(now).filter { $0.hello.version.minor >= ProtocolVersion.rebuildMinor && !awaitsHolders($0, now) }
        let places = StandbyPlaces(epochs: fleet.serving.map { fleet[$0].deployment.epoch }, standbys: free.map(\.key))
        guard places != fleet.standbyPlaces else { return }
        fleet.standbyPlaces = places
        // Who still has a slice of a past plan has no room for another.
        for worker in free where worker.holdsSlice { releaseSlice(of: worker.key, &effects) }
        guard !free.isEmpty else { return }
        let stages = fleet.serving.flatMap { replica in
            (fleet[replica].deployment.plan?.stages ?? []).indices.map { (replica: replica, index: $0) }
        }
        let room = StageRoom(
            cost: StageCost(model: configuration.model, demand: demand), contextTokens: configuration.contextTokens,
            kvBlocksMax: configuration.kvBlocksMax)
        let chosen = Self.choose(
            for: free.map { (worker: candidate($0, at: now), ahead: $0.ahead) },
            among: stages.map { fleet[$0.replica].deployment.plan!.stages[$0.index].layers }, room)
        for (worker, stage) in zip(free, chosen) {
            guard let stage else { continue }
            let (replica, index) = stages[stage]
            let plan = fleet[replica].deployment.plan!
            guard worker.ahead != plan.stages[index].layers else { continue }
            let layers = plan.stages[index].layers
            membership.workers[worker.key]!.ahead = layers
            effects.append(.send(.loadAhead(assignment(of: index, in: plan, epoch: fleet[replica].deployment.epoch)), to: worker.key))
            log(
                .info, "a standby loads a stage ahead",
                [.init("peer", worker.key), .init("layers", "\(layers.lowerBound)..<\(layers.upperBound)")], &effects)
        }
    }

    /// For each standby, in order: which stage it should have in memory, if any that it has room for. One that no standby has yet goes before
    /// one that another has; of these, the one that it has already, then the one with most bytes to load.
    static func choose(
        for standbys: [(worker: Planner.Candidate, ahead: Range<Int>?)], among stages: [Range<Int>], _ room: StageRoom
    ) -> [Int?] {
        var spares = [Int](repeating: 0, count: stages.count)
        let layerCount = room.cost.model.layerBytes.count
        return standbys.map { worker, ahead in
            func rank(_ stage: Int) -> (Int, Int, UInt64) {
                let bytes = room.cost.weightBytes(stages[stage], hasHead: stages[stage].upperBound == layerCount)
                return (spares[stage], stages[stage] == ahead ? 0 : 1, .max - bytes)
            }
            let fitting = stages.indices.filter { room.blocks(worker, stages[$0]) != nil }
            guard let best = fitting.min(by: { rank($0) < rank($1) }) else { return nil }
            spares[best] += 1
            return best
        }
    }
}

/// For which plans and standbys places were chosen last.
struct StandbyPlaces: Hashable, Sendable {
    var epochs: [Epoch]
    var standbys: [PeerKey]
}
