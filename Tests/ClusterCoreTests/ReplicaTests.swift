import Testing

@testable import ClusterCore

/// Several pipelines behind one coordinator: the same bytes whichever runs a request, and a loss that is nobody else's.
@Suite struct ReplicaTests {
    private static func cluster(
        seed: UInt64, workers: Int, replicas: ReplicaCount, _ change: (inout ToyCluster.Settings) -> Void = { _ in }
    ) -> ToyCluster {
        var settings = ToyCluster.Settings()
        settings.workers = workers
        settings.replicas = replicas
        // Rows cost time.
        settings.configure = { $0.model.arithmetic.layers = $0.model.layerBytes.map { .init(int8Weights: $0 * 16 / 9) } }
        change(&settings)
        return ToyCluster(seed: seed, settings: settings)
    }

    /// Each stream ended once, with the plain loop's tokens.
    private func check(_ cluster: ToyCluster, sourceLocation: SourceLocation = #_sourceLocation) {
        #expect(cluster.unexpected == [], "seed \(cluster.seed)", sourceLocation: sourceLocation)
        for id in cluster.order {
            let stream = cluster.streams[id]!
            let hasEnded = stream.failure == nil && (stream.isOver || stream.isCancelled)
            #expect(hasEnded, "seed \(cluster.seed) request \(id)", sourceLocation: sourceLocation)
            for choice in 0..<stream.request.choices {
                let wanted = cluster.settings.model.generate(stream.request, choice: UInt32(choice))
                let got = stream.tokens[choice]
                #expect(got == Array(wanted.tokens.prefix(got.count)), "seed \(cluster.seed) request \(id)", sourceLocation: sourceLocation)
                guard let finish = stream.finishes[choice] else { continue }
                #expect(got.count == wanted.tokens.count && finish == wanted.finish, "seed \(cluster.seed)", sourceLocation: sourceLocation)
            }
        }
    }

    private func checkRest(_ cluster: ToyCluster, sourceLocation: SourceLocation = #_sourceLocation) {
        let status = cluster.coordinator.status(at: cluster.now)
        let left = [
            "requests": cluster.coordinator.requests.count, "sequences": cluster.coordinator.openCount, "blocks": status.kvBlocksUsed,
            "steps": status.stepsInFlight, "payloads": cluster.payloadsHeld, "streams": cluster.gateway.openCount,
            "line": cluster.coordinator.backlog.line.weightInAll,
        ].filter { $0.value != 0 }
        #expect(left == [:], "seed \(cluster.seed)", sourceLocation: sourceLocation)
    }

    private static func allOver(_ cluster: ToyCluster) -> Bool {
        cluster.order.allSatisfy { cluster.streams[$0]!.isOver || cluster.streams[$0]!.isCancelled }
    }

    private func epochs(_ cluster: ToyCluster) -> [Epoch] { cluster.coordinator.fleet.replicas.map(\.deployment.epoch) }

    private func workers(_ cluster: ToyCluster, of replica: Int) -> [Int] {
        cluster.coordinator.fleet[replica].deployment.plan?.stages.map { Int($0.worker.bytes[0]) - 1 } ?? []
    }

    private func groups(_ cluster: ToyCluster) -> Set<Set<Int>> {
        Set(cluster.coordinator.fleet.serving.map { Set(workers(cluster, of: $0)) })
    }

    /// A request that ends nowhere near its beginning.
    private static func request(_ cluster: inout ToyCluster, prompt: [TokenID], tokens: Int32 = 40, choices: Int = 1) -> GenerationRequest {
        var sampling = SamplingParameters()
        sampling.seed = cluster.numbers.next()
        sampling.maxTokens = tokens
        sampling.ignoreEndTokens = true
        let id = RequestID(high: cluster.numbers.next(), low: cluster.numbers.next())
        return GenerationRequest(id: id, prompt: prompt, sampling: sampling, choices: choices)
    }

    private static func prompt(_ count: Int, _ seed: UInt64) -> [TokenID] { (0..<count).map { TokenID(mixed(seed, UInt64($0)) % 200 + 1) } }

