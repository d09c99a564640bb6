import ClusterCore
import Testing

@testable import Simulator

@Suite struct SimulationTests {
    /// Many more run in release builds (`lab simulate`).
    @Test func seedsAreClean() {
        for seed in UInt64(0)..<8 {
            let outcome = Simulation.run(seed: seed)
            #expect(outcome.violation == nil, "seed \(seed)")
            #expect(outcome.events > 100 && outcome.requests > 0, "seed \(seed)")
        }
    }

    @Test func theSameSeedIsTheSameRun() {
        for seed in UInt64(100)..<102 {
            var lines: [[String]] = [[], []]
            let first = Simulation.run(seed: seed) { lines[0].append($0) }
            let second = Simulation.run(seed: seed) { lines[1].append($0) }
            #expect(first.digest == second.digest && first.events == second.events, "seed \(seed)")
            #expect(lines[0] == lines[1], "seed \(seed)")
            #expect(first.digest == Simulation.run(seed: seed).digest, "a trace changes nothing, seed \(seed)")
        }
    }

    @Test func otherSeedsAreOtherRuns() {
        #expect(Set((UInt64(0)..<4).map { Simulation.run(seed: $0).digest }).count == 4)
    }

    @Test func onlyAllowedFaultsHappen() {
        var coverage = Coverage()
        for seed in UInt64(200)..<206 { coverage += Simulation.run(seed: seed, allowing: [.workerKilled, .controlTailLost]).coverage }
        for fault in Fault.allCases {
            #expect((coverage[fault] > 0) == [.workerKilled, .controlTailLost].contains(fault), "\(fault)")
        }
    }

    /// Several failures in a row, each in some moment of the recovery from the one before, and nothing else.
    @Test func recoveriesAreInterrupted() {
        var coverage = Coverage()
        for seed in UInt64(400)..<424 {
            let outcome = Simulation.run(seed: seed, allowing: [.workersInARow])
            #expect(outcome.violation == nil, "seed \(seed)")
            coverage += outcome.coverage
        }
        // In which moments, some thousands of seeds show.
        #expect(coverage[Fault.workersInARow] > 0)
    }

    /// Without faults nothing recovers, nothing is lost and nothing is refused.
    @Test func withoutFaultsNothingRecovers() {
        for seed in UInt64(300)..<306 {
            let outcome = Simulation.run(seed: seed, allowing: [])
            #expect(outcome.violation == nil, "seed \(seed)")
            for branch in [Branch.workerSilent, .endedByResult, .endedByFrame, .gatewayGone, .submittedAfterGap, .droppedOldEpochRows] {
                #expect(outcome.coverage[branch] == 0, "seed \(seed): \(branch.rawValue)")
            }
        }
    }

    @Test func branchesHaveNamesOfTheirOwn() {
        #expect(Set(Branch.allCases.map(\.rawValue)).count == Branch.allCases.count)
        #expect(Set(Fault.allCases.map(\.rawValue)).count == Fault.allCases.count)
    }
}

@Suite struct AgendaTests {
    @Test func whatIsPlannedComesInOrderOfTimeThenOfPlanning() {
        var numbers = SeededNumbers(seed: 3)
        var agenda = Agenda()
        let times = (0..<500).map { _ in UInt64(numbers.below(50)) }
        for (party, time) in times.enumerated() { agenda.add(.start(party: party), at: time) }
        let wanted = times.enumerated().sorted { ($0.element, $0.offset) < ($1.element, $1.offset) }.map(\.offset)
        let got = times.indices.map { _ in if case .start(let party) = agenda.removeFirst().occurrence { party } else { -1 } }
        #expect(got == wanted)
        #expect(agenda.nextTime == nil)
    }
}

@Suite struct LocalClockTests {
    @Test(arguments: [900_000, 1_000_000, 1_050_001] as [UInt64]) func aDeadlineIsReachedWhenItsTimeComes(rate: UInt64) {
        let clock = LocalClock(origin: 1 << 50, rate: rate, at: 7)
        for ahead in [1, 999, 1_000_000, 123_456_789, 300_000_000_000] as [UInt64] {
            let deadline = Instant(nanoseconds: clock.now(500).nanoseconds + ahead)
            let time = clock.time(of: deadline, notBefore: 500)
            #expect(clock.now(time) >= deadline)
            #expect(time <= 502 || clock.now(time - 2) < deadline)
        }
    }

    @Test func aSuspendedClockStandsAndNoneGoesBack() {
        var clock = LocalClock(origin: 100, at: 0)
        clock.stand(nanoseconds: 50, from: 10)
        #expect([10, 30, 60, 61].map { clock.now($0).nanoseconds } == [110, 110, 110, 111])
        clock.run(at: 2_000_000, from: 70)
        #expect([70, 80].map { clock.now($0).nanoseconds } == [120, 140])
        clock.leap(nanoseconds: 1_000)
        #expect(clock.now(80).nanoseconds == 1_140)
    }
}
