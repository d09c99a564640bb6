/// How many pipelines the workers make.
package enum ReplicaCount: Hashable, Sendable {
    /// As many as are predicted to give the most tokens a second; one pipeline where that is as good.
    case automatic
    /// So many, or as many of them as the workers suffice for. At least one.
    case exactly(Int)
}

/// Divides workers into replicas of the pipeline: a pure function of the model and the workers, on top of `Planner`, which cuts the layers for
/// each group of workers.
///
/// Every replica has the whole model and KV memory for at least one context. What counts is the number of tokens a second in all when
/// `batch` sequences run, spread as requests are routed; of equals, the time between one stream's tokens. More replicas have to be better than
/// fewer by `gainMin`: fewer have more KV memory, find more beginnings in it, and share the work of a long prompt; and predictions are not exact.
///
/// Times are those of `PlanForecast`, with what was measured of the workers and between them.
///
/// Where a model can be cut evenly, replicas win nothing in theory: S stages with S groups read as many bytes and compute as many rows as S
/// workers that have all layers. They win where it can't (few layers for many workers, a heavy head) and where hops weigh as much as layers.
///
/// Every division is tried for up to `exactWorkersMax` workers; beyond, for a bounded number of counts, workers are dealt out so that the groups have
/// about the same speed or else about the same memory.
///
/// Workers of one machine stay together where the number is chosen here: they share its memory's bandwidth and often its caches, so as
/// replicas each would read all weights in the time in which as stages each reads its part, and the weights would be in memory twice.
package struct ReplicaPlanner: Sendable {
    package typealias Candidate = Planner.Candidate

    package static let exactWorkersMax = 6
    /// By so much more replicas must be better than fewer.
    package static let gainMin = 0.1
    /// Numbers of replicas that are tried for many workers.
    static let countsTried = Array(1...12) + [16, 24, 32, 48, 64]

    private let model: ModelProfile
    private let contextTokens: Int
    private let kvBlocksMax: Int
    private let batch: Int
    private let demand: PlanDemand

    /// - Parameters:
    ///   - contextTokens: each replica's KV memory must hold at least one sequence of so many positions.
    ///   - kvBlocksMax: of each replica.
    ///   - batch: sequences that run at once in all.
    ///   - demand: what each replica's layers are cut for.
    package init(model: ModelProfile, contextTokens: Int, kvBlocksMax: Int, batch: Int, demand: PlanDemand = PlanDemand()) {
        precondition(batch > 0, "a prediction is about some sequences")
        self.model = model
        self.contextTokens = contextTokens
        self.kvBlocksMax = kvBlocksMax
        self.batch = batch
        self.demand = demand
    }

    // MARK: - How many

    /// As many replicas as are predicted to be best, in order of their first worker's key; or why not even one fits.
    package func best(of workers: [Candidate], atMost count: Int) -> Result<[Plan], Failure> {
        found(among: workers, inUnits: Self.machines) { search, all in
            var best = all
            for count in search.counts(upTo: count) where count > 1 {
                if let division = search.best(count), division.isWorthMore(than: best) { best = division }
            }
            return best
        }
    }

    /// `count` replicas, or as many as there can be.
    package func most(of workers: [Candidate], atMost count: Int) -> Result<[Plan], Failure> {
        found(among: workers, inUnits: { $0.map { [$0] } }) { search, all in
            for count in search.counts(upTo: count).reversed() where count > 1 {
                if let division = search.best(count) { return division }
            }
            return all
        }
    }

    /// In order of their first worker's key.
    private static func machines(_ workers: [Candidate]) -> [[Candidate]] {
        var units: [[Candidate]] = []
        for worker in workers {
            if worker.machine != 0, let index = units.firstIndex(where: { $0[0].machine == worker.machine }) {
                units[index].append(worker)
            } else {
                units.append([worker])
            }
        }
        return units
    }

    private func found(
        among workers: [Candidate], inUnits units: ([Candidate]) -> [[Candidate]], _ choose: (inout DivisionSearch, Division) -> Division
    ) -> Result<[Plan], Failure> {
        let workers = workers.sorted { $0.key < $1.key }
        return plan(over: workers).map { plan in
            let all = division([pipeline(plan, of: workers)])
            var search = DivisionSearch(planner: self, units: units(workers))
            return choose(&search, all).pipelines.map(\.plan)
        }
    }

    /// Tokens a second in all, of pipelines over these workers as they are.
    package func tokensPerSecond(of plans: [Plan], workers: [Candidate]) -> Double {
        division(plans.map { pipeline($0, of: workers) }).tokensPerSecond
    }

    // MARK: - What one is worth

    /// A group's plan and its T(1), T(2), …, T(batch).
    struct Pipeline {
        let plan: Plan
        let intervals: [Double]
    }

    struct Division {
        let pipelines: [Pipeline]
        let tokensPerSecond: Double
        /// Between the tokens of a stream that is alone.
        let secondsPerToken: Double

        /// Of the same number of replicas.
        func isBetter(than other: Division) -> Bool {
            if tokensPerSecond > other.tokensPerSecond * (1 + 1e-9) { return true }
            return tokensPerSecond >= other.tokensPerSecond * (1 - 1e-9) && secondsPerToken < other.secondsPerToken * (1 - 1e-9)
        }

        /// Of more replicas than `fewer` has.
        func isWorthMore(than fewer: Division) -> Bool { tokensPerSecond > fewer.tokensPerSecond * (1 + ReplicaPlanner.gainMin) }
    }

    func plan(over workers: [Candidate]) -> Result<Plan, Failure> {
        Planner.plan(model: model, workers: workers, contextTokens: contextTokens, kvBlocksMax: kvBlocksMax, demand: demand)
    }

    func pipeline(_ plan: Plan, of workers: [Candidate]) -> Pipeline {
        let forecast = PipelineForecast(plan, model: model, contextTokens: contextTokens, workers: workers, demand: demand)
        return Pipeline(plan: plan, intervals: (1...batch).map { forecast.interval(sequences: $0) })
    }

    /// One sequence after the other goes where its tokens come fastest, as the router does it.
    func division(_ pipelines: [Pipeline]) -> Division {
        var running = [Int](repeating: 0, count: pipelines.count)
        for _ in 0..<batch {
            var fastest = 0
            for index in running.indices where pipelines[index].intervals[running[index]] < pipelines[fastest].intervals[running[fastest]] {
                fastest = index
            }
            running[fastest] += 1
        }
        let rate = zip(pipelines, running).reduce(0.0) { $0 + ($1.1 == 0 ? 0 : Double($1.1) / $1.0.intervals[$1.1 - 1]) }
        return Division(pipelines: pipelines, tokensPerSecond: rate, secondsPerToken: pipelines.map { $0.intervals[0] }.min() ?? .infinity)
    }

    /// What the whole model and KV for one context take, wherever the cuts are; a tied head counts once.
    var bytesMin: UInt64 {
        let weights = model.layerBytes.reduce(model.embeddingBytes, +) + (model.headIsTied ? 0 : model.headBytes)
        let blocks = (contextTokens + Limits.positionsPerBlock - 1) / Limits.positionsPerBlock
        return weights + model.kvBytesPerTokenPerLayer * UInt64(blocks * Limits.positionsPerBlock * model.layerBytes.count)
    }
}