    /// The replica that holds a request's sequences; `nil` when several do or none.
    private func home(of id: RequestID, _ cluster: ToyCluster) -> Int? {
        let ids = cluster.coordinator.requests[id]?.choices.compactMap(\.sequence) ?? []
        let homes = cluster.coordinator.fleet.replicas.indices.filter { replica in
            ids.contains { cluster.coordinator.fleet[replica].scheduler[$0] != nil }
        }
        return homes.count == 1 ? homes[0] : nil
    }

    // MARK: - Equal bytes

    @Test(arguments: 1...3, 1...6) func tokensEqualThePlainLoop(replicas: Int, workers: Int) {
        var cluster = Self.cluster(seed: UInt64(10 * replicas + workers), workers: workers, replicas: .exactly(replicas))
        cluster.run(milliseconds: 50, until: { $0.coordinator.fleet.serving.count == min(replicas, workers) })
        for _ in 0..<12 { cluster.submit(cluster.inventRequest()) }
        cluster.run(milliseconds: 60_000, until: Self.allOver)
        check(cluster)
        cluster.run(milliseconds: 1_000)
        checkRest(cluster)
        let fleet = cluster.coordinator.fleet
        #expect(fleet.serving.count == min(replicas, workers) && fleet.workersInUse == workers)
        if replicas == workers { #expect(fleet.replicas.allSatisfy { $0.scheduler.prefillPositions > 0 }, "each has its share of the work") }
        #expect(cluster.coordinator.metrics.requestsFinished == 12 && cluster.coordinator.metrics.dropped.total == 0)
    }

    @Test(arguments: 300..<318) func streamsOutliveFaults(seed: UInt64) {
        var cluster = Self.cluster(
            seed: seed, workers: 2 + Int(seed % 4), replicas: seed % 3 == 0 ? .automatic : .exactly(2 + Int(seed % 2))
        ) { settings in
            settings.kvBlocks = 8 + Int(seed % 9)
            // At times a replica needs two workers.
            if seed % 4 == 1 { settings.workerMemory = 4_500 }
        }
        cluster.run(milliseconds: 5)
        for _ in 0..<40 {
            for _ in 0..<Int.random(in: 0...2, using: &cluster.numbers) { cluster.submit(cluster.inventRequest()) }
            if cluster.numbers.oneIn(5), let victim = cluster.order.filter({ !cluster.streams[$0]!.isOver }).randomElement(using: &cluster.numbers),
                !cluster.streams[victim]!.isCancelled {
                cluster.cancel(victim)
            }
            breakSomething(&cluster)
            cluster.run(microseconds: UInt64.random(in: 0...(cluster.numbers.oneIn(6) ? 5_000_000 : 3_000), using: &cluster.numbers))
        }
        for index in 0..<cluster.workerCount where !cluster.isUp(index) || cluster.isHung(index) {
            cluster.killWorker(index)
            cluster.startWorker(index)
        }
        cluster.run(milliseconds: 900_000, until: Self.allOver)
        check(cluster)
        cluster.run(milliseconds: 90_000)
        checkRest(cluster)
        #expect(cluster.isServing, "seed \(seed)")
    }

    private func breakSomething(_ cluster: inout ToyCluster) {
        let index = Int.random(in: 0..<cluster.workerCount, using: &cluster.numbers)
        switch Int.random(in: 0..<12, using: &cluster.numbers) {
        case 0, 1, 2: if cluster.isUp(index) { cluster.killWorker(index) } else { cluster.startWorker(index) }
        case 3, 4, 5: if !cluster.isUp(index) { cluster.startWorker(index) }
        case 6: cluster.loseConnection()
        case 7: if cluster.numbers.oneIn(3) { cluster.restartCoordinator() }
        case 8: if cluster.isUp(index) { cluster.hangWorker(index) }
        case 9:
            if cluster.isUp(index) {
                cluster.killWorker(index)
                cluster.startWorker(index)
            }
        default: break
        }
    }

    // MARK: - One replica's loss

    @Test func aLossIsNobodyElses() throws {
        var cluster = Self.cluster(seed: 7, workers: 4, replicas: .exactly(2))
        cluster.run(milliseconds: 50, until: { $0.coordinator.fleet.serving.count == 2 })
        for index in 0..<12 {
            let request = Self.request(&cluster, prompt: Self.prompt(20, UInt64(index)))
            cluster.submit(request)
        }
        cluster.run(microseconds: 2_000)
        let before = epochs(cluster)
        let lost = cluster.coordinator.fleet[0].scheduler.running.count
        #expect(lost > 0 && cluster.coordinator.fleet[1].scheduler.running.count > 0)
        let victim = workers(cluster, of: 0)[0]
        cluster.killWorker(victim)
        cluster.run(milliseconds: 60_000, until: Self.allOver)
        check(cluster)
        #expect(epochs(cluster)[1] == before[1], "the other replica's epoch goes on")
        #expect(cluster.coordinator.metrics.recoveries == 1)
        cluster.run(milliseconds: 10_000)
        // The remaining worker has memory for all layers: it is a replica again, of one stage.
        #expect(epochs(cluster)[0] > before[1] && workers(cluster, of: 0).count == 1 && cluster.coordinator.fleet.serving == [0, 1])
        checkRest(cluster)
    }

    @Test func aReplicaIsFormedAgainWithAStandby() {
        // A replica needs two workers; the fifth stands by.
        var cluster = Self.cluster(seed: 8, workers: 5, replicas: .exactly(2)) { settings in
            settings.workerMemory = 4_500
            settings.expectedWorkers = 4
        }
        cluster.killWorker(4)
        cluster.run(milliseconds: 100)
        cluster.startWorker(4)
        cluster.run(milliseconds: 100)
        #expect(cluster.coordinator.fleet.serving == [0, 1] && cluster.coordinator.fleet.workersInUse == 4)
        let before = epochs(cluster)
        cluster.killWorker(workers(cluster, of: 1)[1])
        cluster.run(milliseconds: 5_000)
        #expect(cluster.coordinator.fleet.serving == [0, 1] && workers(cluster, of: 1).contains(4))
        #expect(epochs(cluster)[0] == before[0])
        // The next loss leaves one worker over: it stands by, and the other replica serves on.
        cluster.killWorker(workers(cluster, of: 0)[0])
        cluster.run(milliseconds: 5_000, until: { $0.coordinator.metrics.recoveries == 2 })
        #expect(cluster.coordinator.fleet.serving == [1] && cluster.coordinator.fleet.workersInUse == 2)
        for index in 0..<6 {
            let request = Self.request(&cluster, prompt: Self.prompt(20, UInt64(index)))
            cluster.submit(request)
        }
        cluster.run(milliseconds: 60_000, until: Self.allOver)
        check(cluster)
    }

    @Test(arguments: [ReplicaCount.automatic, .exactly(3)]) func whoJoinsMakesOneMoreAndDisturbsNobody(replicas: ReplicaCount) {
        var cluster = Self.cluster(seed: 9, workers: 3, replicas: replicas) { $0.expectedWorkers = 2 }
        cluster.killWorker(2)
        cluster.run(milliseconds: 50, until: { $0.coordinator.fleet.serving.count == 2 })
        for index in 0..<8 {
            let request = Self.request(&cluster, prompt: Self.prompt(10, UInt64(index)), tokens: 100)
            cluster.submit(request)
        }
        cluster.run(microseconds: 1_000)
        let before = epochs(cluster)
        cluster.startWorker(2)
        cluster.run(milliseconds: 1_000, until: { $0.coordinator.fleet.serving.count == 3 })
        #expect(cluster.coordinator.fleet.serving == [0, 1, 2] && workers(cluster, of: 2) == [2])
        #expect(Array(epochs(cluster).prefix(2)) == before && cluster.coordinator.metrics.recoveries == 0)
        let late = Self.request(&cluster, prompt: Self.prompt(10, 99))
        cluster.submit(late)
        cluster.run(milliseconds: 10, until: { $0.coordinator.requests[late.id] != nil })
        #expect(home(of: late.id, cluster) == 2, "it has nothing to do yet")
        cluster.run(milliseconds: 60_000, until: Self.allOver)
        check(cluster)
        #expect(cluster.streams.values.allSatisfy { $0.pauses == 0 })
    }

    // MARK: - Routing

    @Test func aKnownBeginningIsFollowed() {
        var cluster = Self.cluster(seed: 11, workers: 2, replicas: .exactly(2))
        cluster.run(milliseconds: 50, until: { $0.coordinator.fleet.serving.count == 2 })
        let beginning = Self.prompt(96, 1)
        // The first goes to replica 0, so this one to replica 1.
        let other = Self.request(&cluster, prompt: Self.prompt(20, 2), tokens: 30)
        let first = Self.request(&cluster, prompt: beginning, tokens: 1)
        cluster.submit(other)
        cluster.submit(first)
        cluster.run(milliseconds: 10, until: { $0.coordinator.requests.count == 2 })
        #expect(home(of: other.id, cluster) == 0 && home(of: first.id, cluster) == 1)
        cluster.run(milliseconds: 10_000, until: Self.allOver)
        for index in 0..<4 {
            let request = Self.request(&cluster, prompt: beginning + Self.prompt(4, 100 + UInt64(index)), tokens: 2)
            cluster.submit(request)
            cluster.run(milliseconds: 10, until: { $0.coordinator.requests[request.id] != nil })
            #expect(home(of: request.id, cluster) == 1)
            cluster.run(milliseconds: 10_000, until: Self.allOver)
        }
        #expect(cluster.coordinator.fleet[1].scheduler.prefillPositionsShared == 4 * 96)
        #expect(cluster.coordinator.fleet[0].scheduler.prefillPositionsShared == 0)
        check(cluster)
    }

    /// Many with one beginning: the replica that has it is not drowned in them.
    @Test func aBeginningIsNotFollowedForEver() {
        var cluster = Self.cluster(seed: 12, workers: 2, replicas: .exactly(2)) { $0.kvBlocks = 400 }
        cluster.run(milliseconds: 50, until: { $0.coordinator.fleet.serving.count == 2 })
        for index in 0..<40 {
            let request = Self.request(&cluster, prompt: Self.prompt(32, 1) + Self.prompt(4, 100 + UInt64(index)), tokens: 60)
            cluster.submit(request)
        }
        cluster.run(microseconds: 3_000)
        let counts = cluster.coordinator.fleet.replicas.map(\.scheduler.openCount)
        #expect(counts.allSatisfy { $0 >= 10 }, "\(counts)")
        cluster.run(milliseconds: 60_000, until: Self.allOver)
        check(cluster)
        let shared = cluster.coordinator.fleet.replicas.reduce(0) { $0 + $1.scheduler.prefillPositionsShared }
        #expect(shared == 38 * 32, "each replica computes the beginning once")
    }

    @Test func choicesOfARequestStayTogether() {
        var cluster = Self.cluster(seed: 13, workers: 3, replicas: .exactly(3)) { $0.kvBlocks = 400 }
        cluster.run(milliseconds: 50, until: { $0.coordinator.fleet.serving.count == 3 })
        for index in 0..<6 {
            let request = Self.request(&cluster, prompt: Self.prompt(70, UInt64(index)), choices: 5)
            cluster.submit(request)
            cluster.run(milliseconds: 10, until: { $0.coordinator.requests[request.id] != nil })
            #expect(home(of: request.id, cluster) != nil, "all five in one replica")
        }
        #expect(cluster.coordinator.fleet.replicas.allSatisfy { $0.scheduler.openCount == 10 })
        cluster.run(milliseconds: 60_000, until: Self.allOver)
        check(cluster)
    }

    /// Blocks for one context each, and long prompts: who is first in line runs wherever there is room first.
    @Test(arguments: 40..<46) func aFullReplicaHoldsNobodyUp(seed: UInt64) {
        var cluster = Self.cluster(seed: seed, workers: 3, replicas: .exactly(3)) { settings in
            settings.kvBlocks = 4
            settings.stepsInFlightPerStage = 2
        }
        for _ in 0..<40 {
            cluster.submit(cluster.inventRequest())
            if cluster.numbers.oneIn(3) { cluster.run(microseconds: 500) }
            // A replica with room and a line that waits: never both.
            let backlog = cluster.coordinator.backlog
            for replica in cluster.coordinator.fleet.serving where backlog.count > 0 {
                #expect(cluster.coordinator.fleet[replica].scheduler.running.count > 0, "seed \(seed)")
            }
        }
        cluster.run(milliseconds: 120_000, until: Self.allOver)
        check(cluster)
        cluster.run(milliseconds: 1_000)
        checkRest(cluster)
    }

    /// One tenant's many do not keep another's few waiting, in whichever replica there is room first.
    @Test func tenantsShareTheReplicas() {
        var cluster = Self.cluster(seed: 15, workers: 2, replicas: .exactly(2)) { $0.sequencesRunningMax = 2 }
        cluster.run(milliseconds: 50, until: { $0.coordinator.fleet.serving.count == 2 })
        var ids: [[RequestID]] = [[], []]
        for (tenant, count) in [24, 3].enumerated() {
            for index in 0..<count {
                var request = Self.request(&cluster, prompt: Self.prompt(20, UInt64(index)))
                request.tenant = Tenant(UInt64(tenant))
                ids[tenant].append(request.id)
                cluster.submit(request)
            }
        }
        cluster.run(milliseconds: 10, until: { $0.coordinator.requests.count == 27 })
        let status = cluster.coordinator.status(at: cluster.now)
        #expect(status.tenants.map { $0.waiting + $0.running } == [24, 3] && status.expectedWaitMs > 0)
        cluster.run(milliseconds: 60_000) { cluster in ids[1].allSatisfy { cluster.streams[$0]!.isOver } }
        let before = ids[0].count { cluster.streams[$0]!.isOver }
        #expect(before >= 3 && before <= 10, "\(before) of the many were over before the few")
        cluster.run(milliseconds: 60_000, until: Self.allOver)
        check(cluster)
        cluster.run(milliseconds: 1_000)
        checkRest(cluster)
        let after = cluster.coordinator.status(at: cluster.now)
        #expect(after.expectedWaitMs == 0 && after.pipeline.stages.map(\.layers.lowerBound) == [0, 0])
        #expect(after.pipeline.stepsByRows.reduce(0, +) == after.stepsDone)
    }

    /// Left alone, a cluster that was patched together takes everybody in again. Which go together stays, where others would not be faster by much.
    @Test func whenNobodyWaitsTheWorkersAreDividedAnew() {
        // One worker can't hold the model, and the planner would make three replicas of pairs.
        var cluster = Self.cluster(seed: 14, workers: 6, replicas: .automatic) { $0.workerMemory = 4_500 }
        cluster.run(milliseconds: 100)
        let before = groups(cluster)
        #expect(before.count == 3)
        for victim in [workers(cluster, of: 0)[0], workers(cluster, of: 1)[0]] { cluster.killWorker(victim) }
        cluster.run(milliseconds: 6_000)
        // Two were left over: they are a replica now.
        #expect(cluster.coordinator.fleet.serving.count == 2 && cluster.coordinator.fleet.workersInUse == 4)
        for index in 0..<6 where !cluster.isUp(index) { cluster.startWorker(index) }
        cluster.run(milliseconds: 6_000)
        #expect(groups(cluster).map(\.count) == [2, 2, 2] && cluster.coordinator.fleet.serving.count == 3)
        for _ in 0..<8 { cluster.submit(cluster.inventRequest()) }
        cluster.run(milliseconds: 60_000, until: Self.allOver)
        check(cluster)
    }
}
