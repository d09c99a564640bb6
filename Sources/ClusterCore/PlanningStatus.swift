/// How the plan in force does beside what was predicted of it.
package struct PlanningStatus: Hashable, Sendable {
    package struct Stage: Hashable, Sendable {
        package var worker: PeerKey
        /// What the plan counted with: the worker's stages took this times as long as its rates said.
        package var correction: Double
        /// Of the steps of late, on average; of a step of `rows` before any was measured.
        package var predictedSeconds: Double
        /// 0 before anything was measured.
        package var measuredSeconds: Double

        package init(worker: PeerKey, correction: Double, predictedSeconds: Double, measuredSeconds: Double) {
            self.worker = worker
            self.correction = correction
            self.predictedSeconds = predictedSeconds
            self.measuredSeconds = measuredSeconds
        }
    }

    /// In order.
    package var stages: [Stage]
    /// Of a step of late, on average.
    package var rows: Double
    /// While steps are in flight, all streams together.
    package var predictedTokensPerSecond: Double
    /// 0 before anything was measured.
    package var measuredTokensPerSecond: Double
    /// One sentence.
    package var bottleneck: String
    /// A cut that is better for the speeds that were measured, or empty.
    package var betterCut: String

    package init(
        stages: [Stage], rows: Double, predictedTokensPerSecond: Double, measuredTokensPerSecond: Double, bottleneck: String, betterCut: String
    ) {
        self.stages = stages
        self.rows = rows
        self.predictedTokensPerSecond = predictedTokensPerSecond
        self.measuredTokensPerSecond = measuredTokensPerSecond
        self.bottleneck = bottleneck
        self.betterCut = betterCut
    }
}
