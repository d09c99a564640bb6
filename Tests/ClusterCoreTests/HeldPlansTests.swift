import Testing

@testable import ClusterCore

/// A coordinator is started again while several replicas serve: each goes on as it was, in whatever order its workers come back.
@Suite struct HeldPlansTests {
    private static func cluster(seed: UInt64, workers: Int, replicas: ReplicaCount, memory: UInt64 = 1 << 30) -> ToyCluster {
        var settings = ToyCluster.Settings()
        settings.workers = workers
        settings.replicas = replicas
        settings.workerMemory = memory
        settings.kvBlocks = 64
        settings.configure = { $0.model.arithmetic.layers = $0.model.layerBytes.map { .init(int8Weights: $0 * 16 / 9) } }
        return ToyCluster(seed: seed, settings: settings)
    }

    /// Who has which layers, replica by replica, whatever their numbers.
    private func cuts(_ cluster: ToyCluster) -> Set<[StagePlan]> {
        Set(cluster.coordinator.fleet.serving.map { cluster.coordinator.fleet[$0].deployment.plan!.stages })
    }

    private func serves(_ count: Int) -> (ToyCluster) -> Bool { { $0.coordinator.fleet.serving.count == count } }

    private static func allOver(_ cluster: ToyCluster) -> Bool { cluster.order.allSatisfy { cluster.streams[$0]!.isOver } }

    private func check(_ cluster: inout ToyCluster, sourceLocation: SourceLocation = #_sourceLocation) {
        cluster.run(milliseconds: 300_000, until: Self.allOver)
        #expect(cluster.unexpected == [], "seed \(cluster.seed)", sourceLocation: sourceLocation)
        for id in cluster.order {
            let stream = cluster.streams[id]!
            #expect(stream.failure == nil && stream.isOver, "seed \(cluster.seed) request \(id)", sourceLocation: sourceLocation)
            for choice in 0..<stream.request.choices {
                let wanted = cluster.settings.model.generate(stream.request, choice: UInt32(choice))
                #expect(stream.tokens[choice] == wanted.tokens, "seed \(cluster.seed) request \(id)", sourceLocation: sourceLocation)
            }
        }
    }

    /// Workers find the new coordinator when their next heartbeat is answered with a demand for a hello, each in its own time.
    @Test(arguments: 0..<12) func everyReplicaKeepsItsWeights(seed: UInt64) {
        let replicas = 2 + Int(seed % 2)
        var cluster = Self.cluster(seed: seed, workers: 2 * replicas, replicas: .exactly(replicas), memory: seed % 4 < 2 ? 1 << 30 : 4_500)
        cluster.run(milliseconds: 100, until: serves(replicas))
        let before = cuts(cluster)
        #expect(before.count == replicas, "seed \(seed)")
        for _ in 0..<12 { cluster.submit(cluster.inventRequest()) }
        cluster.run(milliseconds: 1)
        let releases = cluster.releases
        cluster.restartCoordinator()
        cluster.run(milliseconds: 20_000, until: serves(replicas))
        #expect(cuts(cluster) == before, "seed \(seed)")
        #expect(cluster.releases == releases, "seed \(seed): nobody gives its weights up")
        check(&cluster)
    }

    /// The first replica serves and somebody without a slice comes: those who wait for the rest of theirs are not given to another plan for it.
    @Test(arguments: [ReplicaCount.exactly(2), .automatic]) func whoComesLateFindsItsReplica(count: ReplicaCount) throws {
        var held = Held(replicas: count)
        held.comes(1, holding: 7, 0..<3)
        held.comes(2, holding: 7, 3..<6)
        #expect(held.plans == [[1, 2]])
        held.comes(3, holding: 8, 0..<3)
        held.comes(5)
        held.wait(milliseconds: 2_000)
        #expect(held.plans == [[1, 2]] && held.released == [])
        held.comes(4, holding: 8, 3..<6)
        #expect(held.plans == [[1, 2], [3, 4]] && held.released == [])
    }

    /// ... but not for ever.
    @Test func whoWaitsInVainIsUsedOtherwise() {
        var held = Held(replicas: .exactly(2))
        held.comes(1, holding: 7, 0..<3)
        held.comes(2, holding: 7, 3..<6)
        held.comes(3, holding: 8, 0..<3)
        held.wait(milliseconds: 7_000)
        #expect(held.plans == [[1, 2], [3]] && held.released == [])
    }

    /// What the third worker, which is in no plan, is told from the start until it is to take over from the second.
    private func ordersOfAHandOver(_ held: inout Held) -> [String] {
        let console = PeerKey(bytes: [UInt8](repeating: 201, count: 32))!
        held.handle(.received(.drain(DrainRequest(worker: "w2")), from: console, role: .console))
        return held.sent(to: 3).compactMap { message -> String? in
            switch message {
            case .release: "release"
            case .handover(.prepare): "prepare"
            default: nil
            }
        }
    }

