/// How long nothing may move before a step is given up, from what moving took lately.
///
/// While a stage computes, its worker says more often than layer by layer that it gets on, so its thread is stuck when that does not come for many
/// times what a layer took. Between two processes a step is lost when it does not arrive in a few times what the way took, all hops together.
/// Both have a floor, for what a busy machine may do to any thread and a busy network to any packet.
package struct StepPatience: Hashable, Sendable {
    /// A layer takes some products of different sizes, and the head counts for as many layers as its stage has.
    private static let layerFactor: UInt64 = 8
    private static let wayFactor: UInt64 = 4

    private var layers = LongestTimes()
    private var ways = LongestTimes()

    package init() {}

    /// - Parameters:
    ///   - stages: how many layers each stage has.
    ///   - wayNanoseconds: all hops of the step together.
    mutating func note(rows: Int, _ timings: [StageTiming], stages: [StagePlan], wayNanoseconds: UInt64) {
        guard timings.count == stages.count else { return }
        let slowest = zip(timings, stages).map { $0.computeNanoseconds / UInt64(max(1, $1.layers.count)) }.max()
        if let slowest { layers.note(rows: rows, nanoseconds: slowest) }
        ways.note(rows: rows, nanoseconds: wayNanoseconds)
    }

    /// Without a sign of work in the middle of a step.
    ///
    /// - Parameter isFirst: of its epoch: weights may still have to come from disk.
    func stuckMs(rows: Int, isFirst: Bool, _ configuration: CoordinatorConfiguration) -> UInt64 {
        guard let usual = layers.milliseconds(rows: rows, times: Self.layerFactor) else { return configuration.stepDeadlineUnmeasuredMs }
        let floor = isFirst ? configuration.stepDeadlineFloorMs : min(configuration.stuckDeadlineFloorMs, configuration.stepDeadlineFloorMs)
        return max(floor, usual)
    }

    /// On the way from one process to the next.
    ///
    /// - Parameter isFirst: of its epoch: the connection is made for it.
    func lostMs(rows: Int, isFirst: Bool, _ configuration: CoordinatorConfiguration) -> UInt64 {
        let floor = isFirst ? configuration.linkFirstFloorMs : configuration.linkDeadlineFloorMs
        return max(min(floor, configuration.stepDeadlineFloorMs), ways.milliseconds(rows: rows, times: Self.wayFactor) ?? 0)
    }
}
