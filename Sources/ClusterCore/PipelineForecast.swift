/// How long a pipeline is predicted to take, in the terms by which replicas are chosen and requests routed: `PlanForecast`'s times, with all that was
/// measured of its workers, and the room of its KV memory.
package struct PipelineForecast: Sendable {
    /// A sequence is reckoned to fill a quarter of the context.
    static let contextShare = 4

    private let forecast: PlanForecast
    /// So many sequences are reckoned to have room in the KV memory.
    private let sequencesMax: Int
    private let prefillRowSeconds: Double

    /// - Parameter workers: those of the plan's stages; others are not looked at.
    package init(_ plan: Plan, model: ModelProfile, contextTokens: Int, workers: [ReplicaPlanner.Candidate], demand: PlanDemand) {
        self.init(PlanForecast(plan: plan, model: model, workers: workers, demand: demand), contextTokens: contextTokens)
    }

    package init(_ forecast: PlanForecast, contextTokens: Int) {
        self.forecast = forecast
        let blocksOfContext = (contextTokens + Limits.positionsPerBlock - 1) / Limits.positionsPerBlock
        sequencesMax = max(1, forecast.plan.kvBlocks * Self.contextShare / max(1, blocksOfContext))
        prefillRowSeconds = (forecast.stages.map(\.prefill.total).max() ?? 0) / Double(max(1, forecast.demand.prefillRows))
    }

    /// Seconds in which each of `sequences` sequences gets one token.
    package func interval(sequences: Int) -> Double {
        // Who finds no room waits for the others: so many turns.
        let together = max(1, min(sequences, sequencesMax))
        return Double(sequences) / forecast.throughput(streams: together).tokensPerSecond
    }

    /// Seconds that `rows` rows of prompts keep the slowest stage busy: chunks follow each other through the stages.
    package func prefillSeconds(rows: Int) -> Double { Double(rows) * prefillRowSeconds }
}
