import ClusterCore
import Testing

@testable import Engine
@testable import Node

/// Every field of the one must come out in the other: a field that is forgotten would change tokens, not fail.
@Suite struct StepTranslationTests {
    @Test func aStepBecomesABatch() {
        var sampling = SamplingParameters()
        sampling.temperature = 0.5
        let frame = StepFrame(
            step: Step(
                epoch: Epoch(3), number: StepNumber(9),
                opens: [
                    SequenceOpen(
                        sequence: SequenceID(7), choice: 2, tokens: [1, 2, 3], promptLength: 2, sampling: sampling, endTokens: [4, 5], topLogprobs: 6)
                ],
                closes: [SequenceID(11), SequenceID(12)],
                segments: [
                    Segment(sequence: SequenceID(7), start: 0, tokens: [1, 2, 3], newBlocks: [BlockID(4), BlockID(1)], samples: true),
                    Segment(sequence: SequenceID(8), start: 40, tokens: [9], newBlocks: [], samples: false),
                ]),
            timings: [StageTiming(queueNanoseconds: 1, computeNanoseconds: 2)],
            poisoned: [PoisonedSequence(sequence: SequenceID(8), layers: 0..<2)])

        let batch = StageBatch(frame)
        #expect(batch.closes == [11, 12])
        #expect(batch.poisoned == [8])
        #expect(batch.opens.count == 1)
        let open = batch.opens[0]
        #expect(open.sequence == 7 && open.choice == 2 && open.tokens == [1, 2, 3] && open.promptLength == 2)
        #expect(open.endTokens == [4, 5] && open.topLogprobs == 6 && open.sampling.temperature == 0.5)
        #expect(batch.segments.map(\.sequence) == [7, 8])
        #expect(batch.segments.map(\.start) == [0, 40])
        #expect(batch.segments.map(\.tokens) == [[1, 2, 3], [9]])
        #expect(batch.segments.map(\.newBlocks) == [[4, 1], []])
        #expect(batch.segments.map(\.samples) == [true, false])
        #expect(batch.rowCount == frame.step.rowCount)
    }

    @Test func eachSamplingParameterArrives() {
        var parameters = SamplingParameters()
        parameters.temperature = 0.7
        parameters.topK = 11
        parameters.topP = 0.9
        parameters.minP = 0.05
        parameters.repetitionPenalty = 1.1
        parameters.presencePenalty = 0.2
        parameters.frequencyPenalty = -0.3
        parameters.logitBias = [ClusterCore.LogitBias(token: 3, bias: -100), ClusterCore.LogitBias(token: 5, bias: 2)]
        parameters.seed = 1 << 63
        parameters.minTokens = 4
        #expect(
            SamplingSettings(parameters)
                == SamplingSettings(
                    temperature: 0.7, topK: 11, topP: 0.9, minP: 0.05, repetitionPenalty: 1.1, presencePenalty: 0.2, frequencyPenalty: -0.3,
                    logitBias: [.init(token: 3, bias: -100), .init(token: 5, bias: 2)], seed: 1 << 63, minTokens: 4))
        #expect(SamplingSettings(SamplingParameters()) == SamplingSettings(), "both know the same defaults")
    }

    @Test func aResultBecomesAnOutcome() {
        var result = StageResult()
        result.poisoned = [PoisonedRows(sequence: 5, layers: 2..<4)]
        let top: [Engine.SampledToken.TokenLogprob] = [.init(token: 17, logprob: -0.25), .init(token: 2, logprob: -3)]
        result.samples = [
            SequenceSample(sequence: 6, position: 33, token: Engine.SampledToken(token: 17, logprob: -0.25, top: top)),
            SequenceSample(sequence: 7, position: 1, token: Engine.SampledToken(token: 0, logprob: nil, top: [])),
        ]
        let emitted = EmittedToken(token: 17, logprob: -0.25, top: [.init(token: 17, logprob: -0.25), .init(token: 2, logprob: -3)])
        #expect(
            StepOutcome(result, computeNanoseconds: 12)
                == StepOutcome(
                    poisoned: [PoisonedSequence(sequence: SequenceID(5), layers: 2..<4)],
                    tokens: [
                        .init(sequence: SequenceID(6), position: 33, emitted: emitted),
                        .init(sequence: SequenceID(7), position: 1, emitted: EmittedToken(token: 0)),
                    ], computeNanoseconds: 12))
    }

    @Test func typesAndSlices() throws {
        #expect(ClusterCore.KVType.allCases.map { Engine.KVType($0) } == [.f16, .f32, .q8])
        #expect(ClusterCore.BoundaryType.allCases.map { Engine.BoundaryType($0) } == [.f32, .bf16])
        let tiny = try TinyModel(TemporaryFolder())
        let parts: [(stage: Int, count: Int, layers: Range<Int>, hasEmbedding: Bool, hasHead: Bool)] = [
            (0, 1, 0..<4, true, true), (0, 3, 0..<1, true, false), (1, 3, 1..<3, false, false), (2, 3, 3..<4, false, true),
        ]
        for part in parts {
            #expect(
                StageSlice(tiny.assignment(epoch: 1, stage: part.stage, of: part.count, layers: part.layers))
                    == StageSlice(layers: part.layers, hasEmbedding: part.hasEmbedding, hasHead: part.hasHead))
        }
    }
}
