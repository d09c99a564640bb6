// A worker is lost: what the others have of the streams' past stays, and the next plan moves as few layers as it can.

/// What an epoch that ended left with its workers, for the epoch that follows.
package struct Remains: Sendable {
    /// The last one of which a step was sent.
    var epoch: Epoch
    var plan: Plan
    /// Rows that its stages kept of what they handed on, by the layer behind.
    var stores: [Int: Scheduler.InputStore]
}

extension Coordinator {
    // MARK: - The end of an epoch

    /// Sequences keep what is left, if anything can be; where another replica serves, they go on there sooner.
    mutating func endEpoch(of replica: Int, keepingWhatIsLeft: Bool, _ now: Instant) {
        let deployment = fleet[replica].deployment
        var remains = fleet[replica].remains
        switch deployment.phase {
        case .proving(let plan), .serving(let plan): remains = Remains(epoch: deployment.epoch, plan: plan, stores: wholeStores(of: replica))
        case .loading, .idle: break
        }
        guard keepingWhatIsLeft, remains != nil, fleet.replicas.count == 1 else { return endEpoch(of: replica, now) }
        fleet[replica].scheduler.suspend()
        guard !fleet[replica].scheduler.running.isEmpty else { return endEpoch(of: replica, now) }
        fleet[replica].remains = remains
        closeAccounts(of: replica, now)
    }

    /// Those of the plan in force that have all that they should.
    private func wholeStores(of replica: Int) -> [Int: Scheduler.InputStore] {
        let stores = fleet[replica].stores
        guard fleet[replica].scheduler.isRebuilding else { return stores }
        let lost = fleet[replica].scheduler.loss.layers
        return stores.filter { $0.key <= lost.lowerBound || $0.key > lost.upperBound }
    }

    // MARK: - The next plan

    /// The layers of lost stages go to standbys, who have them in memory already at best, else to the stages before and after; all others stay where
    /// they are. `nil`: nothing is left, or there is no room for that.
    func repair(over candidates: [WorkerMember], at now: Instant) -> Plan? {
        guard fleet.replicas.count == 1, let old = fleet[0].remains?.plan else { return nil }
        let keys = candidates.map(\.key)
        var spare = candidates.filter { worker in old.stages.allSatisfy { $0.worker != worker.key } }.map { candidate($0, at: now) }
        let present = candidates.filter { worker in old.stages.contains { $0.worker == worker.key } }.map { candidate($0, at: now) }
        guard !present.isEmpty else { return nil }
        let room = StageRoom(
            cost: StageCost(model: configuration.model, demand: demand), contextTokens: configuration.contextTokens, kvBlocksMax: old.kvBlocks)
        // Stages, and between them runs of layers that nobody has.
        var stages: [StagePlan] = []
        var orphans: [(place: Int, layers: Range<Int>)] = []
        for stage in old.stages {
            if keys.contains(stage.worker) {
                stages.append(stage)
            } else if let index = bestSpare(for: stage.layers, of: spare, room) {
                stages.append(StagePlan(worker: spare.remove(at: index).key, layers: stage.layers))
            } else if let last = orphans.last, last.place == stages.count {
                orphans[orphans.count - 1].layers = last.layers.lowerBound..<stage.layers.upperBound
            } else {
                orphans.append((stages.count, stage.layers))
            }
        }
        let all = candidates.map { candidate($0, at: now) }
        for orphan in orphans { room.give(orphan.layers, at: orphan.place, to: &stages, all) }
        return room.plan(stages, all)
    }

    /// Who has most of these layers in memory, then who takes least time for them.
    private func bestSpare(for layers: Range<Int>, of spare: [Planner.Candidate], _ room: StageRoom) -> Int? {
        func rank(_ worker: Planner.Candidate) -> (Int, Double) {
            let held = membership.workers[worker.key]?.progress.held ?? 0..<0
            return (-held.clamped(to: layers).count, room.seconds(worker, layers))
        }
        return spare.indices.filter { room.blocks(spare[$0], layers) != nil }.min { rank(spare[$0]) < rank(spare[$1]) }
    }

