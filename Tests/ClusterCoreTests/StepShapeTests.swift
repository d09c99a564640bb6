import Testing

@testable import ClusterCore

@Suite struct StepShapeTests {
    /// Stages whose times are `fixed + rows · perRow` microseconds, measured at some row counts.
    private static func shape(_ stages: [(fixed: Double, perRow: Double)], rows: [Int], budgetMs: UInt64? = nil) -> StepShape {
        var shape = StepShape(stages: stages.count, prefillRowsMax: 256, interTokenBudgetMs: budgetMs)
        for count in rows {
            let timings = stages.map {
                StageTiming(queueNanoseconds: 0, computeNanoseconds: UInt64(1_000 * ($0.fixed + Double(count) * $0.perRow)))
            }
            shape.note(rows: count, sampledRows: count, timings: timings)
        }
        return shape
    }

    private static let sizes = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 32, 64, 128, 256]

    @Test func beforeAnythingIsKnownEveryStageGetsAGroup() {
        let shape = StepShape(stages: 3, prefillRowsMax: 256, interTokenBudgetMs: nil)
        #expect(shape.groups(decoding: 9, inFlightMax: 3) == 3)
        #expect(shape.groups(decoding: 2, inFlightMax: 3) == 2)
        #expect(shape.groups(decoding: 0, inFlightMax: 3) == 1)
        #expect(shape.prefillRows(beside: 4, groups: 3) == 256)
    }

    @Test func batchesAreSplitWhereRowsCost() {
        let shape = Self.shape([(10, 10), (10, 10)], rows: Self.sizes)
        #expect(shape.groups(decoding: 8, inFlightMax: 2) == 2)
    }

    @Test func batchesStayWholeWhereSplittingOnlyReadsWeightsAgain() {
        // One stage takes nearly all the time whatever the rows: a second group would only wait for it.
        let shape = Self.shape([(10, 0.01), (100, 0.01)], rows: Self.sizes)
        #expect(shape.groups(decoding: 8, inFlightMax: 2) == 1)
    }

    /// Two workers on one machine whose memory serves one of them as well as two: side by side each takes twice as long.
    @Test func batchesStayWholeWhereStagesSlowEachOtherDown() {
        var shape = StepShape(stages: 2, prefillRowsMax: 256, interTokenBudgetMs: nil)
        func step(rows: Int, alone: Bool) {
            let timing = StageTiming(queueNanoseconds: 0, computeNanoseconds: UInt64((alone ? 1 : 2) * (50_000_000 + 3_000_000 * rows)))
            shape.note(rows: rows, sampledRows: rows, alone: alone, timings: [timing, timing])
        }
        for _ in 0..<20 { step(rows: 2, alone: false) }
        #expect(shape.groups(decoding: 4, inFlightMax: 2) == 1, "four rows were never seen, so they are tried")
        step(rows: 1, alone: true)
        #expect(shape.groups(decoding: 4, inFlightMax: 2) == 1, "one row alone took half as long, so might four")
        step(rows: 4, alone: true)
        #expect(shape.groups(decoding: 4, inFlightMax: 2) == 1)
        var steps = 0
        while shape.groups(decoding: 4, inFlightMax: 2) == 1, steps < 1_000 {
            step(rows: 4, alone: true)
            steps += 1
        }
        #expect(steps > 20 && steps < 1_000, "what once was slow is tried again, not soon")
        for _ in 0..<8 { step(rows: 2, alone: false) }
        #expect(shape.groups(decoding: 4, inFlightMax: 2) == 1, "and given up again")
    }

    /// From some rows on steps take in proportion to them: longer ones only keep others waiting.
    @Test func longStepsAreDividedWhereThatIsFree() {
        let shape = Self.shape([(40, 10), (40, 10)], rows: Self.sizes)
        let groups = shape.groups(decoding: 256, inFlightMax: 2)
        let rows = (256 + groups - 1) / groups
        // 40 + 10 r is 8 times 50 at 36; a step of 128 takes 1,320. Groups of 36 take 400 each.
        #expect(rows >= 36 && rows <= 64 && 40.0 / Double(rows) + 10 <= (40.0 / 128 + 10) * (1 + StepShape.calmCostMax))
        // Where every row more is nearly free, steps stay as long as they are.
        #expect(Self.shape([(40, 1)], rows: Self.sizes).groups(decoding: 64, inFlightMax: 1) == 1)
        #expect(shape.groups(decoding: 16, inFlightMax: 2) == 2)
        #expect(shape.rows(within: 4, of: 1, atMost: 512) == 16 && shape.rows(within: 1, of: 8, atMost: 5) == 5)
    }

    @Test func prefillKeepsWithinTheBudget() {
        // A step of r rows takes 1 ms + r · 0.1 ms on each of two stages; four decode in each of two groups.
        let stages = [(1_000.0, 100.0), (1_000.0, 100.0)]
        let twice = Self.shape(stages, rows: Self.sizes)
        #expect(twice.prefillRows(beside: 4, groups: 2) == 14, "twice 2.8 ms")
        let wide = Self.shape(stages, rows: Self.sizes, budgetMs: 20)
        #expect(wide.prefillRows(beside: 4, groups: 2) == 86)
        #expect(wide.prefillRows(beside: 0, groups: 1) == 256)
    }

    @Test func whatWasLostIsRebuiltInLongerStepsThanAPromptHas() {
        // Two stages of 1 ms + r · 0.1 ms; a quarter of the layers takes 0.05 ms a row, or 0.15 with its inputs made again.
        var shape = Self.shape([(1_000, 100), (1_000, 100)], rows: Self.sizes)
        #expect(shape.rebuildRows(beside: 4, groups: 2, hasInputs: true) == 14, "as a prompt's chunk before one was measured")
        for rows in Self.sizes {
            let nothing = StageTiming(queueNanoseconds: 0, computeNanoseconds: 0)
            let lost = StageTiming(queueNanoseconds: 0, computeNanoseconds: UInt64(50_000 * rows))
            shape.noteRebuild(rows: rows, hasInputs: true, timings: [nothing, lost])
            let before = StageTiming(queueNanoseconds: 0, computeNanoseconds: UInt64(100_000 * rows))
            shape.noteRebuild(rows: rows, hasInputs: false, timings: [before, lost])
        }
        // A token takes 2.8 ms undisturbed.
        #expect(shape.rebuildRows(beside: 4, groups: 2, hasInputs: true) == 112 && shape.rebuildRows(beside: 4, groups: 2, hasInputs: false) == 37)
        #expect(shape.rebuildRows(beside: 0, groups: 1, hasInputs: true) == 256, "nobody decodes beside it")
        // What a worker says may be anything.
        let endless = StageTiming(queueNanoseconds: 0, computeNanoseconds: .max)
        shape.noteRebuild(rows: 8, hasInputs: true, timings: [endless, endless])
        shape.noteRebuild(rows: 8, hasInputs: true, timings: [])
        #expect((1...256).contains(shape.rebuildRows(beside: 4, groups: 2, hasInputs: true)))
    }

    @Test func curvesInterpolateAndNeverFall() {
        var curve = StageCurve()
        #expect(curve.nanoseconds(rows: 1) == nil)
        curve.note(rows: 2, nanoseconds: 100)
        #expect(curve.nanoseconds(rows: 1) == 100 && curve.nanoseconds(rows: 4) == 200)
        curve.note(rows: 6, nanoseconds: 300)
        #expect(curve.nanoseconds(rows: 4) == 200)
        curve.note(rows: 32, nanoseconds: 250)
        #expect(curve.nanoseconds(rows: 20) == 300 && curve.nanoseconds(rows: 64) == 600)
        for _ in 0..<100 { curve.note(rows: 2, nanoseconds: 50) }
        #expect(curve.nanoseconds(rows: 2)! < 51)
        curve.note(rows: 2, nanoseconds: .max)
        #expect(curve.nanoseconds(rows: 2)! < 80, "one pause of the machine is not the stage's time")
    }

    @Test func whereNotEvenOneRowFitsAPromptGoesOn() {
        var shape = Self.shape([(1_000, 0)], rows: [1])
        shape.note(rows: 2, sampledRows: 1, timings: [StageTiming(queueNanoseconds: 0, computeNanoseconds: 10_000_000)])
        #expect(shape.prefillRows(beside: 1, groups: 1) == 1)
    }

    /// Rows beside a long past took long; today's don't, but no step of today is so large that it would show it.
    @Test func whatOnceTookLongIsTriedAgain() {
        var curve = StageCurve()
        curve.note(rows: 4, nanoseconds: 1_000)
        curve.note(rows: 2, nanoseconds: 100)
        #expect(curve.nanoseconds(rows: 4)! > 990)
        for _ in 0..<500 { curve.note(rows: 2, nanoseconds: 100) }
        #expect(curve.nanoseconds(rows: 4)! < 320)
        for _ in 0..<5_000 { curve.note(rows: 2, nanoseconds: 100) }
        #expect(curve.nanoseconds(rows: 4)! > 199, "in proportion is the most that rows cost")
    }

    @Test func everyRowCountHasAClass() {
        for rows in 1...512 {
            var curve = StageCurve()
            curve.note(rows: rows, nanoseconds: 1_000)
            #expect(curve.nanoseconds(rows: rows) == 1_000)
            curve.note(rows: 2 * rows, nanoseconds: 2_000)
            #expect(curve.nanoseconds(rows: 2 * rows) == 2_000 && curve.nanoseconds(rows: rows) == 1_000)
        }
    }
}