    /// A worker that held a stage of an earlier coordinator and serves none of this one's gives it up before layers are handed to it: they would
    /// pass for some that it has.
    @Test func aSliceOfThePastIsGivenUpBeforeAHandOver() throws {
        var held = Held(replicas: .exactly(1))
        held.comes(1, holding: 7, 0..<3)
        held.comes(2, holding: 7, 3..<6)
        held.comes(3, holding: 6, 0..<2)
        held.serve()
        // When a plan goes without it, and once more, whatever was said meanwhile.
        #expect(ordersOfAHandOver(&held) == ["release", "release", "prepare"])
    }

    /// The same where nothing was said of it: its hello may be older than the order to load it, and its first heartbeat is still to come.
    @Test func aSliceThatWasNotToldOfIsGivenUpBeforeAHandOver() throws {
        var held = Held(replicas: .exactly(1))
        held.comes(1, holding: 7, 0..<3)
        held.comes(2, holding: 7, 3..<6)
        held.comes(3)
        held.serve()
        #expect(ordersOfAHandOver(&held) == ["release", "prepare"])
    }
}

/// A coordinator after its restart, to which workers come one by one.
private struct Held {
    var coordinator: Coordinator
    var now = Instant(nanoseconds: 1_000_000_000)
    var effects: [Coordinator.Effect] = []
    init(replicas: ReplicaCount) {
        var configuration = CoordinatorConfiguration(session: 9, model: ToyModel().profile, modelPath: "/models/toy", expectedWorkers: 4)
        configuration.replicas = replicas
        configuration.kvBlocksMax = 16
        configuration.isRestart = true
        configuration.heartbeatTimeoutMs = 1_000_000
        coordinator = Coordinator(configuration: configuration, at: now)
    }

    private static func key(_ byte: UInt8) -> PeerKey { PeerKey(bytes: [UInt8](repeating: byte, count: 32))! }

    mutating func handle(_ event: Coordinator.Event) { coordinator.handle(event, at: now, into: &effects) }

    mutating func comes(_ byte: UInt8, holding epoch: UInt64? = nil, _ layers: Range<Int> = 0..<0) {
        now = now.advanced(milliseconds: 10)
        let capabilities = WorkerCapabilities(
            memoryBytes: 1 << 30, threads: 1, isa: "portable", readBytesPerSecond: 1e9, opsPerSecond: 1e9, machine: UInt64(byte))
        let hello = WorkerHello(
            version: .current, session: UInt64(byte), name: "w\(byte)", capabilities: capabilities,
            dataEndpoint: "tcp://127.0.0.1:\(9_000 + Int(byte))",
            holding: epoch.map { HeldSlice(epoch: Epoch($0), modelDigest: ToyModel().profile.digest, layers: layers) }, lastEpoch: Epoch(epoch ?? 0))
        handle(.received(.workerHello(hello), from: Self.key(byte), role: .worker))
    }

    /// Deadlines come when they are due.
    mutating func wait(milliseconds: UInt64) {
        let end = now.advanced(milliseconds: milliseconds)
        while let next = coordinator.nextDeadline, next <= end {
            now = max(now, next)
            handle(.deadline)
        }
        now = end
    }

    /// All that are assigned have loaded, and the probe comes back.
    mutating func serve() {
        let plan = coordinator.deployment.plan!
        for stage in plan.stages { handle(.received(.loaded(coordinator.deployment.epoch, kept: 0..<0), from: stage.worker, role: .worker)) }
        let steps = effects.compactMap { effect -> Step? in if case .send(.step(let step), _) = effect { step } else { nil } }
        guard let probe = steps.last else { return }
        let result = StepResult(
            epoch: probe.epoch, number: probe.number,
            tokens: [SampledToken(sequence: probe.segments[0].sequence, position: 1, emitted: EmittedToken(token: 9))], poisoned: [],
            timings: plan.stages.map { _ in StageTiming(queueNanoseconds: 1, computeNanoseconds: 1) })
        handle(.received(.stepResult(result), from: plan.stages.last!.worker, role: .worker))
    }

    /// Workers of each replica in force, in the order of their epochs.
    var plans: [[UInt8]] {
        coordinator.fleet.replicas.filter { !$0.deployment.isIdle }.sorted { $0.deployment.epoch < $1.deployment.epoch }
            .map { $0.deployment.plan!.stages.map { $0.worker.bytes[0] } }
    }

    var released: [UInt8] {
        effects.compactMap { effect -> UInt8? in if case .send(.release, let key) = effect { key.bytes[0] } else { nil } }
    }

    func sent(to byte: UInt8) -> [FromCoordinator] {
        effects.compactMap { effect -> FromCoordinator? in if case .send(let message, Self.key(byte)) = effect { message } else { nil } }
    }
}
