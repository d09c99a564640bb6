import Testing

@testable import ClusterCore

@Suite struct ReplicaPlannerTests {
    private static func model(layers: Int, layerBytes: UInt64 = 1_000_000, head: UInt64 = 0, kv: UInt64 = 100) -> ModelProfile {
        var model = ModelProfile(
            digest: ModelDigest(bytes: [UInt8](repeating: 1, count: 32))!, name: "m",
            layerBytes: [UInt64](repeating: layerBytes, count: layers), embeddingBytes: head, headBytes: head, headIsTied: true, hidden: 8,
            vocabulary: 100, contextTokens: 64, kvBytesPerTokenPerLayer: kv, endTokens: [])
        // Weights of four and a half bits.
        model.arithmetic.layers = model.layerBytes.map { .init(int8Weights: $0 * 16 / 9) }
        model.arithmetic.head = .init(int8Weights: head * 16 / 9)
        return model
    }

    /// Slow enough that hops don't count.
    private static func worker(_ index: Int, memory: UInt64 = 1 << 40, speed: Double = 1e7) -> ReplicaPlanner.Candidate {
        ReplicaPlanner.Candidate(key: ToyCluster.key(index), memoryBytes: memory, readBytesPerSecond: speed, opsPerSecond: 8 * speed)
    }

    private static func planner(_ model: ModelProfile, batch: Int = 16) -> ReplicaPlanner {
        ReplicaPlanner(model: model, contextTokens: 64, kvBlocksMax: 1_000, batch: batch)
    }

    private func groups(_ result: Result<[Plan], Failure>) throws -> [Int] { try result.get().map(\.stages.count) }

    @Test func onePipelineWhereTheModelCanBeCutEvenly() throws {
        let workers = (0..<4).map { Self.worker($0) }
        #expect(try groups(Self.planner(Self.model(layers: 32)).best(of: workers, atMost: 64)) == [4])
        // Nor does it matter how fast each worker is.
        let uneven = [1.0, 0.5, 2, 1.3].enumerated().map { Self.worker($0.offset, speed: $0.element * 1e7) }
        #expect(try groups(Self.planner(Self.model(layers: 64)).best(of: uneven, atMost: 64)) == [4])
    }

    @Test func replicasWhereItCannot() throws {
        // Four stages of six layers: the longest has two. Two replicas of two stages have three each.
        let four = (0..<4).map { Self.worker($0) }
        #expect(try groups(Self.planner(Self.model(layers: 6)).best(of: four, atMost: 64)) == [2, 2])
        // A head as heavy as the layers together: nobody shares its work but replicas.
        #expect(try groups(Self.planner(Self.model(layers: 8, head: 12_000_000)).best(of: four, atMost: 64)) == [1, 1, 1, 1])
        // Where layers are so small that hops take longer, each worker for itself.
        let fast = (0..<3).map { Self.worker($0, speed: 1e12) }
        #expect(try groups(Self.planner(Self.model(layers: 30)).best(of: fast, atMost: 64)) == [1, 1, 1])
        #expect(try groups(Self.planner(Self.model(layers: 30)).best(of: fast, atMost: 2)).count == 2)
    }

    /// Two boxes with two workers each: a replica a box where hops weigh most, never two in one box.
    @Test func workersOfOneMachineStayTogether() throws {
        var fast = (0..<4).map { Self.worker($0, speed: 1e12) }
        #expect(try groups(Self.planner(Self.model(layers: 30)).best(of: fast, atMost: 64)) == [1, 1, 1, 1])
        for index in fast.indices { fast[index].machine = UInt64(7 + index % 2) }
        let two = try Self.planner(Self.model(layers: 30)).best(of: fast, atMost: 64).get()
        #expect(two.map { Set($0.stages.map(\.worker)) } == [[ToyCluster.key(0), ToyCluster.key(2)], [ToyCluster.key(1), ToyCluster.key(3)]])
        for index in fast.indices { fast[index].machine = 7 }
        #expect(try groups(Self.planner(Self.model(layers: 30)).best(of: fast, atMost: 64)) == [4])
        // Who asks for two gets two.
        #expect(try groups(Self.planner(Self.model(layers: 30)).most(of: fast, atMost: 2)).count == 2)
    }

