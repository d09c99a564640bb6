import ClusterCore
import Testing

@testable import Simulator

/// The toy itself: a stage equals the plain loop, and every way to hand it a wrong state shows.
@Suite struct ToyStageTests {
    private let model = ToyModel(layerCount: 4, vocabulary: 97, contextTokens: 128, endTokens: [0])

    private func stage(_ layers: Range<Int>, garbage: UInt64 = 9) -> ToyStage {
        let isFirst = layers.lowerBound == 0
        let isLast = layers.upperBound == model.layerCount
        let key = Cluster.key(9)
        let assignment = StageAssignment(
            epoch: Epoch(1), stage: isFirst ? 0 : 1, stageCount: isFirst && isLast ? 1 : 2, layers: layers, kvBlocks: 8, kvType: .f16,
            boundary: .f32, modelDigest: model.profile.digest, modelPath: "", upstream: isFirst ? nil : key,
            downstream: isLast ? nil : StagePeer(key: key, endpoint: ""))
        return ToyStage(model: model, assignment: assignment, garbage: garbage)
    }

    private func open(_ prompt: [TokenID], cached: Int = 0) -> SequenceOpen {
        SequenceOpen(
            sequence: SequenceID(1), choice: 0, tokens: prompt, promptLength: prompt.count, cached: cached, sampling: SamplingParameters(),
            endTokens: [0], topLogprobs: nil)
    }

    private func step(_ number: UInt64, opens: [SequenceOpen] = [], copies: [BlockCopy] = [], _ segment: Segment) -> StepFrame {
        StepFrame(step: Step(epoch: Epoch(1), number: StepNumber(number), opens: opens, copies: copies, segments: [segment]))
    }

    private func segment(_ start: Int, _ tokens: [TokenID], blocks: [UInt32] = []) -> Segment {
        Segment(sequence: SequenceID(1), start: start, tokens: tokens, newBlocks: blocks.map(BlockID.init), samples: true)
    }

    private let prompt: [TokenID] = (0..<40).map { TokenID($0 * 7 % 97) }

    private var wanted: TokenID {
        model.generate(GenerationRequest(id: RequestID(high: 0, low: 0), prompt: prompt, sampling: SamplingParameters()), choice: 0).tokens[0]
    }

    @Test func twoStagesInChunksEqualThePlainLoop() {
        var (first, second) = (stage(0..<1), stage(1..<4))
        var last: StepOutcome?
        for (number, range) in [0..<5, 5..<39, 39..<40].enumerated() {
            let frame = step(
                UInt64(number + 1), opens: number == 0 ? [open(prompt)] : [],
                Segment(
                    sequence: SequenceID(1), start: range.lowerBound, tokens: Array(prompt[range]),
                    newBlocks: number == 0 ? [BlockID(3), BlockID(1)] : [], samples: range.upperBound == 40))
            let rows = first.compute(frame, input: nil)
            let result = second.compute(frame, input: rows.rows)
            #expect(rows.findings == [] && result.findings == [])
            last = result.outcome
        }
        #expect(last?.tokens.map(\.emitted.token) == [wanted])
    }

    @Test func anotherTokenInTheHistoryShows() {
        for place in prompt.indices {
            var other = prompt
            other[place] = (other[place] + 1) % 97
            var stage = stage(0..<4)
            let result = stage.compute(step(1, opens: [open(other)], segment(0, other, blocks: [0, 1])), input: nil)
            var right = self.stage(0..<4)
            #expect(result.rows.last != right.compute(step(1, opens: [open(prompt)], segment(0, prompt, blocks: [0, 1])), input: nil).rows.last)
        }
    }

    /// A block that was never written, as a step that was lost leaves it.
    @Test func aStaleBlockShows() {
        var stage = stage(0..<4)
        let result = stage.compute(step(1, opens: [open(prompt, cached: 32)], segment(32, Array(prompt[32...]), blocks: [5, 6])), input: nil)
        #expect(result.findings == [])
        var right = self.stage(0..<4)
        #expect(result.rows.last != right.compute(step(1, opens: [open(prompt)], segment(0, prompt, blocks: [0, 1])), input: nil).rows.last)
    }

    @Test func whatDoesNotFitIsFound() {
        var stage = stage(0..<4)
        _ = stage.compute(step(1, opens: [open(prompt)], segment(0, prompt, blocks: [0, 1])), input: nil)
        var repeated = stage
        #expect(repeated.compute(step(2, segment(0, prompt)), input: nil).findings != [])
        var skipped = stage
        #expect(skipped.compute(step(2, segment(41, [3])), input: nil).findings != [])
        var overwritten = stage
        let copy = BlockCopy(from: BlockID(4), to: BlockID(1))
        #expect(overwritten.compute(step(2, copies: [copy], segment(40, [3])), input: nil).findings != [])
        var twice = stage
        let second = SequenceOpen(
            sequence: SequenceID(2), choice: 0, tokens: [5], promptLength: 1, sampling: SamplingParameters(), endTokens: [0], topLogprobs: nil)
        let rows = Segment(sequence: SequenceID(2), start: 0, tokens: [5], newBlocks: [BlockID(1)], samples: true)
        #expect(twice.compute(step(2, opens: [second], rows), input: nil).findings != [])
    }
}