    // MARK: - Assignments

    /// Of a stage of a plan that is to be loaded.
    func loadAssignment(of index: Int, in plan: Plan, of replica: Int) -> StageAssignment {
        var assignment = assignment(of: index, in: plan, epoch: fleet[replica].deployment.epoch)
        let worker = plan.stages[index].worker
        if let remains = fleet[replica].remains, let before = remains.plan.stages.first(where: { $0.worker == worker }),
            before.layers.overlaps(assignment.layers), knowsRebuilding(worker)
        {
            assignment.keeping = remains.epoch
        }
        return assignment
    }

    private func knowsRebuilding(_ worker: PeerKey) -> Bool {
        membership.workers[worker].map { $0.hello.version.minor >= ProtocolVersion.rebuildMinor } ?? false
    }

    /// Memory that a worker has for rows that it handed on. No more than a small share of what it has.
    func boundaryCacheBytes(of worker: WorkerMember) -> UInt64 {
        worker.hello.version.minor < ProtocolVersion.rebuildMinor
            ? 0 : min(configuration.boundaryCacheBytes, worker.hello.capabilities.memoryBytes / Self.boundaryCacheShare)
    }

    private static let boundaryCacheShare: UInt64 = 32

    /// The same in blocks of positions.
    func inputBlocks(of worker: PeerKey) -> Int {
        guard let member = membership.workers[worker] else { return 0 }
        let block = UInt64(configuration.model.hidden * configuration.boundary.bytesPerValue * Limits.positionsPerBlock)
        return Int(min(boundaryCacheBytes(of: member) / max(1, block), UInt64(configuration.kvBlocksMax)))
    }

    // MARK: - The next epoch

    /// All workers have loaded: sequences that kept something go on from there.
    mutating func beginSteps(of replica: Int, _ plan: Plan, _ stages: [Deployment.Loading], _ effects: inout [Effect]) {
        fleet[replica].scheduler.expectSteps(seconds: streamedStepSeconds(plan))
        let layerCount = configuration.model.layerBytes.count
        let inFlightMax = plan.stages.count * configuration.stepsInFlightPerStage
        let epoch = fleet[replica].deployment.epoch
        defer { fleet[replica].remains = nil }
        guard let remains = fleet[replica].remains, !fleet[replica].scheduler.running.isEmpty else { return beginAnew(replica, plan) }
        let kept = zip(plan.stages, stages).map { stage, loading in
            let before = remains.plan.stages.first { $0.worker == stage.worker }?.layers ?? 0..<0
            return loading.kept.clamped(to: before).clamped(to: stage.layers)
        }
        let missing = (0..<layerCount).filter { layer in !kept.contains { $0.contains(layer) } }
        guard missing.count < layerCount else { return beginAnew(replica, plan) }
        let lost = missing.first.map { $0..<missing.last! + 1 }
        // A store is as good as the worker that has it.
        let stores = remains.stores.filter { boundary, store in
            zip(plan.stages, kept).contains { $0.worker == store.worker && $1.contains(boundary - 1) }
        }
        let isAgain = fleet[replica].scheduler.isRebuilding
        fleet[replica].scheduler.resume(
            under: epoch, kvBlocks: plan.kvBlocks, stages: plan.stages.count, stepsInFlightMax: inFlightMax, layerCount: layerCount, lost: lost,
            stores: stores)
        renewStores(of: replica, plan, keeping: stores)
        log(
            .notice, "streams keep what is left of their past",
            [
                .init("epoch", epoch.value), .init("replica", replica), .init("sequences", fleet[replica].scheduler.running.count),
                .init("lost_layers", lost.map { "\($0.lowerBound)..<\($0.upperBound)" } ?? "none"),
                .init("while_rebuilding", isAgain),
            ], &effects)
    }

