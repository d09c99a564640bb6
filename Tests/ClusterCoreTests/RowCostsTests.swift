import Testing

@testable import ClusterCore

/// What small steps cost beyond the formulas is learned by their rows.
@Suite struct RowCostsTests {
    private static let worker = ToyCluster.key(0)
    private static let now = Instant(nanoseconds: 5)

    /// The formulas say a millisecond for one row and none more for others; really it takes 2 ms and half a one for each row.
    private static func note(_ speeds: inout MeasuredSpeeds, rows: Int, steps: Int, slowness: Double = 1) {
        for _ in 0..<steps {
            speeds.note(worker, rows: rows, measuredSeconds: slowness * (2e-3 + 5e-4 * Double(rows)), predictedSeconds: 1e-3, at: now)
        }
    }

    private static func factor(_ speeds: MeasuredSpeeds, rows: Int) -> Double {
        speeds.correction(of: worker, isComputing: true, at: now) * speeds.rowCosts(of: worker).factor(rows: rows)
    }

    private static func isClose(_ a: Double, _ b: Double) -> Bool { abs(a - b) <= 0.05 * b }

    @Test func eachNumberOfRowsHasItsOwn() {
        var speeds = MeasuredSpeeds()
        #expect(Self.factor(speeds, rows: 1) == 1 && Self.factor(speeds, rows: 512) == 1)
        Self.note(&speeds, rows: 1, steps: 1_000)
        #expect(Self.isClose(Self.factor(speeds, rows: 1), 2.5) && Self.isClose(Self.factor(speeds, rows: 100), 2.5), "the nearest that is known")
        Self.note(&speeds, rows: 8, steps: 200)
        #expect(Self.isClose(Self.factor(speeds, rows: 8), 6) && Self.isClose(Self.factor(speeds, rows: 1), 2.5))
        #expect(Self.isClose(Self.factor(speeds, rows: 3), 2.5) && Self.isClose(Self.factor(speeds, rows: 300), 6))
    }

    /// A worker that is slowed down is so for all numbers of rows, though only one of them comes.
    @Test func whatHappensToTheMachineIsToldApart() {
        var speeds = MeasuredSpeeds()
        Self.note(&speeds, rows: 1, steps: 1_000)
        Self.note(&speeds, rows: 8, steps: 1_000)
        Self.note(&speeds, rows: 8, steps: 2_000, slowness: 2)
        #expect(Self.isClose(Self.factor(speeds, rows: 8), 12) && Self.isClose(Self.factor(speeds, rows: 1), 5))
        // A class that is seen for the first time now is learned for the machine as it is otherwise.
        Self.note(&speeds, rows: 64, steps: 200, slowness: 2)
        Self.note(&speeds, rows: 8, steps: 2_000)
        #expect(Self.isClose(Self.factor(speeds, rows: 64), 34) && Self.isClose(Self.factor(speeds, rows: 8), 6))
    }

    @Test func aNewProcessBeginsAnew() {
        var speeds = MeasuredSpeeds()
        speeds.met(Self.worker, session: 1)
        Self.note(&speeds, rows: 8, steps: 1_000)
        speeds.met(Self.worker, session: 1)
        #expect(Self.factor(speeds, rows: 8) > 5)
        speeds.met(Self.worker, session: 2)
        #expect(Self.factor(speeds, rows: 8) == 1)
    }

    @Test func hopsAreMeasured() {
        var speeds = MeasuredSpeeds()
        #expect(speeds.hopSeconds == nil)
        for _ in 0..<500 { speeds.note(hops: 3, seconds: 6e-4) }
        #expect(speeds.hopSeconds.map { Self.isClose($0, 2e-4) } == true)
    }

    @Test func plansCountWithIt() {
        var model = ToyModel().profile
        model.layerBytes = model.layerBytes.map { _ in 900_000 }
        var candidate = Planner.Candidate(key: Self.worker, memoryBytes: 1 << 30, readBytesPerSecond: 1e9)
        let cost = StageCost(model: model, demand: PlanDemand())
        let bare = cost.seconds(candidate, 0..<3, hasHead: false, .decode(rows: 8, context: 1)).total
        var speeds = MeasuredSpeeds()
        Self.note(&speeds, rows: 1, steps: 1_000)
        Self.note(&speeds, rows: 8, steps: 200)
        (candidate.correction, candidate.rowCosts) = (2.5, speeds.rowCosts(of: Self.worker))
        let learned = cost.seconds(candidate, 0..<3, hasHead: false, .decode(rows: 8, context: 1)).total
        #expect(Self.isClose(learned, 6 * bare))
    }
}
