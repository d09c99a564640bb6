import Testing

@testable import ClusterCore

/// Layers move between workers while streams run: every token right, nothing computed twice, and where it fails nothing happened.
@Suite struct HandoverTests {
    /// A cluster that takes in whoever joins, with streams that are in the middle of their text.
    private static func serving(
        seed: UInt64, workers: Int, streams: Int = 8, _ configure: (inout ToyCluster.Settings) -> Void = { _ in }
    ) -> ToyCluster {
        var settings = ToyCluster.Settings()
        settings.workers = workers
        settings.kvBlocks = 64
        settings.configure = {
            $0.standbyWorkers = 0
            $0.planSettleMs = 2
        }
        configure(&settings)
        var cluster = ToyCluster(seed: seed, settings: settings)
        cluster.run(milliseconds: 10)
        for _ in 0..<streams { cluster.submit(longRequest(&cluster)) }
        cluster.run(milliseconds: 1)
        return cluster
    }

    private static func longRequest(_ cluster: inout ToyCluster) -> GenerationRequest {
        var request = cluster.inventRequest()
        request.prompt = Array(request.prompt.prefix(40))
        request.sampling.ignoreEndTokens = true
        request.sampling.stopTokens = []
        request.sampling.maxTokens = 60
        return request
    }

    /// Streams go on as long as it takes: a new one for each that ended.
    private static func run(_ cluster: inout ToyCluster, milliseconds: UInt64, until isDone: (ToyCluster) -> Bool) {
        for _ in 0..<milliseconds where !isDone(cluster) {
            let open = cluster.order.count { !cluster.streams[$0]!.isOver }
            for _ in open..<max(open, 6) { cluster.submit(longRequest(&cluster)) }
            cluster.run(milliseconds: 1, until: isDone)
        }
    }

    private static func check(_ cluster: inout ToyCluster, sourceLocation: SourceLocation = #_sourceLocation) {
        cluster.run(milliseconds: 900_000) { cluster in cluster.order.allSatisfy { cluster.streams[$0]!.isOver } }
        #expect(cluster.unexpected == [], "seed \(cluster.seed)", sourceLocation: sourceLocation)
        for id in cluster.order {
            let stream = cluster.streams[id]!
            #expect(stream.failure == nil && stream.isOver, "seed \(cluster.seed) request \(id)", sourceLocation: sourceLocation)
            for choice in 0..<stream.request.choices {
                let wanted = cluster.settings.model.generate(stream.request, choice: UInt32(choice))
                #expect(stream.tokens[choice] == wanted.tokens, "seed \(cluster.seed) request \(id)", sourceLocation: sourceLocation)
            }
        }
        cluster.run(milliseconds: 5_000)
        #expect(cluster.payloadsHeld == 0, "seed \(cluster.seed)", sourceLocation: sourceLocation)
    }

    private func counts(_ cluster: ToyCluster) -> HandoverCounts { cluster.coordinator.status(at: cluster.now).handovers }

    @Test(arguments: 0..<6) func aWorkerJoinsWithoutRecomputing(seed: UInt64) {
        var cluster = Self.serving(seed: seed, workers: 1 + Int(seed % 3))
        let before = cluster.stages.count
        _ = cluster.addWorker()
        Self.run(&cluster, milliseconds: 200) { $0.stages.count == before + 1 }
        #expect(cluster.stages.count == before + 1, "seed \(seed)")
        Self.check(&cluster)
        #expect(counts(cluster).done == 1 && counts(cluster).rolledBack == 0 && counts(cluster).bytesMoved > 0, "seed \(seed)")
        #expect(counts(cluster).positionsRecomputed == 0 && cluster.coordinator.metrics.recoveries == 0, "seed \(seed)")
    }

    @Test(arguments: 10..<16) func aDrainedWorkerGivesItsLayersAway(seed: UInt64) {
        var cluster = Self.serving(seed: seed, workers: 2 + Int(seed % 3))
        let leaving = cluster.stages[Int(seed) % cluster.stages.count]
        cluster.drain(leaving)
        Self.run(&cluster, milliseconds: 200) { !$0.stages.contains(leaving) }
        #expect(!cluster.stages.contains(leaving), "seed \(seed)")
        cluster.drain(leaving)
        #expect(cluster.drainAnswers.last?.state == .drained, "seed \(seed)")
        Self.check(&cluster)
        #expect(counts(cluster).done == 1 && counts(cluster).positionsRecomputed == 0 && cluster.coordinator.metrics.recoveries == 0, "seed \(seed)")
        // Nothing comes back to it, until somebody says so.
        cluster.run(milliseconds: 10_000)
        #expect(!cluster.stages.contains(leaving), "seed \(seed)")
        cluster.drain(leaving, undo: true)
        Self.run(&cluster, milliseconds: 200) { $0.stages.contains(leaving) }
        #expect(cluster.stages.contains(leaving), "seed \(seed)")
        Self.check(&cluster)
    }

