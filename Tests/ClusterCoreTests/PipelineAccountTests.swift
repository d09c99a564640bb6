import Testing

@testable import ClusterCore

@Suite struct PipelineAccountTests {
    private static let ms: UInt64 = 1_000_000
    private static let second: UInt64 = 1_000_000_000

    private static func at(_ ms: UInt64) -> Instant { Instant(nanoseconds: ms * Self.ms) }

    private static func step(_ number: UInt64 = 1, rows: Int = 1, decodeRows: Int? = nil, sentAt: Instant) -> StepInFlight {
        let decode = decodeRows ?? rows
        var segments = (0..<decode).map { Segment(sequence: SequenceID(UInt64($0 + 1)), start: 9, tokens: [1], newBlocks: [], samples: true) }
        if rows > decode {
            segments.append(
                Segment(
                    sequence: SequenceID(999), start: 0, tokens: [TokenID](repeating: 1, count: rows - decode), newBlocks: [], samples: false))
        }
        return StepInFlight(Step(epoch: Epoch(1), number: StepNumber(number), segments: segments), sentAt: sentAt)
    }

    private static func plan(_ count: Int) -> [StagePlan] {
        (0..<count).map { StagePlan(worker: ToyCluster.key($0 + 1), layers: $0 * 3..<$0 * 3 + 3) }
    }

    private static func note(
        _ account: inout PipelineAccount, _ step: StepInFlight, _ timings: [StageTiming], returnedAt: Instant, tokens: Int = 1
    ) {
        account.note(step, timings, StepTimeline(sentAt: step.sentAt, returnedAt: returnedAt, timings: timings), tokens: tokens)
    }

    // MARK: - Timeline

    @Test func aTimelineIsMadeOfDurations() {
        let timings = [
            StageTiming(queueNanoseconds: 10, computeNanoseconds: 1_000, idleNanoseconds: 4, handOverNanoseconds: 20),
            StageTiming(queueNanoseconds: 30, computeNanoseconds: 2_000, idleNanoseconds: 500, handOverNanoseconds: 40),
        ]
        let line = StepTimeline(sentAt: Instant(nanoseconds: 10_000), returnedAt: Instant(nanoseconds: 13_400), timings: timings)
        #expect(line.wireNanoseconds == 300)
        // 4 of the first stage's wait are waking up and 6 others' computing; the second one's wait is all waking up.
        #expect(line.overheadNanoseconds == 300 + 4 + 20 + 30 + 40)
        let first = StepTimeline.Stage(
            arrivedAt: Instant(nanoseconds: 10_100), begunAt: Instant(nanoseconds: 10_110), startedAt: Instant(nanoseconds: 10_110),
            endedAt: Instant(nanoseconds: 11_110),
            handedOverAt: Instant(nanoseconds: 11_130))
        #expect(line.stages.first == first)
        #expect(line.stages.last?.arrivedAt == Instant(nanoseconds: 11_230) && line.stages.last?.handedOverAt == Instant(nanoseconds: 13_300))
    }

    /// What was computed before the step came took none of its time, and hides hops as far as it goes.
    @Test func aBegunStepHidesItsHops() {
        var timings = [
            StageTiming(queueNanoseconds: 0, computeNanoseconds: 1_000, handOverNanoseconds: 20),
            StageTiming(queueNanoseconds: 0, computeNanoseconds: 2_000, handOverNanoseconds: 40),
        ]
        for (begun, overhead) in [(UInt64(100), UInt64(240)), (300, 40), (700, 0)] {
            timings[0].begunNanoseconds = begun
            let line = StepTimeline(
                sentAt: Instant(nanoseconds: 10_000), returnedAt: Instant(nanoseconds: 13_340 - begun), timings: timings)
            #expect(line.wireNanoseconds == 280 && line.overheadNanoseconds == overhead)
            let first = line.stages[0]
            #expect(first.startedAt.nanoseconds(since: first.begunAt) == begun && first.endedAt.nanoseconds(since: first.begunAt) == 1_000)
        }
        timings[0].begunNanoseconds = .max
        let absurd = StepTimeline(sentAt: Instant(nanoseconds: 10_000), returnedAt: Instant(nanoseconds: 13_000), timings: timings)
        #expect(absurd.overheadNanoseconds == 0 && absurd.stages[0].endedAt == absurd.stages[0].startedAt)
    }