    private mutating func beginAnew(_ replica: Int, _ plan: Plan) {
        fleet[replica].scheduler.halt()
        fleet[replica].scheduler.begin(
            epoch: fleet[replica].deployment.epoch, kvBlocks: plan.kvBlocks, stages: plan.stages.count,
            stepsInFlightMax: plan.stages.count * configuration.stepsInFlightPerStage)
        renewStores(of: replica, plan, keeping: [:])
    }

    /// Under a new plan: a stage that ends where it did goes on with what it has, any other one begins with nothing.
    mutating func renewStores(of replica: Int, _ plan: Plan, keeping old: [Int: Scheduler.InputStore]) {
        let era = fleet[replica].scheduler.allocator.era
        fleet[replica].stores = [:]
        for stage in plan.stages.dropLast() {
            let boundary = stage.layers.upperBound
            let new = Scheduler.InputStore(worker: stage.worker, blocks: inputBlocks(of: stage.worker), since: era)
            fleet[replica].stores[boundary] = old[boundary].flatMap { $0.worker == stage.worker ? $0 : nil } ?? new
        }
    }
}

/// Room for stages, and what they cost, outside of the planner's search.
struct StageRoom {
    let cost: StageCost
    let contextTokens: Int
    let kvBlocksMax: Int

    private var layerCount: Int { cost.model.layerBytes.count }
    private var blocksMin: Int { (contextTokens + Limits.positionsPerBlock - 1) / Limits.positionsPerBlock }

    func seconds(_ worker: Planner.Candidate, _ layers: Range<Int>) -> Double {
        cost.decodeSeconds(worker, layers, hasHead: layers.upperBound == layerCount)
    }

    /// KV blocks that the worker has room for beside these layers; `nil` where they are too few for one context.
    func blocks(_ worker: Planner.Candidate, _ layers: Range<Int>) -> Int? {
        let fixed = cost.fixedBytes(worker, layers, hasHead: layers.upperBound == layerCount)
        guard fixed <= worker.memoryBytes else { return nil }
        let block = max(1, cost.kvBytes(blocks: 1, layers: layers.count))
        let blocks = Int(min((worker.memoryBytes - fixed) / block, UInt64(kvBlocksMax)))
        return blocks >= min(blocksMin, kvBlocksMax) ? blocks : nil
    }

    /// Divides `layers` between the stages before and after `place`, so that the longer of both is as short as can be.
    func give(_ layers: Range<Int>, at place: Int, to stages: inout [StagePlan], _ workers: [Planner.Candidate]) {
        let before = place > 0 ? stages[place - 1] : nil
        let after = place < stages.count ? stages[place] : nil
        var best: (seconds: Double, cut: Int)?
        for cut in layers.lowerBound...layers.upperBound {
            if before == nil && cut > layers.lowerBound || after == nil && cut < layers.upperBound { continue }
            let pieces = [
                before.map { StagePlan(worker: $0.worker, layers: $0.layers.lowerBound..<cut) },
                after.map { StagePlan(worker: $0.worker, layers: cut..<$0.layers.upperBound) },
            ].compactMap(\.self)
            var longest = 0.0
            for piece in pieces {
                let worker = workers.first { $0.key == piece.worker }!
                longest = max(longest, blocks(worker, piece.layers) == nil ? .infinity : seconds(worker, piece.layers))
            }
            if best.map({ longest < $0.seconds }) ?? true { best = (longest, cut) }
        }
        guard let cut = best?.cut else { return }
        if let before { stages[place - 1].layers = before.layers.lowerBound..<cut }
        if let after { stages[place].layers = cut..<after.layers.upperBound }
    }

    /// `nil` where a stage has no room, or they are not all layers.
    func plan(_ stages: [StagePlan], _ workers: [Planner.Candidate]) -> Plan? {
        var blocksMost = kvBlocksMax
        var covered = 0
        for stage in stages {
            guard stage.layers.lowerBound == covered, let blocks = blocks(workers.first { $0.key == stage.worker }!, stage.layers) else { return nil }
            blocksMost = min(blocksMost, blocks)
            covered = stage.layers.upperBound
        }
        return covered == layerCount ? Plan(stages: stages, kvBlocks: blocksMost) : nil
    }
}