    @Test(arguments: 40..<43) func whoIsKeptBackStaysSoWhileNothingRuns(seed: UInt64) {
        var cluster = Self.serving(seed: seed, workers: 3, streams: 0) { $0.configure = { ($0.standbyWorkers, $0.planSettleMs) = (1, 2) } }
        cluster.run(milliseconds: 1_000)
        #expect(cluster.stages.count == 2, "seed \(seed)")
        _ = cluster.addWorker()
        cluster.run(milliseconds: 1_000)
        #expect(cluster.stages.count == 3, "seed \(seed)")
    }

    @Test(arguments: 20..<24) func aWorkerThatIsToEndHandsOverFirst(seed: UInt64) {
        var cluster = Self.serving(seed: seed, workers: 3)
        let leaving = cluster.stages[Int(seed) % 3]
        cluster.tellToLeave(leaving)
        #expect(!cluster.hasEnded(leaving))
        Self.run(&cluster, milliseconds: 200) { $0.hasEnded(leaving) }
        #expect(cluster.hasEnded(leaving) && cluster.stages.count == 2, "seed \(seed)")
        Self.check(&cluster)
        #expect(counts(cluster).done == 1 && counts(cluster).positionsRecomputed == 0 && cluster.coordinator.metrics.recoveries == 0, "seed \(seed)")
    }

    @Test func whoCanNotBeReplacedIsToldSoAndServesOnOrEnds() {
        var cluster = Self.serving(seed: 30, workers: 1)
        cluster.drain(0)
        #expect(cluster.drainAnswers.last?.state == .refused)
        Self.run(&cluster, milliseconds: 50) { _ in false }
        #expect(cluster.stages == [0])
        cluster.tellToLeave(0)
        Self.run(&cluster, milliseconds: 50) { $0.hasEnded(0) }
        #expect(cluster.hasEnded(0))
        cluster.startWorker(0)
        Self.check(&cluster)
        cluster.drain(7)
        #expect(cluster.drainAnswers.last?.state == .unknown)
    }

    @Test func aSecondSignalEndsAtOnce() {
        var cluster = Self.serving(seed: 31, workers: 2)
        cluster.tellToLeave(1)
        cluster.tellToLeave(1)
        #expect(cluster.hasEnded(1))
        Self.check(&cluster)
    }

    @Test func leavingIsBounded() {
        var cluster = Self.serving(seed: 32, workers: 2)
        cluster.hangWorker(0)
        cluster.tellToLeave(1, withinMs: 2_000)
        cluster.run(milliseconds: 2_100)
        #expect(cluster.hasEnded(1))
        cluster.killWorker(0)
        cluster.startWorker(0)
        Self.check(&cluster)
    }

    // MARK: - Failure

    /// The new owner dies in every phase in turn: nothing is lost, nothing computed twice, and streams never pause.
    @Test(arguments: 40..<52) func theDeathOfAJoiningWorkerChangesNothing(seed: UInt64) {
        var cluster = Self.serving(seed: seed, workers: 2)
        let joining = cluster.addWorker()
        let phases: [Handover.Phase] = [.preparing, .copying, .closing, .finishing]
        let phase = phases[Int(seed) % phases.count]
        Self.run(&cluster, milliseconds: 200) { $0.coordinator.fleet[0].handover?.phase == phase }
        #expect(cluster.coordinator.fleet[0].handover?.phase == phase, "seed \(seed)")
        let epoch = cluster.coordinator.deployment.epoch
        cluster.killWorker(joining)
        // Its silence is noticed in time, or that nothing comes from it.
        cluster.run(milliseconds: 60_000) { $0.coordinator.fleet[0].handover == nil }
        #expect(cluster.coordinator.fleet[0].handover == nil && cluster.coordinator.deployment.epoch == epoch, "seed \(seed)")
        Self.check(&cluster)
        #expect(counts(cluster).done == 0 && counts(cluster).rolledBack >= 1, "seed \(seed)")
        #expect(counts(cluster).positionsRecomputed == 0 && cluster.coordinator.metrics.recoveries == 0, "seed \(seed)")
        #expect(cluster.order.allSatisfy { cluster.streams[$0]!.pauses == 0 }, "seed \(seed)")
    }

    @Test func aSliceThatCanNotBeLoadedRollsBackAndIsTriedAgain() {
        var cluster = Self.serving(seed: 70, workers: 2)
        cluster.preparingFails = true
        _ = cluster.addWorker()
        Self.run(&cluster, milliseconds: 200) { counts($0).rolledBack > 0 }
        #expect(counts(cluster).rolledBack == 1 && cluster.stages.count == 2)
        cluster.preparingFails = false
        cluster.run(milliseconds: 120_000) { $0.stages.count == 3 }
        #expect(cluster.stages.count == 3 && counts(cluster).positionsRecomputed == 0)
        Self.check(&cluster)
    }

    @Test(arguments: 80..<90) func theDeathOfAnOldOwnerIsALossAsAnyOther(seed: UInt64) {
        var cluster = Self.serving(seed: seed, workers: 3)
        let leaving = cluster.stages[Int(seed) % 3]
        cluster.drain(leaving)
        let phases: [Handover.Phase] = [.preparing, .copying, .closing, .finishing, .adopting]
        let phase = phases[Int(seed) % phases.count]
        Self.run(&cluster, milliseconds: 200) { $0.coordinator.fleet[0].handover?.phase == phase }
        cluster.killWorker(leaving)
        Self.check(&cluster)
        #expect(!cluster.stages.contains(leaving), "seed \(seed)")
    }

