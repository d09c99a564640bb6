/// How many groups decoding sequences are divided into, and how many prefill rows may join a step, from what the stages were measured to take.
///
/// Groups that follow each other through the stages keep all of them at work; but each group reads all weights again. With G groups of r rows,
/// where stage s takes t_s(r), every sequence gets a token once in
///
///     T(G) = max( t_1(r) + … + t_S(r),  G · max t_s(r) )
///
/// which is a group's own way through the pipeline, or the longest stage's turn with every group, whichever is longer. t_s is what it takes alone
/// for G = 1 and what it takes in a crowd for others (`StagePace`).
///
/// Whoever comes waits for the steps that are in flight, so these must not be longer than they need be: from some rows on a step takes in proportion
/// to them, and smaller steps bring as many tokens. Groups whose steps take more than `longStepMax` times as long as one row are therefore
/// divided further, as long as that lengthens T by no more than `calmCostMax`.
package struct StepShape: Sendable {
    /// By stage: steps in which every row is sampled (decoding), and all others.
    private var decode: [StagePace]
    private var mixed: [StageCurve]
    /// Steps that rebuild, all stages together: without and with inputs at hand.
    private var rebuilds = [StageCurve](repeating: StageCurve(), count: 2)
    /// The longest time between a running sequence's tokens that prefill may cause; `nil`: twice what it is without.
    private let interTokenBudgetNanoseconds: Double?
    private let prefillRowsMax: Int

    /// Where not even one fits, a prompt still goes on. More would break the budget: from about four rows on a step takes as much longer as it has
    /// more rows, and beside a long past a prompt's row costs many times one that decodes.
    static let prefillRowsMin = 1

    /// A step that rebuilds may hold those who decode up by so many times what they take undisturbed: behind it are streams that have nothing at all.
    static let rebuildStretch = 2.0

    static let longStepMax = 8.0
    static let calmCostMax = 1.0 / 16

    package init(stages: Int, prefillRowsMax: Int, interTokenBudgetMs: UInt64?) {
        decode = [StagePace](repeating: StagePace(), count: stages)
        mixed = [StageCurve](repeating: StageCurve(), count: stages)
        self.prefillRowsMax = prefillRowsMax
        interTokenBudgetNanoseconds = interTokenBudgetMs.map { Double($0) * 1e6 }
    }

    /// A step came back, beside which no other was in flight where it ran `alone`. Timings of another number of stages say nothing.
    package mutating func note(rows: Int, sampledRows: Int, alone: Bool = false, timings: [StageTiming]) {
        guard timings.count == decode.count else { return }
        for (stage, timing) in timings.enumerated() {
            if sampledRows == rows { decode[stage].note(rows: rows, nanoseconds: timing.computeNanoseconds, isAlone: alone) }
            mixed[stage].note(rows: rows, nanoseconds: timing.computeNanoseconds)
        }
    }

    /// A step that rebuilt came back; stages that it left out took no time. Timings of another number of stages say nothing.
    package mutating func noteRebuild(rows: Int, hasInputs: Bool, timings: [StageTiming]) {
        guard timings.count == decode.count else { return }
        rebuilds[hasInputs ? 1 : 0].note(rows: rows, nanoseconds: timings.reduce(0) { saturatingSum($0, $1.computeNanoseconds) })
    }

    /// The number of groups with the shortest T, the smaller one of equals, or more where steps would be long. As many as may be in flight before
    /// anything is known.
    package func groups(decoding count: Int, inFlightMax: Int) -> Int {
        guard count > 1 else { return 1 }
        let most = max(1, min(count, inFlightMax))
        var best = most
        var shortest = Double.infinity
        for groups in (1...most).reversed() {
            // A single group of so many rows that was never measured is tried once: that costs one step.
            guard let time = decodeInterval(rows: (count + groups - 1) / groups, groups: groups, isHoped: groups == 1) else { return most }
            if time <= shortest { (best, shortest) = (groups, time) }
        }
        return divided(count, into: best, interval: shortest)
    }

    private func divided(_ count: Int, into groups: Int, interval shortest: Double) -> Int {
        let whole = (count + groups - 1) / groups
        guard let short = rows(within: Self.longStepMax, of: 1, atMost: whole, time: { decodeInterval(rows: $0, groups: 1) }),
            short < whole else { return groups }
        var more = (count + short - 1) / short
        while more > groups {
            if let time = decodeInterval(rows: (count + more - 1) / more, groups: more), time <= shortest * (1 + Self.calmCostMax) { return more }
            more -= max(1, more / 8)
        }
        return groups
    }

    /// The most rows, 1 at least, of a step that takes `stretch` times as long as one of `rows` rows at the most, prompts' rows among them. `nil`
    /// before anything was measured.
    package func rows(within stretch: Double, of rows: Int, atMost most: Int) -> Int? {
        // One group: all stages together.
        self.rows(within: stretch, of: rows, atMost: most) { mixedInterval(rows: $0, groups: 1) }
    }

    private func rows(within stretch: Double, of rows: Int, atMost most: Int, time: (Int) -> Double?) -> Int? {
        guard let allowed = time(rows).map({ $0 * stretch }) else { return nil }
        return Self.rows(within: allowed, atMost: most, time: time)
    }

    /// The most rows, 1 at least, that take no longer than `allowed`; `nil` where nothing was measured.
    private static func rows(within allowed: Double, atMost most: Int, time: (Int) -> Double?) -> Int? {
        var (fitting, tooMany) = (1, max(1, most) + 1)
        while tooMany - fitting > 1 {
            let middle = (fitting + tooMany) / 2
            guard let time = time(middle) else { return nil }
            if time <= allowed { fitting = middle } else { tooMany = middle }
        }
        return fitting
    }

    /// Rows of prompts in a step that decodes `rows` sequences, of which there are `groups` groups in all.
    package func prefillRows(beside rows: Int, groups: Int) -> Int {
        guard rows > 0, let undisturbed = decodeInterval(rows: rows, groups: groups) else { return prefillRowsMax }
        let budget = max(2 * undisturbed, interTokenBudgetNanoseconds ?? 0)
        var (fitting, tooMany) = (0, prefillRowsMax + 1)
        while tooMany - fitting > 1 {
            let middle = (fitting + tooMany) / 2
            guard let time = mixedInterval(rows: rows + middle, groups: groups) else { return prefillRowsMax }
            if time <= budget { fitting = middle } else { tooMany = middle }
        }
        return min(prefillRowsMax, max(fitting, Self.prefillRowsMin))
    }

    /// Rows of a step that rebuilds while `rows` sequences decode in each of `groups` groups. It goes through the few layers that were lost, and one
    /// is on its way at a time: a decode step waits for one at the most.
    package func rebuildRows(beside rows: Int, groups: Int, hasInputs: Bool) -> Int {
        let curve = rebuilds[hasInputs ? 1 : 0]
        guard rows > 0, let undisturbed = decodeInterval(rows: rows, groups: groups), !curve.isEmpty else {
            return prefillRows(beside: rows, groups: groups)
        }
        let budget = max(Self.rebuildStretch * undisturbed, (interTokenBudgetNanoseconds ?? 0) - undisturbed)
        return Self.rows(within: budget, atMost: prefillRowsMax) { curve.nanoseconds(rows: $0) } ?? prefillRowsMax
    }

    /// How many times longer a decode step of `rows` rows takes with `more` rows of guesses. Row counts above all that was measured cost in
    /// proportion, or where `isHoped` no more than that, so that somebody measures them. `nil` before any decode step was measured.
    package func stretch(rows: Int, more: Int, groups: Int, isHoped: Bool) -> Double? {
        guard let plain = decodeInterval(rows: rows, groups: groups), plain > 0 else { return nil }
        return decodeInterval(rows: rows + more, groups: groups, isHoped: isHoped).map { max(1, $0 / plain) }
    }

    private func decodeInterval(rows: Int, groups: Int, isHoped: Bool = false) -> Double? {
        Self.interval(groups: groups, times: decode.map { $0.nanoseconds(rows: rows, isAlone: groups == 1, isHoped: isHoped) })
    }

    private func mixedInterval(rows: Int, groups: Int) -> Double? {
        Self.interval(groups: groups, times: mixed.map { $0.nanoseconds(rows: rows) })
    }

    private static func interval(groups: Int, times: [Double?]) -> Double? {
        var (sum, longest) = (0.0, 0.0)
        for time in times {
            guard let time else { return nil }
            sum += time
            longest = max(longest, time)
        }
        return max(sum, Double(groups) * longest)
    }
}