    @Test(arguments: [0, 1 << 20, 1 << 50, UInt64.max]) func whatAPeerMakesUpEndsWithTheRoundTrip(begun: UInt64) {
        var absurd = StageTiming(queueNanoseconds: 1 << 50, computeNanoseconds: .max, idleNanoseconds: .max, handOverNanoseconds: .max)
        absurd.begunNanoseconds = begun
        let line = StepTimeline(sentAt: Self.at(5), returnedAt: Self.at(6), timings: [absurd, absurd])
        #expect(line.wireNanoseconds == 0 && line.stages.allSatisfy { $0.handedOverAt == Self.at(6) })
        var account = PipelineAccount()
        account.begin(Self.plan(2), rowBytes: 4, at: Self.at(0))
        for _ in 0..<20 { Self.note(&account, Self.step(sentAt: Self.at(5)), [absurd, absurd], returnedAt: Self.at(6)) }
        let report = account.report(at: Self.at(7), isIdle: false)
        for stage in report.stages {
            for sums in [stage.window, stage.total] { #expect(sums.queueNanoseconds <= 1 << 62 && sums.idleNanoseconds <= 1 << 62) }
            #expect((0...1).contains(stage.window.busyShare) && (0...1).contains(stage.window.idleShare))
        }
    }

    // MARK: - Histogram

    @Test func quantilesAreNearTheTrueOnes() {
        var random = SeededNumbers(seed: 11)
        for _ in 0..<20 {
            var histogram = DurationHistogram()
            var values: [UInt64] = []
            for _ in 0..<500 {
                let octave = random.next(upperBound: UInt64(20))
                values.append((1_000 << octave) + random.next(upperBound: UInt64(1_000_000)))
            }
            values.sort()
            for value in values { histogram.note(nanoseconds: value) }
            for share in [0.05, 0.5, 0.95, 1] {
                let exact = Double(values[max(0, Int((share * 500).rounded(.up)) - 1)])
                let found = Double(histogram.quantile(share))
                #expect(abs(found - exact) <= exact / 8 + 125, "share \(share): \(found), exactly \(exact)")
            }
            #expect(histogram.countsByOctave.reduce(0, +) == 500 && histogram.countsByOctave.count == DurationHistogram.octaves)
        }
        #expect(DurationHistogram().quantile(0.5) == 0)
    }

    @Test func octavesEndAtPowersOfTwo() {
        for octave in 0..<DurationHistogram.octaves - 1 {
            var histogram = DurationHistogram()
            let bound = UInt64(1_000) << UInt64(octave)
            histogram.note(nanoseconds: bound)
            #expect(histogram.countsByOctave[octave] == 1, "\(bound) ns belong below their bound")
            histogram.note(nanoseconds: bound + bound / 8)
            #expect(histogram.countsByOctave[octave + 1] == 1)
            var other = histogram
            other.add(histogram)
            #expect(other.count == 4 && other.sumNanoseconds == 2 * histogram.sumNanoseconds)
            other.clear()
            #expect(other == DurationHistogram())
        }
        var extremes = DurationHistogram()
        for value in [0, 1, UInt64.max] { extremes.note(nanoseconds: value) }
        #expect(extremes.countsByOctave.first == 2 && extremes.countsByOctave.last == 1)
    }

    // MARK: - Window

    /// Two stages that take 6 and 3 ms of every 10 ms.
    @Test func sharesAreOfTheStageThreadsTime() {
        var account = PipelineAccount()
        account.begin(Self.plan(2), rowBytes: 100, at: Self.at(1_000))
        for number in 0..<300 as Range<UInt64> {
            let sent = Self.at(1_000 + 10 * number)
            let timings = [
                StageTiming(queueNanoseconds: 0, computeNanoseconds: 6 * Self.ms, idleNanoseconds: 4 * Self.ms),
                StageTiming(queueNanoseconds: 0, computeNanoseconds: 3 * Self.ms, idleNanoseconds: 7 * Self.ms),
            ]
            Self.note(&account, Self.step(number, rows: 4, decodeRows: 1, sentAt: sent), timings, returnedAt: Self.at(1_010 + 10 * number), tokens: 2)
        }
        let report = account.report(at: Self.at(4_000), isIdle: false)
        #expect(report.steps == 300 && report.rows == 1_200 && report.prefillRows == 900 && report.tokens == 600)
        #expect(report.windowNanoseconds == 3 * Self.second && report.tokensPerSecond == 200 && report.promptTokensPerSecond == 300)
        #expect(report.rowsPerStep == 4 && report.roundTripMilliseconds == 10 && abs(report.wireMilliseconds - 1) < 1e-6)
        #expect(abs(report.stages[0].window.busyShare - 0.6) < 0.002 && abs(report.stages[1].window.busyShare - 0.3) < 0.002)
        #expect(abs(report.stages[0].window.idleShare - 0.4) < 0.002)
        #expect(report.stages.map(\.total.sentBytes) == [300 * 4 * 100, 0])
        #expect(report.stages.map(\.total.computeNanoseconds) == [1_800 * Self.ms, 900 * Self.ms])
        #expect(report.stepsByRows == [0, 0, 300, 0, 0, 0, 0, 0, 0, 0] && report.rowsTotal == 1_200)
        #expect(report.stepsByOverhead.reduce(0, +) == 300)
        let median = Double(report.overheadMedianNanoseconds)
        #expect(abs(median - 1e6) <= 1e6 / 8, "the rest of the round trip: \(median)")
    }

    /// After a silence the stages were idle, and the silence leaves the window as time goes on, not when a step ends it.
    @Test func silenceWeighsWhereItWas() {
        var account = PipelineAccount()
        account.begin(Self.plan(1), rowBytes: 1, at: Self.at(20_000))
        Self.note(
            &account, Self.step(sentAt: Self.at(20_000)), [StageTiming(queueNanoseconds: 0, computeNanoseconds: 1_000 * Self.ms)],
            returnedAt: Self.at(21_000))
        #expect(account.report(at: Self.at(21_000), isIdle: true).stages[0].window.busyShare == 1)
        #expect(account.report(at: Self.at(25_000), isIdle: true).stages[0].window.busyShare == 0.2)
        #expect(account.report(at: Self.at(25_000), isIdle: false).stages[0].window.busyShare == 1, "who has a step may be computing")
        let gone = account.report(at: Self.at(60_000), isIdle: true)
        #expect(gone.steps == 0 && gone.stages[0].window.idleShare == 1 && gone.stages[0].window.computeNanoseconds == 0)
        // 60 s of silence end with 2 s of computing.
        Self.note(
            &account, Self.step(2, sentAt: Self.at(81_000)),
            [StageTiming(queueNanoseconds: 0, computeNanoseconds: 2_000 * Self.ms, idleNanoseconds: 60_000 * Self.ms)], returnedAt: Self.at(83_000))
        let report = account.report(at: Self.at(83_999), isIdle: false)
        #expect(report.stages[0].window.computeNanoseconds == 2_000 * Self.ms && report.stages[0].window.idleNanoseconds == 7_000 * Self.ms)
        #expect(report.stages[0].total.idleNanoseconds == 60_000 * Self.ms)
        let later = account.report(at: Self.at(89_500), isIdle: false)
        #expect(later.stages[0].window.idleNanoseconds == 1_000 * Self.ms, "most of the silence has left the window")
    }

    /// Whatever one stage does one after the other: its window never holds more than the window's time, and the parts are exact.
    @Test func theWindowEqualsAPlainCount() {
        var random = SeededNumbers(seed: 5)
        for round in 0..<30 {
            var account = PipelineAccount()
            var now: UInt64 = 30_000
            account.begin(Self.plan(1), rowBytes: 1, at: Self.at(now))
            var busy: [Range<UInt64>] = []
            for number in 0..<60 as Range<UInt64> {
                let idle = random.next(upperBound: UInt64(20)) == 0 ? random.next(upperBound: UInt64(15_000)) : random.next(upperBound: UInt64(30))
                let compute = 1 + random.next(upperBound: UInt64(number % 7 == 0 ? 2_500 : 40))
                let sent = now + idle
                now = sent + compute
                busy.append(sent..<now)
                Self.note(
                    &account, Self.step(number, sentAt: Self.at(sent)),
                    [StageTiming(queueNanoseconds: 0, computeNanoseconds: compute * Self.ms, idleNanoseconds: idle * Self.ms)],
                    returnedAt: Self.at(now))
                let asked = now + random.next(upperBound: UInt64(3_000))
                let report = account.report(at: Self.at(asked), isIdle: true)
                let start = max(30_000, (asked / 1_000 - 9) * 1_000)
                let expected = busy.reduce(0) { $0 + max($1.upperBound, start) - max($1.lowerBound, start) }
                #expect(report.stages[0].window.computeNanoseconds == expected * Self.ms, "round \(round), step \(number)")
                #expect(report.stages[0].window.idleNanoseconds == (asked - start - expected) * Self.ms, "round \(round), step \(number)")
                #expect(report.windowNanoseconds == (asked - start) * Self.ms)
            }
        }
    }

    @Test func anEpochsEndForgetsStagesButNotTheHistory() {
        var account = PipelineAccount()
        account.begin(Self.plan(1), rowBytes: 1, at: Self.at(0))
        let timings = [StageTiming(queueNanoseconds: 1, computeNanoseconds: 2)]
        Self.note(&account, Self.step(rows: 512, sentAt: Self.at(1)), timings, returnedAt: Self.at(2))
        #expect(account.computeNanoseconds(of: Self.plan(1)[0].worker) == 2 && account.computeNanoseconds(of: ToyCluster.key(9)) == nil)
        account.end()
        var report = account.report(at: Self.at(3), isIdle: true)
        #expect(report.stages.isEmpty && report.steps == 0 && report.windowNanoseconds == 0)
        #expect(report.stepsByRows.last == 1 && report.stepsByOverhead.reduce(0, +) == 1)
        account.begin(Self.plan(2), rowBytes: 1, at: Self.at(4))
        // What doesn't fit the plan says nothing of its stages.
        Self.note(&account, Self.step(sentAt: Self.at(5)), timings, returnedAt: Self.at(6))
        report = account.report(at: Self.at(7), isIdle: true)
        #expect(report.steps == 1 && report.stages.allSatisfy { $0.total == StageSums() } && report.stepsByOverhead.reduce(0, +) == 1)
    }
}