    @Test(arguments: 100..<116) func streamsOutliveEverythingAtOnce(seed: UInt64) {
        var cluster = Self.serving(seed: seed, workers: 2 + Int(seed % 3)) { $0.kvBlocks = 10 + Int(seed % 30) }
        for _ in 0..<40 {
            let index = Int.random(in: 0..<cluster.workerCount, using: &cluster.numbers)
            switch Int.random(in: 0..<8, using: &cluster.numbers) {
            case 0: if cluster.workerCount < 6 { _ = cluster.addWorker() }
            case 1: cluster.drain(index)
            case 2: cluster.drain(index, undo: true)
            case 3: if cluster.isUp(index) { cluster.tellToLeave(index) }
            case 4: cluster.killWorker(index)
            case 5: cluster.loseConnection()
            case 6: if !cluster.isUp(index) { cluster.startWorker(index) }
            default: cluster.submit(Self.longRequest(&cluster))
            }
            let isLong = cluster.numbers.oneIn(4)
            cluster.run(microseconds: UInt64.random(in: 0...(isLong ? 3_000_000 : 3_000), using: &cluster.numbers))
        }
        for index in 0..<cluster.workerCount {
            if !cluster.isUp(index) { cluster.startWorker(index) }
            cluster.drain(index, undo: true)
        }
        Self.check(&cluster)
    }

    // MARK: - Values

    @Test func movesAreWhereOwnersDiffer() {
        func plan(_ cuts: [(Int, Range<Int>)]) -> Plan {
            Plan(stages: cuts.map { StagePlan(worker: ToyCluster.key($0.0), layers: $0.1) }, kvBlocks: 4)
        }
        let moves = Handover.moves(from: plan([(0, 0..<3), (1, 3..<6)]), to: plan([(0, 0..<2), (2, 2..<4), (1, 4..<6)]))
        #expect(
            moves == [
                Handover.Move(layers: 2..<3, from: ToyCluster.key(0), to: ToyCluster.key(2)),
                Handover.Move(layers: 3..<4, from: ToyCluster.key(1), to: ToyCluster.key(2)),
            ])
    }

    /// Every block of every layer once, in frames of bounded size, at most two on their way.
    @Test(arguments: [1, 1_000, 100_000, 300_000, 1 << 20]) func framesAreBoundedAndComplete(blockBytes: Int) {
        var handover = WorkerHandover(givingIn: Epoch(9))
        let peer = StagePeer(key: ToyCluster.key(1), endpoint: "tcp://127.0.0.1:1")
        let blocks = (0..<600).map { BlockID(UInt32(3 * $0)) }
        let began = handover.begin(
            KVOrder(epoch: Epoch(9), round: 1, blocks: blocks, targets: [KVTarget(peer: peer, layers: 4..<9)], blockBytes: blockBytes))
        #expect(began)
        var seen: Set<[Int]> = []
        var number: UInt64 = 0
        var open: [KVFrame] = []
        while !handover.isRoundDone {
            while let frame = handover.next() { open.append(frame) }
            #expect(open.count <= Limits.kvFramesOpenMax && !open.isEmpty)
            let frame = open.removeFirst()
            number += 1
            #expect(frame.number == number && frame.blocks.count <= Limits.kvFrameBlocksMax)
            #expect(frame.blocks.count * frame.layers.count * blockBytes <= max(Limits.kvFrameBytes, blockBytes))
            let places = frame.blocks.flatMap { block in frame.layers.map { [Int(block.value), $0] } }
            #expect(seen.isDisjoint(with: places))
            seen.formUnion(places)
            let receiver = handover.wasRead(frame, bytes: 7)
            let takesWrong = handover.received(KVReceipt(epoch: Epoch(9), number: number + 1), from: peer.key)
            let takesRight = handover.received(KVReceipt(epoch: Epoch(9), number: number), from: peer.key)
            #expect(receiver == peer && !takesWrong && takesRight)
        }
        #expect(seen.count == 600 * 5 && handover.bytesSent == 7 * number)
    }

    /// A block counts as changed once the step that writes it is back, however early it was sent.
    @Test func changesCountWhenTheirStepIsBack() {
        var changes = BlockChanges(firstStep: StepNumber(5), blocks: 4)
        let all = (0..<4).map { BlockID(UInt32($0)) }
        changes.sent(StepNumber(5), writing: [BlockID(2)])
        var taken = changes.take(of: [all[0], all[2]])
        #expect(taken == [all[0], all[2]])
        taken = changes.take(of: all)
        #expect(taken == [all[1], all[3]])
        changes.returned(StepNumber(4))
        #expect(changes.count(of: all) == 0)
        changes.returned(StepNumber(5))
        taken = changes.take(of: all)
        #expect(taken == [all[2]] && changes.count(of: all) == 0)
    }
}
