import Testing

@testable import ClusterCore

/// Measured times change the cut: one of two workers takes twice as long for a layer as it said.
@Suite struct RecutTests {
    private static func settings(_ policy: ReplanPolicy) -> ToyCluster.Settings {
        var settings = ToyCluster.Settings()
        settings.layerNanoseconds = 10_000_000
        settings.readBytesPerSecond = 1e8
        settings.slowness = [0: 2]
        settings.configure = {
            $0.replan = policy
            // So large that keys and values don't count.
            $0.model.layerBytes = $0.model.layerBytes.map { _ in 1_000_000 }
            ($0.recutCheckMs, $0.recutSustainMs, $0.recutPauseMs) = (1, 2, 20)
        }
        return settings
    }

    private static func layers(_ cluster: ToyCluster, of worker: Int) -> Int {
        cluster.coordinator.deployment.plan?.stages.first { $0.worker == ToyCluster.key(worker) }?.layers.count ?? 0
    }

    private static func allOver(_ cluster: ToyCluster) -> Bool { cluster.order.allSatisfy { cluster.streams[$0]!.isOver } }

    private static func submit(_ count: Int, to cluster: inout ToyCluster) {
        for _ in 0..<count {
            var request = cluster.inventRequest()
            request.sampling.maxTokens = 60
            request.sampling.ignoreEndTokens = true
            cluster.submit(request)
        }
    }

    private func checkTokens(_ cluster: ToyCluster) {
        #expect(cluster.unexpected == [], "seed \(cluster.seed)")
        for id in cluster.order {
            let stream = cluster.streams[id]!
            #expect(stream.failure == nil)
            for choice in 0..<stream.request.choices {
                let wanted = cluster.settings.model.generate(stream.request, choice: UInt32(choice))
                #expect(stream.tokens[choice] == wanted.tokens && stream.finishes[choice] == wanted.finish, "seed \(cluster.seed)")
            }
        }
    }

    @Test(arguments: 0..<3) func streamsGoOnOverANewCut(seed: UInt64) {
        var cluster = ToyCluster(seed: seed, settings: Self.settings(.always))
        cluster.run(milliseconds: 5) { $0.isServing }
        #expect(Self.layers(cluster, of: 0) == 3)
        Self.submit(30, to: &cluster)
        cluster.run(milliseconds: 60_000) { Self.layers($0, of: 0) == 2 }
        #expect(cluster.streams.values.contains { !$0.isOver }, "streams were to be open when the layers moved")
        #expect(Self.layers(cluster, of: 0) == 2 && Self.layers(cluster, of: 1) == 4)
        cluster.run(milliseconds: 60_000, until: Self.allOver)
        checkTokens(cluster)
        #expect(Self.layers(cluster, of: 0) == 2, "the new cut is the best one")
        #expect(cluster.coordinator.watch.recuts == 1 && cluster.coordinator.metrics.recoveries == 0)
    }

