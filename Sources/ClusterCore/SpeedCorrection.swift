/// How much longer (or shorter) a worker's stages take than was predicted of them: the median of its last decode steps.
///
/// Kept by worker and not by stage, so that it outlives the plan. Ratios are taken to the prediction of the very step, so they don't depend on
/// rows, context or layers. While a worker computes, its correction stays what was measured last; of one that has no stage it fades, or a worker
/// that was slow once would never be tried again.
package struct SpeedCorrection: Hashable, Sendable {
    package static let least = 0.125
    package static let most = 64.0
    /// So many steps are remembered.
    package static let stepsMax = 64
    /// With fewer nothing is corrected: the first steps of an epoch fault pages in.
    package static let stepsMin = 16
    /// After so long without a stage a correction is forgotten.
    package static let fadeMs: UInt64 = 1_800_000

    /// A ring, once it is full.
    private var ratios: [Double] = []
    private var next = 0
    private var lastMeasured = Instant(nanoseconds: 0)

    package init() {}

    package mutating func note(measuredSeconds: Double, predictedSeconds: Double, at now: Instant) {
        guard measuredSeconds > 0, predictedSeconds > 0 else { return }
        let ratio = min(max(measuredSeconds / predictedSeconds, Self.least), Self.most)
        lastMeasured = now
        if ratios.count < Self.stepsMax { ratios.append(ratio) } else { ratios[next] = ratio }
        next = (next + 1) % Self.stepsMax
    }

    /// Its stage has ended: what was measured is true until now.
    package mutating func rest(at now: Instant) { lastMeasured = now }

    /// 1 where too little is known.
    ///
    /// - Parameter isComputing: whether the worker has a stage, and so would be measured.
    package func factor(at now: Instant, isComputing: Bool) -> Double {
        guard ratios.count >= Self.stepsMin else { return 1 }
        let median = ratios.sorted()[ratios.count / 2]
        guard !isComputing else { return median }
        let faded = Double(now.milliseconds(since: lastMeasured)) / Double(Self.fadeMs)
        return 1 + (median - 1) * max(0, 1 - faded)
    }
}
