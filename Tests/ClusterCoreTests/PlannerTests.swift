import Testing

@testable import ClusterCore

@Suite struct PlannerTests {
    private static func model(_ layerBytes: [UInt64], embedding: UInt64, head: UInt64, tied: Bool, kv: UInt64) -> ModelProfile {
        ModelProfile(
            digest: ModelDigest(bytes: [UInt8](repeating: 1, count: 32))!, name: "m", layerBytes: layerBytes, embeddingBytes: embedding,
            headBytes: head, headIsTied: tied, hidden: 8, vocabulary: 100, contextTokens: 64, kvBytesPerTokenPerLayer: kv, endTokens: [])
    }

    private static func key(_ index: Int) -> PeerKey { ToyCluster.key(index) }

    private struct Problem {
        var model: ModelProfile
        var workers: [Planner.Candidate]
        var contextTokens: Int
        var demand: PlanDemand
        let cost: StageCost

        init(model: ModelProfile, workers: [Planner.Candidate], contextTokens: Int, demand: PlanDemand = PlanDemand()) {
            self.model = model
            self.workers = workers
            self.contextTokens = contextTokens
            self.demand = demand
            cost = StageCost(model: model, demand: demand)
        }

        func stageTime(_ worker: Planner.Candidate, _ layers: Range<Int>) -> Double {
            let head = layers.upperBound == model.layerBytes.count
            let time = cost.decodeSeconds(worker, layers, hasHead: head)
            return layers.count == model.layerBytes.count ? time : max(time, demand.wireSeconds(rows: demand.decodeRows, hidden: model.hidden))
        }

        func solve() -> Result<Planner.Solution, Failure> {
            Planner.solve(model: model, workers: workers, contextTokens: contextTokens, kvBlocksMax: 10, demand: demand)
        }

        func memory(_ layers: Range<Int>, blocks: Int) -> UInt64 {
            let (first, last) = (layers.lowerBound == 0, layers.upperBound == model.layerBytes.count)
            var bytes = model.layerBytes[layers].reduce(0, +) + UInt64(layers.count * blocks * 32) * model.kvBytesPerTokenPerLayer
            if first { bytes += model.embeddingBytes }
            if last && !(first && model.headIsTied) { bytes += model.headBytes }
            return bytes + model.arithmetic.workspaceBytes + (last ? model.arithmetic.headWorkspaceBytes : 0)
        }

        /// Every way to give the layers to the workers, in every order, each having some or none: the shortest longest stage time.
        func bestByTryingAll() -> Double? {
            let minBlocks = (contextTokens + 31) / 32
            func best(_ left: [Planner.Candidate], from start: Int) -> Double? {
                if start == model.layerBytes.count { return 0 }
                var result: Double?
                for (index, worker) in left.enumerated() {
                    var others = left
                    others.remove(at: index)
                    for end in start + 1...model.layerBytes.count where memory(start..<end, blocks: minBlocks) <= worker.memoryBytes {
                        guard let rest = best(others, from: end) else { continue }
                        let longest = max(rest, stageTime(worker, start..<end))
                        result = min(result ?? longest, longest)
                    }
                }
                return result
            }
            return best(workers, from: 0)
        }
    }

    private static func problem(seed: UInt64) -> Problem {
        var numbers = SeededNumbers(seed: seed)
        let even = numbers.oneIn(3)
        let layers = (0..<Int.random(in: 1...7, using: &numbers)).map { _ in even ? 50 : UInt64.random(in: 1...100, using: &numbers) }
        var model = model(
            layers, embedding: UInt64.random(in: 0...150, using: &numbers), head: UInt64.random(in: 0...150, using: &numbers),
            tied: numbers.oneIn(2), kv: UInt64.random(in: 0...1, using: &numbers))
        let workers = (0..<Int.random(in: 1...5, using: &numbers)).map { index in
            Planner.Candidate(
                key: key((index * 37) % 200), memoryBytes: UInt64.random(in: 50...1_200, using: &numbers),
                readBytesPerSecond: Double.random(in: 1...20, using: &numbers), opsPerSecond: Double.random(in: 1...200, using: &numbers),
                correction: numbers.oneIn(3) ? Double.random(in: 0.5...4, using: &numbers) : 1)
        }
        // Bytes only, or everything.
        var demand = PlanDemand()
        demand.contextMean = Int.random(in: 1...64, using: &numbers)
        guard numbers.oneIn(2) else { return Problem(model: model, workers: workers, contextTokens: 64, demand: demand) }
        func products(_ bytes: UInt64) -> ModelArithmetic.Products {
            let floats = UInt64.random(in: 0...bytes, using: &numbers)
            return ModelArithmetic.Products(int8Weights: 2 * (bytes - floats), floatWeights: floats / 4, floatBytes: floats)
        }
        model.arithmetic = ModelArithmetic(
            layers: layers.map(products), head: products(model.headBytes), queryWidth: Int.random(in: 0...4, using: &numbers),
            workspaceBytes: UInt64.random(in: 0...30, using: &numbers), headWorkspaceBytes: UInt64.random(in: 0...30, using: &numbers))
        demand.decodeRows = Int.random(in: 1...16, using: &numbers)
        // Hops that take from nothing to more than a stage.
        demand.linkBytesPerSecond = PlanDemand.linkBytesPerSecondMin * Double.random(in: 1...100, using: &numbers)
        if numbers.oneIn(4) { model.hidden = Int.random(in: 8...2_000, using: &numbers) }
        return Problem(model: model, workers: workers, contextTokens: 64, demand: demand)
    }

