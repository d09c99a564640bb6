import ClusterCore
import Testing

@testable import Node

/// When a stage's processor is kept awake for the next step.
@Suite struct StepExpectationTests {
    private let milliseconds: UInt64 = 1_000_000

    private func step(_ segments: Int, samples: Bool = true) -> Step {
        Step(
            epoch: Epoch(1), number: StepNumber(1),
            segments: (0..<segments).map { Segment(sequence: SequenceID(UInt64($0 + 1)), start: 3, tokens: [1], newBlocks: [], samples: samples) })
    }

    /// Steps that follow each other with pauses between: what is answered after each.
    private func windows(pauses: [UInt64], computing: UInt64 = 2_000_000, steps: [Step]) -> [UInt64?] {
        var expectation = StepExpectation()
        var now = Instant(nanoseconds: 1_000)
        return zip(pauses, steps).map { pause, step in
            now = Instant(nanoseconds: now.nanoseconds + pause)
            expectation.began(at: now)
            now = Instant(nanoseconds: now.nanoseconds + computing)
            return expectation.ended(step, at: now)
        }
    }

    @Test func aLoneStreamsNextStepIsExpectedWithinTwiceTheLastPause() {
        let ms = milliseconds
        let found = windows(pauses: [50 * ms, 3 * ms, 2 * ms, 1 * ms, 0], steps: .init(repeating: step(1), count: 5))
        // Nothing came before the first, and before what came at once there is nothing to keep awake for.
        #expect(found == [nil, 6 * ms, 4 * ms, 2 * ms, 0])
    }

    @Test func noLongerThanTenMilliseconds() {
        let ms = milliseconds
        let found = windows(pauses: [0, 7 * ms, 10 * ms, 10 * ms + 1, 3 * ms], steps: .init(repeating: step(1), count: 5))
        #expect(found == [nil, 10 * ms, 10 * ms, nil, 6 * ms])
    }

    @Test func notForSeveralStreamsNorForPrompts() {
        let ms = milliseconds
        let steps = [step(1), step(1), step(2), step(1), step(1), step(1, samples: false), step(1), step(1)]
        let found = windows(pauses: .init(repeating: ms, count: steps.count), steps: steps)
        // After each of those the pause is unknown, so one more step passes.
        #expect(found == [nil, 2 * ms, nil, nil, 2 * ms, nil, nil, 2 * ms])
    }
}