    /// What was measured between the stages counts: over slow hops each for itself, where quick ones make one pipeline as good.
    @Test func measuredHopsDecide() throws {
        let workers = (0..<2).map { Self.worker($0, speed: 1e9) }
        func replicas(hop: Double) throws -> Int {
            var demand = PlanDemand()
            demand.linkLatencySeconds = hop
            return try ReplicaPlanner(model: Self.model(layers: 10), contextTokens: 64, kvBlocksMax: 1_000, batch: 16, demand: demand)
                .best(of: workers, atMost: 2).get().count
        }
        // A token takes 11 ms.
        #expect(try replicas(hop: 1e-4) == 1)
        #expect(try replicas(hop: 1e-2) == 2)
    }

    @Test func everyReplicaHoldsTheModel() throws {
        let model = Self.model(layers: 6)
        // One worker holds four layers and a context of them.
        let memory: UInt64 = 4 * (1_000_000 + 64 * 100)
        let five = (0..<5).map { Self.worker($0, memory: memory) }
        let planner = Self.planner(model)
        #expect(try groups(planner.most(of: five, atMost: 5)).count == 2)
        #expect(try groups(planner.most(of: five, atMost: 1)).count == 1)
        #expect(try groups(planner.most(of: Array(five.prefix(3)), atMost: 5)) == [3])
        guard case .failure(let failure) = planner.best(of: [five[0]], atMost: 5) else { Issue.record("one worker is too small"); return }
        #expect(failure.code == .noCapacity)
    }

    /// Disjoint groups, each with the whole model; the same whatever the order of the workers; no worse than any division at random.
    @Test(arguments: 0..<12) func soundAndNoWorseThanOthers(seed: UInt64) throws {
        var numbers = SeededNumbers(seed: seed)
        let model = Self.model(layers: Int.random(in: 3...9, using: &numbers), head: UInt64.random(in: 0...4_000_000, using: &numbers))
        let workers = (0..<Int.random(in: 1...5, using: &numbers)).map {
            Self.worker($0, memory: UInt64.random(in: 3_000_000...20_000_000, using: &numbers), speed: Double.random(in: 2e6...2e7, using: &numbers))
        }
        let planner = Self.planner(model, batch: Int.random(in: 1...20, using: &numbers))
        let count = Int.random(in: 1...workers.count, using: &numbers)
        let found = planner.most(of: workers, atMost: count)
        #expect(found == planner.most(of: workers.shuffled(using: &numbers), atMost: count), "seed \(seed)")
        guard case .success(let plans) = found else { return }
        check(plans, of: model, seed: seed)
        let rate = planner.division(plans.map { planner.pipeline($0, of: workers) }).tokensPerSecond
        for _ in 0..<30 {
            var random = [[ReplicaPlanner.Candidate]](repeating: [], count: plans.count)
            for worker in workers { random[Int.random(in: random.indices, using: &numbers)].append(worker) }
            let pipelines = random.compactMap { group in try? planner.pipeline(planner.plan(over: group).get(), of: group) }
            guard pipelines.count == plans.count else { continue }
            #expect(planner.division(pipelines).tokensPerSecond <= rate * (1 + 1e-6), "seed \(seed)")
        }
    }

    @Test func manyWorkersAreDealtOut() throws {
        var numbers = SeededNumbers(seed: 5)
        let model = Self.model(layers: 6)
        let workers = (0..<24).map { Self.worker($0, memory: 4_500_000, speed: Double.random(in: 1e7...3e7, using: &numbers)) }
        let planner = Self.planner(model, batch: 64)
        let most = try planner.most(of: workers, atMost: 12).get()
        check(most, of: model, seed: 5)
        #expect(most.count == 12)
        // One pipeline has no use for more workers than layers.
        let best = try planner.best(of: workers, atMost: 12).get()
        check(best, of: model, seed: 5)
        #expect(best.count > 1)
    }

    private func check(_ plans: [Plan], of model: ModelProfile, seed: UInt64) {
        let used = plans.flatMap { $0.stages.map(\.worker) }
        #expect(Set(used).count == used.count, "seed \(seed)")
        for plan in plans {
            #expect(plan.stages.first?.layers.lowerBound == 0 && plan.stages.last?.layers.upperBound == model.layerBytes.count, "seed \(seed)")
            #expect(zip(plan.stages, plan.stages.dropFirst()).allSatisfy { $0.layers.upperBound == $1.layers.lowerBound }, "seed \(seed)")
            #expect(plan.kvBlocks >= 2, "seed \(seed)")
        }
    }
}
