import ClusterCore
import Engine

// `Engine` knows no cluster and `ClusterCore` no arithmetic: their two words for the same thing meet here, and only here.

extension StageBatch {
    /// The engine's form of a step that arrives with `frame`.
    init(_ frame: StepFrame) {
        self.init(
            closes: frame.step.closes.map(\.value),
            copies: frame.step.copies.map { StageBatch.BlockCopy(from: Int32($0.from.value), to: Int32($0.to.value)) },
            opens: frame.step.opens.map(SequenceOpening.init),
            segments: frame.step.segments.map { segment in
                BatchSegment(
                    sequence: segment.sequence.value, start: segment.start, tokens: segment.tokens,
                    newBlocks: segment.newBlocks.map { Int32($0.value) }, samples: segment.samples, drafts: segment.drafts)
            },
            poisoned: frame.poisoned.map(\.sequence.value))
    }
}

extension SequenceOpening {
    init(_ open: SequenceOpen) {
        self.init(
            sequence: open.sequence.value, tokens: open.tokens, promptLength: open.promptLength, cached: open.cached,
            sampling: SamplingSettings(open.sampling), choice: open.choice, endTokens: open.endTokens, topLogprobs: open.topLogprobs)
    }
}

extension SamplingSettings {
    package init(_ parameters: SamplingParameters) {
        self.init(
            temperature: parameters.temperature, topK: Int(parameters.topK), topP: parameters.topP, minP: parameters.minP,
            repetitionPenalty: parameters.repetitionPenalty, presencePenalty: parameters.presencePenalty,
            frequencyPenalty: parameters.frequencyPenalty,
            logitBias: parameters.logitBias.map { LogitBias(token: $0.token, bias: $0.bias) },
            seed: parameters.seed, minTokens: Int(parameters.minTokens))
    }
}

extension StepOutcome {
    init(_ result: StageResult, computeNanoseconds: UInt64, startedAt: Instant? = nil) {
        self.init(
            poisoned: result.poisoned.map { PoisonedSequence(sequence: SequenceID($0.sequence), layers: $0.layers) },
            tokens: result.samples.map { sample in
                ClusterCore.SampledToken(
                    sequence: SequenceID(sample.sequence), position: sample.position, emitted: EmittedToken(sample.token))
            },
            computeNanoseconds: computeNanoseconds, startedAt: startedAt)
    }
}

extension EmittedToken {
    package init(_ sampled: Engine.SampledToken) {
        self.init(
            token: sampled.token, logprob: sampled.logprob,
            top: sampled.top.map { TokenLogprob(token: $0.token, logprob: $0.logprob) })
    }
}

extension Engine.KVType {
    init(_ type: ClusterCore.KVType) {
        switch type {
        case .f16: self = .f16
        case .f32: self = .f32
        case .q8: self = .q8
        }
    }
}

extension Engine.BoundaryType {
    package init(_ type: ClusterCore.BoundaryType) { self = type == .f32 ? .f32 : .bf16 }
}

extension StageSlice {
    init(_ assignment: StageAssignment) {
        self.init(layers: assignment.layers, hasEmbedding: assignment.isFirst, hasHead: assignment.isLast)
    }
}