    @Test func plansAreSoundAndAsShortAsTryingAllFinds() {
        var fitting = 0
        for seed in UInt64(0)..<600 {
            let problem = Self.problem(seed: seed)
            let best = problem.bestByTryingAll()
            switch problem.solve() {
            case .failure(let failure):
                #expect(best == nil && failure.code == .noCapacity, "seed \(seed)")
            case .success(let solution):
                let plan = solution.plan
                fitting += 1
                #expect(
                    plan.stages.first?.layers.lowerBound == 0 && plan.stages.last?.layers.upperBound == problem.model.layerBytes.count, "seed \(seed)"
                )
                #expect(
                    zip(plan.stages, plan.stages.dropFirst()).allSatisfy { $0.layers.upperBound == $1.layers.lowerBound },
                    "seed \(seed)")
                #expect(plan.stages.allSatisfy { !$0.layers.isEmpty }, "seed \(seed)")
                #expect(Set(plan.stages.map(\.worker)).count == plan.stages.count, "seed \(seed)")
                #expect((2...10).contains(plan.kvBlocks), "seed \(seed)")
                var longest = 0.0
                for stage in plan.stages {
                    let worker = problem.workers.first { $0.key == stage.worker }!
                    #expect(problem.memory(stage.layers, blocks: plan.kvBlocks) <= worker.memoryBytes, "seed \(seed)")
                    longest = max(longest, problem.stageTime(worker, stage.layers))
                }
                #expect(best.map { longest <= $0 * (1 + 1e-9) } == true, "seed \(seed): \(longest), best \(String(describing: best))")
                #expect(abs(solution.longestSeconds - longest) <= longest * 1e-9 && solution.gapMax == 0, "seed \(seed)")
            }
        }
        #expect(fitting > 150, "most problems should have an answer")
    }

    @Test func orderOfWorkersDoesNotMatter() {
        for seed in UInt64(0)..<200 {
            var problem = Self.problem(seed: seed)
            let given = problem.solve()
            var numbers = SeededNumbers(seed: seed)
            problem.workers.shuffle(using: &numbers)
            #expect(given == problem.solve(), "seed \(seed)")
        }
    }

    @Test func theBoundIsNeverAboveTheBest() {
        var (met, fitting) = (0, 0)
        for seed in UInt64(0)..<400 {
            let problem = Self.problem(seed: seed)
            let planner = Planner(problem.workers, of: problem.model, problem.contextTokens, problem.demand)
            let bound = planner.boundSeconds()
            guard let best = problem.bestByTryingAll() else { continue }
            fitting += 1
            #expect(bound > 0 && bound <= best * (1 + 1e-9), "seed \(seed): \(bound) above \(best)")
            if bound >= best * (1 - 1e-9) { met += 1 }
            // What is found without looking at all orders is a plan, and so no better than the best.
            if problem.workers.count > 1, let tried = planner.bestOfTriedOrders() { #expect(tried.time >= best * (1 - 1e-9), "seed \(seed)") }
        }
        #expect(fitting > 100 && met * 2 > fitting, "the bound is met in \(met) of \(fitting)")
    }

    @Test func layersOfOneSizeArePlannedExactlyBeyondTheExact() throws {
        let model = Self.model([UInt64](repeating: 500 << 20, count: 64), embedding: 600 << 20, head: 700 << 20, tied: false, kv: 4_096)
        for seed in UInt64(0)..<2 {
            var numbers = SeededNumbers(seed: seed)
            let workers = (0..<15).map {
                Planner.Candidate(
                    key: Self.key($0), memoryBytes: UInt64.random(in: 2...24, using: &numbers) << 30,
                    readBytesPerSecond: Double.random(in: 5e9...60e9, using: &numbers))
            }
            let solution = try Planner.solve(model: model, workers: workers, contextTokens: 4_096, kvBlocksMax: 8_192).get()
            #expect(solution.gapMax < 1e-6, "seed \(seed): \(solution.gapMax)")
            let shuffled = try Planner.solve(model: model, workers: workers.shuffled(using: &numbers), contextTokens: 4_096, kvBlocksMax: 8_192).get()
            #expect(shuffled == solution, "seed \(seed)")
        }
    }

    @Test func equalWorkersGetEqualShares() throws {
        let model = Self.model([UInt64](repeating: 100, count: 12), embedding: 0, head: 0, tied: false, kv: 1)
        let workers = (0..<4).map { Planner.Candidate(key: Self.key($0), memoryBytes: 1 << 40, readBytesPerSecond: 1e9) }
        let plan = try Planner.plan(model: model, workers: workers, contextTokens: 64, kvBlocksMax: 500).get()
        #expect(plan.stages.map(\.layers) == [0..<3, 3..<6, 6..<9, 9..<12])
        #expect(plan.kvBlocks == 500)
    }

    @Test func theSlowOneDoesNotGetTheHead() throws {
        let model = Self.model([UInt64](repeating: 100, count: 9), embedding: 0, head: 400, tied: false, kv: 1)
        let workers = (0..<3).map { Planner.Candidate(key: Self.key($0), memoryBytes: 1 << 40, readBytesPerSecond: $0 == 2 ? 1e9 : 4e9) }
        let plan = try Planner.plan(model: model, workers: workers, contextTokens: 64, kvBlocksMax: 500).get()
        #expect(plan.stages.last?.worker != Self.key(2) && plan.stages.count == 3)
    }

    @Test func beyondTheExactTheBoundIsClose() throws {
        let model = Self.model([UInt64](repeating: 1 << 30, count: 120), embedding: 1 << 30, head: 2 << 30, tied: false, kv: 4_096)
        let workers = (0..<20).map { Planner.Candidate(key: Self.key($0), memoryBytes: 64 << 30, readBytesPerSecond: 1e9 * Double(1 + $0 % 4)) }
        let plan = try Planner.plan(model: model, workers: workers, contextTokens: 8_192, kvBlocksMax: 8_192).get()
        let problem = Problem(model: model, workers: workers, contextTokens: 8_192)
        let longest = plan.stages.map { stage in problem.stageTime(workers.first { $0.key == stage.worker }!, stage.layers) }.max()!
        // If layers could be split at will.
        let bound = Double(122 << 30) / StageCost.readShare / workers.reduce(0) { $0 + $1.readBytesPerSecond }
        #expect(longest >= bound && longest < 1.25 * bound, "\(longest) against \(bound)")
    }

    @Test func spareWorkersAreUsedWhenThatCostsNothing() throws {
        // Two layers bound the time whatever is done; the third and fourth worker still take theirs.
        let model = Self.model([100, 1, 1, 100], embedding: 0, head: 0, tied: false, kv: 1)
        let workers = (0..<4).map { Planner.Candidate(key: Self.key($0), memoryBytes: 1 << 40, readBytesPerSecond: 1e9) }
        let plan = try Planner.plan(model: model, workers: workers, contextTokens: 64, kvBlocksMax: 500).get()
        #expect(plan.stages.count == 4)
    }

    @Test func failureSaysWhatIsMissing() {
        let model = Self.model([1_000, 1_000], embedding: 100, head: 100, tied: true, kv: 1)
        // Weights 2,100, KV for 64 positions of 2 layers 128.
        let short = Planner.plan(
            model: model, workers: [.init(key: Self.key(0), memoryBytes: 2_000, readBytesPerSecond: 1)], contextTokens: 64, kvBlocksMax: 8)
        guard case .failure(let failure) = short else {
            Issue.record("2,000 bytes are too few")
            return
        }
        #expect(failure.message.contains("228 bytes are missing"), "\(failure.message)")

        let halves = (0..<4).map { Planner.Candidate(key: Self.key($0), memoryBytes: 900, readBytesPerSecond: 1) }
        guard case .failure(let cut) = Planner.plan(model: model, workers: halves, contextTokens: 64, kvBlocksMax: 8) else {
            Issue.record("no worker holds a layer")
            return
        }
        #expect(cut.message.contains("layers cannot be split"), "\(cut.message)")

        guard case .failure(let none) = Planner.plan(model: model, workers: [], contextTokens: 64, kvBlocksMax: 8) else {
            Issue.record("nobody is there")
            return
        }
        #expect(none.message.contains("no worker"), "\(none.message)")
    }

    @Test func absurdMeasurementsAreTaken() throws {
        let model = Self.model([10, 10], embedding: 1, head: 1, tied: true, kv: 1)
        for rate in [Double.nan, .infinity, -.infinity, 0, -5, .greatestFiniteMagnitude] {
            let workers = [
                Planner.Candidate(key: Self.key(0), memoryBytes: .max, readBytesPerSecond: rate),
                Planner.Candidate(key: Self.key(1), memoryBytes: .max, readBytesPerSecond: 100)
            ]
            let plan = try Planner.plan(model: model, workers: workers, contextTokens: 64, kvBlocksMax: 8).get()
            #expect(plan.stages.last?.layers.upperBound == 2)
        }
    }

    @Test func largestProblemIsPlanned() throws {
        let model = Self.model([UInt64](repeating: 1 << 30, count: 128), embedding: 1 << 30, head: 1 << 30, tied: false, kv: 4_096)
        let workers = (0..<12).map { Planner.Candidate(key: Self.key($0), memoryBytes: 64 << 30, readBytesPerSecond: 1e9 * Double(1 + $0 % 3)) }
        let plan = try Planner.plan(model: model, workers: workers, contextTokens: 8_192, kvBlocksMax: 8_192).get()
        #expect(plan.stages.count == 12)
    }
}
