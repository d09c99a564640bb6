/// How long a pipeline is predicted to take, with what was measured of its workers before (`SpeedCorrection`): what replicas are chosen and
/// requests routed by.
///
/// A stage's step of r rows takes a + r·b: a reads its weights once (bytes over the worker's measured bandwidth), b computes one row
/// (operations over its measured rate). With G groups of r = ⌈n/G⌉ rows each of n sequences gets a token once in
///
///     T(n) = min over G of max( Σ (a + r·b + hop),  G · max (a + r·b) )
///
/// which is `StepShape`'s choice of groups. Only the ratio of two forecasts decides anything, so one machine's error is everyone's.
package struct PipelineForecast: Hashable, Sendable {
    private struct Stage: Hashable, Sendable {
        var fixedSeconds: Double
        var rowSeconds: Double
    }

    /// Two operations a weight, of weights of 4.5 bits: what a byte of weights costs to compute for one row.
    static let operationsPerByte = 3.5
    /// From the end of a stage's computing to the start of the next one's.
    static let hopSeconds = 1e-4
    /// A sequence is reckoned to fill a quarter of the context.
    static let contextShare = 4

    private let stages: [Stage]
    /// So many sequences are reckoned to have room in the KV memory.
    private let sequencesMax: Int

    /// - Parameter workers: those of the plan's stages; others are not looked at.
    package init(_ plan: Plan, model: ModelProfile, contextTokens: Int, workers: [ReplicaPlanner.Candidate]) {
        stages = plan.stages.map { stage in
            guard let worker = workers.first(where: { $0.key == stage.worker }) else { preconditionFailure("stages come from workers") }
            let isLast = stage.layers.upperBound == model.layerBytes.count
            let bytes = Double(model.layerBytes[stage.layers].reduce(isLast ? model.headBytes : 0, +))
            return Stage(
                fixedSeconds: worker.correction * bytes / worker.readBytesPerSecond,
                rowSeconds: worker.correction * bytes * Self.operationsPerByte / worker.opsPerSecond)
        }
        let blocksOfContext = (contextTokens + Limits.positionsPerBlock - 1) / Limits.positionsPerBlock
        sequencesMax = max(1, plan.kvBlocks * Self.contextShare / max(1, blocksOfContext))
    }

    /// Seconds in which each of `sequences` sequences gets one token.
    package func interval(sequences: Int) -> Double {
        // Who finds no room waits for the others: so many turns.
        let together = min(sequences, sequencesMax)
        var shortest = Double.infinity
        for groups in 1...max(1, min(together, stages.count)) {
            let rows = Double((together + groups - 1) / groups)
            var (sum, longest) = (0.0, 0.0)
            for stage in stages {
                let time = stage.fixedSeconds + rows * stage.rowSeconds
                sum += time + Self.hopSeconds
                longest = max(longest, time)
            }
            shortest = min(shortest, max(sum, Double(groups) * longest))
        }
        return shortest * Double(sequences) / Double(max(1, together))
    }

    /// Seconds that `rows` rows of prompts keep the slowest stage busy: chunks follow each other through the stages.
    package func prefillSeconds(rows: Int) -> Double { Double(rows) * (stages.map(\.rowSeconds).max() ?? 0) }
}
