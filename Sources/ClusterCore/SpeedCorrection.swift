/// How much longer (or shorter) a worker's stages take than was predicted of them: the median over windows of its last steps.
///
/// Windows and not single steps, because a worker that may use half a processor computes at full speed most of the time and then stands still
/// for a whole period of its quota: its median step looks healthy. A window is long enough for some periods. The median over windows leaves out
/// what happened once.
///
/// Kept by worker and not by stage, so that it outlives the plan. Ratios are taken to the prediction of the very step, so they don't depend on
/// rows, context or layers. While a worker computes, its correction stays what was measured last; of one that has no stage it fades, or a worker
/// that was slow once would never be tried again.
package struct SpeedCorrection: Hashable, Sendable {
    package static let least = 0.125
    package static let most = 64.0
    /// Of computing, in a window. Quotas are given for periods of 100 ms.
    package static let windowSeconds = 0.25
    package static let windowStepsMin = 4
    /// So many windows are remembered.
    package static let windowsMax = 15
    /// With fewer nothing is corrected: the first steps of an epoch fault pages in.
    package static let windowsMin = 4
    /// After so long without a stage a correction is forgotten.
    package static let fadeMs: UInt64 = 1_800_000

    private struct Window: Hashable, Sendable {
        var measured = 0.0
        var predicted = 0.0
        var steps = 0
    }

    private var open = Window()
    /// A ring, once it is full.
    private var ratios: [Double] = []
    private var next = 0
    private var lastMeasured = Instant(nanoseconds: 0)

    package init() {}

    package mutating func note(measuredSeconds: Double, predictedSeconds: Double, at now: Instant) {
        guard measuredSeconds > 0, predictedSeconds > 0 else { return }
        lastMeasured = now
        open.measured += measuredSeconds
        open.predicted += predictedSeconds
        open.steps += 1
        guard open.measured >= Self.windowSeconds, open.steps >= Self.windowStepsMin else { return }
        let ratio = min(max(open.measured / open.predicted, Self.least), Self.most)
        if ratios.count < Self.windowsMax { ratios.append(ratio) } else { ratios[next] = ratio }
        next = (next + 1) % Self.windowsMax
        open = Window()
    }

    /// Its stage has ended: what was measured is true until now.
    package mutating func rest(at now: Instant) {
        lastMeasured = now
        open = Window()
    }

    package var isKnown: Bool { ratios.count >= Self.windowsMin }

    /// 1 where too little is known.
    ///
    /// - Parameter isComputing: whether the worker has a stage, and so would be measured.
    package func factor(at now: Instant, isComputing: Bool) -> Double {
        guard ratios.count >= Self.windowsMin else { return 1 }
        let median = ratios.sorted()[ratios.count / 2]
        guard !isComputing else { return median }
        let faded = Double(now.milliseconds(since: lastMeasured)) / Double(Self.fadeMs)
        return 1 + (median - 1) * max(0, 1 - faded)
    }
}