    @Test func whenIdleWaitsForTheLastStream() {
        var cluster = ToyCluster(seed: 1, settings: Self.settings(.whenIdle))
        cluster.run(milliseconds: 5) { $0.isServing }
        Self.submit(30, to: &cluster)
        cluster.run(milliseconds: 60_000) { Self.allOver($0) || Self.layers($0, of: 0) != 3 }
        #expect(Self.allOver(cluster) && Self.layers(cluster, of: 0) == 3)
        let planning = cluster.coordinator.status(at: cluster.now).planning
        #expect(planning.map { abs($0.stages[0].measuredSeconds - 2 * $0.stages[1].measuredSeconds) < 0.001 } == true)
        #expect(planning?.betterCut.contains("0-1 on worker-0") == true || planning?.betterCut.contains("4-5 on worker-0") == true)
        // The next heartbeats.
        cluster.run(milliseconds: 2_000) { Self.layers($0, of: 0) == 2 && $0.isServing }
        #expect(Self.layers(cluster, of: 0) == 2)
        Self.submit(10, to: &cluster)
        cluster.run(milliseconds: 60_000, until: Self.allOver)
        checkTokens(cluster)
        let after = cluster.coordinator.status(at: cluster.now).planning
        #expect(after?.betterCut == "")
        // Counted with what was measured, the prediction is right now.
        for stage in after?.stages ?? [] { #expect(abs(stage.measuredSeconds / stage.predictedSeconds - 1) < 0.15) }
    }

    /// - Parameter memory: what the slow worker offers; with little of it, it bounds the KV blocks of all.
    private func recutsWhenIdle(memory: UInt64?) -> (cluster: ToyCluster, hasPaused: Bool, cachedBefore: Int, blocksBefore: Int) {
        var settings = Self.settings(.whenIdle)
        settings.memoryOfWorker[0] = memory
        var cluster = ToyCluster(seed: 1, settings: settings)
        cluster.run(milliseconds: 5) { $0.isServing }
        Self.submit(30, to: &cluster)
        cluster.run(milliseconds: 60_000, until: Self.allOver)
        let cached = cluster.coordinator.status(at: cluster.now).kvBlocksCached
        let blocks = cluster.coordinator.deployment.plan?.kvBlocks ?? 0
        #expect(Self.layers(cluster, of: 0) == 3 && cached > 0)
        cluster.run(milliseconds: 2_000) { Self.layers($0, of: 0) == 2 || !$0.isServing }
        let hasPaused = !cluster.isServing
        cluster.run(milliseconds: 2_000) { $0.isServing }
        #expect(Self.layers(cluster, of: 0) == 2)
        return (cluster, hasPaused, cached, blocks)
    }

    /// Nobody who comes now waits, and what was computed of beginnings is kept.
    @Test func anIdleClusterIsCutAnewWhileItServes() {
        var (cluster, hasPaused, cached, _) = recutsWhenIdle(memory: nil)
        #expect(!hasPaused && cluster.coordinator.status(at: cluster.now).kvBlocksCached == cached)
        Self.submit(10, to: &cluster)
        cluster.run(milliseconds: 60_000, until: Self.allOver)
        checkTokens(cluster)
    }

    @Test func anIdleClusterLoadsAnewForMoreBlocks() {
        // Room for the embedding, three layers and 30 blocks of 32 bytes in each; beside two layers for all that are wanted. A 32nd is for inputs.
        let (cluster, hasPaused, _, blocks) = recutsWhenIdle(memory: (300 + 3 * (1_000_000 + 30 * 32)) * 32 / 31 + 1)
        #expect(hasPaused && blocks == 30 && cluster.coordinator.deployment.plan?.kvBlocks == 64)
    }

    @Test func neverOnlyTells() {
        var cluster = ToyCluster(seed: 2, settings: Self.settings(.never))
        Self.submit(30, to: &cluster)
        cluster.run(milliseconds: 60_000, until: Self.allOver)
        cluster.run(milliseconds: 5_000)
        checkTokens(cluster)
        #expect(Self.layers(cluster, of: 0) == 3 && cluster.coordinator.watch.recuts == 0)
        #expect(cluster.coordinator.status(at: cluster.now).planning?.betterCut.contains("never") == true)
    }

    @Test func aWorkerThatStartsAnewIsNotHeldToItsPast() {
        var cluster = ToyCluster(seed: 3, settings: Self.settings(.always))
        Self.submit(30, to: &cluster)
        cluster.run(milliseconds: 60_000) { Self.layers($0, of: 0) == 2 }
        cluster.killWorker(0)
        cluster.startWorker(0)
        cluster.run(milliseconds: 60_000) { !$0.isServing }
        cluster.run(milliseconds: 60_000) { $0.isServing && $0.stages.count == 2 }
        #expect(cluster.coordinator.speeds.correction(of: ToyCluster.key(0), isComputing: true, at: cluster.now) == 1)
    }

    // MARK: - The watch alone

    private static func plan(_ first: Int) -> Plan {
        Plan(stages: [.init(worker: ToyCluster.key(0), layers: 0..<first), .init(worker: ToyCluster.key(1), layers: first..<6)], kvBlocks: 4)
    }

    private static func at(_ milliseconds: UInt64) -> Instant { Instant(nanoseconds: milliseconds * 1_000_000) }

    private static func watch() -> (PlanWatch, CoordinatorConfiguration) {
        let model = ToyModel().profile
        let workers = (0..<2).map { Planner.Candidate(key: ToyCluster.key($0), memoryBytes: 1 << 30, readBytesPerSecond: 1e9) }
        var watch = PlanWatch()
        watch.begin(PlanForecast(plan: plan(3), model: model, workers: workers, demand: PlanDemand()))
        return (watch, CoordinatorConfiguration(session: 1, model: model, modelPath: "", expectedWorkers: 2))
    }

    @Test func aCutIsBetterOnlyWhenItStaysSo() {
        var (watch, configuration) = Self.watch()
        for second in UInt64(0)..<9 {
            watch.compare(Self.plan(2), gain: 0.2, configuration, at: Self.at(second * 1_000))
            #expect(!watch.isRecutDue(configuration, at: Self.at(second * 1_000)))
        }
        // Once below half of what counts, the time starts anew.
        watch.compare(Self.plan(2), gain: 0.04, configuration, at: Self.at(9_000))
        #expect(watch.better == nil)
        watch.compare(Self.plan(2), gain: 0.09, configuration, at: Self.at(9_500))
        #expect(watch.better == nil, "too little to begin with")
        watch.compare(Self.plan(2), gain: 0.11, configuration, at: Self.at(10_000))
        watch.compare(Self.plan(2), gain: 0.06, configuration, at: Self.at(15_000))
        #expect(!watch.isRecutDue(configuration, at: Self.at(19_999)) && watch.isRecutDue(configuration, at: Self.at(20_000)))
        watch.compare(Self.plan(3), gain: 0.5, configuration, at: Self.at(21_000))
        #expect(watch.better == nil, "the plan in force is no better one")
    }

    @Test func pausesGrowWhileCutsFollowEachOther() {
        var (watch, configuration) = Self.watch()
        var now: UInt64 = 100_000
        var pauses: [UInt64] = []
        for _ in 0..<9 {
            watch.noteRecut(configuration, at: Self.at(now))
            watch.compare(Self.plan(2), gain: 1, configuration, at: Self.at(now))
            let due = stride(from: now, through: now + 4_000_000, by: 1_000).first { watch.isRecutDue(configuration, at: Self.at($0)) }!
            pauses.append(due - now)
            now = due
        }
        #expect(pauses == [60_000, 120_000, 240_000, 480_000, 960_000, 1_920_000, 3_600_000, 3_600_000, 3_600_000])
        now += 2 * configuration.recutPauseMaxMs + 60_000
        watch.noteRecut(configuration, at: Self.at(now))
        watch.compare(Self.plan(2), gain: 1, configuration, at: Self.at(now))
        #expect(watch.isRecutDue(configuration, at: Self.at(now + 60_000)))
    }
}
