/// What a plan is predicted to do: times of its stages, tokens per second, time to a first token, and what is in the way.
package struct PlanForecast: Sendable {
    package struct Stage: Hashable, Sendable {
        package var worker: PeerKey
        package var layers: Range<Int>
        package var weightBytes: UInt64
        package var kvBytes: UInt64
        /// From its worker's disk for each step; 0 where all weights are in memory.
        package var streamedBytes: UInt64
        /// Of a decode step of the demand's rows.
        package var decode: StageCost.Parts
        /// Of a chunk of the demand's prefill rows in the middle of a prompt as long as the demand's context.
        package var prefill: StageCost.Parts
    }

    /// Why the slowest part of the pipeline is not faster.
    package enum Cause: String, Hashable, Sendable {
        case bandwidth, arithmetic, attention, overhead, wire, memory, disk
    }

    /// The stage whose turn is the longest; `nil` when hops are.
    package struct Bottleneck: Hashable, Sendable {
        package var stage: Int?
        package var cause: Cause
        package var seconds: Double
    }

    /// A predicted rate and the groups of streams that it needs in flight.
    package struct Throughput: Hashable, Sendable {
        package var tokensPerSecond: Double
        package var groups: Int
        package var rows: Int
    }

    package let plan: Plan
    package let demand: PlanDemand
    package private(set) var stages: [Stage] = []
    private let cost: StageCost
    /// In the plan's order.
    package let workers: [Planner.Candidate]

    /// - Parameter workers: the plan's at least, in any order.
    package init(plan: Plan, model: ModelProfile, workers: [Planner.Candidate], demand: PlanDemand) {
        self.plan = plan
        self.demand = demand
        cost = StageCost(model: model, demand: demand)
        self.workers = plan.stages.map { stage in
            guard let worker = workers.first(where: { $0.key == stage.worker }) else { preconditionFailure("a plan's stages come from its workers") }
            return worker
        }
        let context = contextMean
        let middle = StepLoad.prefill(rows: demand.prefillRows, start: context / 2, samples: false)
        for (index, stage) in plan.stages.enumerated() {
            stages.append(
                Stage(
                    worker: stage.worker, layers: stage.layers,
                    weightBytes: cost.weightBytes(stage.layers, hasHead: index == plan.stages.count - 1),
                    kvBytes: cost.kvBytes(blocks: plan.kvBlocks, layers: stage.layers.count),
                    streamedBytes: cost.streamedBytes(self.workers[index], stage.layers, hasHead: index == plan.stages.count - 1),
                    decode: parts(index, .decode(rows: demand.decodeRows, context: context)), prefill: parts(index, middle)))
        }
    }

    private var contextMean: Int { min(demand.contextMean, cost.model.contextTokens) }

    /// What stage `index` takes for a step.
    package func parts(_ index: Int, _ load: StepLoad) -> StageCost.Parts {
        cost.seconds(workers[index], plan.stages[index].layers, hasHead: index == plan.stages.count - 1, load)
    }

    // MARK: - Rates

    /// The pipeline's turn: of all stages and hops, what takes longest for a decode step.
    package var longestSeconds: Double { max(stages.map(\.decode.total).max() ?? 0, plan.stages.count > 1 ? cost.wireSeconds : 0) }

    /// Seconds from one result to the next while so many steps are in flight: a step's own way through the pipeline, shared, or the longest turn.
    package func intervalSeconds(_ load: StepLoad, inFlight: Int) -> Double {
        let times = plan.stages.indices.map { parts($0, load).total }
        let wire = plan.stages.count > 1 ? demand.wireSeconds(rows: load.rows, hidden: cost.model.hidden) : 0
        return max(wayThrough(times, rows: load.rows) / Double(max(1, inFlight)), times.max() ?? 0, wire)
    }

    /// Of streams that all decode at the demand's context, divided into as many groups as is fastest (see `StepShape`).
    package func throughput(streams: Int) -> Throughput {
        let most = max(1, min(streams, plan.stages.count))
        let all = (1...most).map { groups in
            let rows = (streams + groups - 1) / groups
            // A group comes round once all have had their turn.
            let interval = intervalSeconds(.decode(rows: rows, context: contextMean), inFlight: groups)
            return Throughput(tokensPerSecond: Double(streams) / (Double(groups) * interval), groups: groups, rows: rows)
        }
        return all.reduce(all[0]) { $1.tokensPerSecond > $0.tokensPerSecond ? $1 : $0 }
    }

    /// Of a prompt alone in the cluster: its chunks follow each other through the stages.
    package func firstTokenSeconds(promptTokens: Int) -> Double {
        let rows = max(1, demand.prefillRows)
        // When each stage is done with the chunk before.
        var free = [Double](repeating: 0, count: plan.stages.count)
        var done = 0.0
        for start in stride(from: 0, to: max(1, promptTokens), by: rows) {
            let count = min(rows, max(1, promptTokens) - start)
            let load = StepLoad.prefill(rows: count, start: start, samples: start + count >= promptTokens)
            done = demand.linkLatencySeconds
            for stage in plan.stages.indices {
                if stage > 0 { done += hopSeconds(rows: count) }
                done = max(done, free[stage]) + parts(stage, load).total
                free[stage] = done
            }
        }
        return done + demand.linkLatencySeconds
    }

    private func hopSeconds(rows: Int) -> Double { demand.wireSeconds(rows: rows, hidden: cost.model.hidden) + demand.linkLatencySeconds }

    /// From the coordinator through all stages and back.
    private func wayThrough(_ times: [Double], rows: Int) -> Double {
        times.reduce(0, +) + Double(times.count - 1) * hopSeconds(rows: rows) + 2 * demand.linkLatencySeconds
    }

    // MARK: - What is in the way

    /// - Parameter unbounded: the longest time that these workers would have if each had all the memory it wants (`Planner.solve` says); with it,
    ///   a cut that memory forced is told as such.
    package func bottleneck(unbounded: Double? = nil) -> Bottleneck {
        let longest = longestSeconds
        guard let stage = stages.indices.max(by: { stages[$0].decode.total < stages[$1].decode.total }), stages[stage].decode.total >= longest else {
            return Bottleneck(stage: nil, cause: .wire, seconds: longest)
        }
        if let unbounded, unbounded < longest * (1 - Self.memoryGainMin) { return Bottleneck(stage: stage, cause: .memory, seconds: longest) }
        return Bottleneck(stage: stage, cause: stages[stage].decode.largest, seconds: longest)
    }

    /// Memory is in the way when more of it would make the pipeline faster by this much.
    private static let memoryGainMin = 0.05
}
