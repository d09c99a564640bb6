// What must hold after every event, whatever happened before. For simulations and tests: nothing here decides anything.

extension Coordinator {
    /// The first thing that is wrong, in words; `nil` when all is well.
    package func audit() -> String? {
        var workers: [PeerKey] = []
        var epochs: [Epoch] = []
        for replica in fleet.replicas {
            if let finding = audit(replica) { return finding }
            workers += replica.deployment.plan?.stages.map(\.worker) ?? []
            if !replica.deployment.isIdle { epochs.append(replica.deployment.epoch) }
        }
        if Set(workers).count != workers.count { return "a worker has two stages" }
        if Set(epochs).count != epochs.count { return "two plans have the same epoch" }
        if backlog.count > 0 && fleet.replicas.count == 1 { return "one replica has a line beside its own" }
        var open = 0
        if let stray = abandoned.keys.first(where: { requests[$0] == nil }) { return "request \(stray) is abandoned and not open" }
        for request in requests.values {
            if request.gateway == nil && abandoned[request.id] == nil { return "a request without a gateway is kept for ever" }
            if request.isFinished && abandoned[request.id] == nil { return "a finished request is kept for ever" }
            for id in request.choices.compactMap(\.sequence) {
                open += 1
                let homes = fleet.replicas.count { $0.scheduler[id] != nil } + (backlog[id] == nil ? 0 : 1)
                if homes != 1 { return "an open sequence has \(homes) homes" }
            }
        }
        return open == openCount ? nil : "\(open) choices and \(openCount) sequences are open"
    }

    private func audit(_ replica: Replica) -> String? {
        let (deployment, scheduler) = (replica.deployment, replica.scheduler)
        let allocator = scheduler.allocator
        var holders = [Int](repeating: 0, count: allocator.total)
        for id in scheduler.running {
            guard let sequence = scheduler[id] else { return "a sequence runs that is not open" }
            if requests[sequence.request] == nil { return "a sequence runs for no request" }
            if Set(sequence.blocks).count != sequence.blocks.count { return "a sequence has a block twice" }
            for block in sequence.blocks { holders[Int(block.value)] += 1 }
        }
        let probing = if case .proving = deployment.phase { 1 } else { 0 }
        let miscounted = holders.indices.count { allocator.holderCount(BlockID(UInt32($0))) != holders[$0] }
        if miscounted > probing { return "the holders of \(miscounted) blocks are miscounted" }
        let held = holders.count { $0 > 0 }
        if allocator.freeCount + held + probing != allocator.total {
            return "\(held) blocks are held and \(allocator.freeCount) free, of \(allocator.total)"
        }
        if scheduler.waiting.count + scheduler.running.count != scheduler.openCount { return "a sequence neither waits nor runs" }
        if let plan = deployment.plan {
            if scheduler.inFlight.count > plan.stages.count * configuration.stepsInFlightPerStage { return "too many steps are in flight" }
            if !plan.covers(layers: configuration.model.layerBytes.count) { return "a plan does not cover every layer once" }
        }
        if deployment.isIdle && fleet.replicas.count > 1 && scheduler.openCount > 0 { return "an idle replica keeps a sequence" }
        return nil
    }

    /// What is left when nobody wants anything any more, in words; `nil` when nothing is.
    package var leftover: String? {
        if !requests.isEmpty { return "\(requests.count) requests are open" }
        if openCount > 0 { return "\(openCount) sequences are open" }
        for scheduler in fleet.replicas.map(\.scheduler) {
            if !scheduler.inFlight.isEmpty { return "\(scheduler.inFlight.count) steps are in flight" }
            if scheduler.allocator.freeCount != scheduler.allocator.total { return "blocks are held for nobody" }
        }
        return nil
    }

    package var isServing: Bool { fleet.isServing }
    /// No request is open.
    package var isIdle: Bool { requests.isEmpty }
    /// It has, or is getting, or giving away, layers of a plan in force.
    package func wants(_ worker: PeerKey) -> Bool { fleet.replica(of: worker) != nil || fleet.replica(handingOverWith: worker) != nil }
    /// Sequences that gave way to a tenant that had nothing running.
    package var displacements: UInt64 { fleet.replicas.reduce(0) { $0 + $1.scheduler.displacements } }
    /// Somebody decodes while another one's lost layers are rebuilt.
    package var isDecodingBesideRebuild: Bool {
        fleet.replicas.contains { replica in
            replica.scheduler.isRebuilding
                && replica.scheduler.running.contains { replica.scheduler[$0]!.isDecoding && replica.scheduler[$0]!.isWhole }
        }
    }
    package var servingCount: Int { fleet.serving.count }

    package enum RecoveryPhase: Comparable { case idle, loading, proving, rebuilding, serving }

    /// How far it has come; of several replicas, the one that is furthest behind.
    package var recoveryPhase: RecoveryPhase {
        let phases = fleet.inForce.map { index -> RecoveryPhase in
            switch fleet[index].deployment.phase {
            case .idle: .idle
            case .loading: .loading
            case .proving: .proving
            case .serving: fleet[index].scheduler.isRebuilding ? .rebuilding : .serving
            }
        }
        return phases.min() ?? .idle
    }
}

extension Plan {
    /// Ranges touch, none is empty, and together they are all layers.
    fileprivate func covers(layers: Int) -> Bool {
        var covered = 0
        for stage in stages {
            guard stage.layers.lowerBound == covered, !stage.layers.isEmpty else { return false }
            covered = stage.layers.upperBound
        }
        return covered == layers
    }
}
