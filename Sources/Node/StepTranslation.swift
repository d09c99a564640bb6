import ClusterCore
import Engine

// `Engine` knows no cluster and `ClusterCore` no arithmetic: their two words for the same thing meet here, and only here.

extension StageBatch {
    /// The engine's form of a step that arrives with `frame`.
    init(_ frame: StepFrame) {
        self.init(segments: [])
        fill(frame)
    }

    /// Becomes the engine's form of another step, in the memory that it has.
    mutating func fill(_ frame: StepFrame) {
        closes.removeAll(keepingCapacity: true)
        for sequence in frame.step.closes { closes.append(sequence.value) }
        copies.removeAll(keepingCapacity: true)
        for copy in frame.step.copies { copies.append(BlockCopy(from: Int32(copy.from.value), to: Int32(copy.to.value))) }
        opens.removeAll(keepingCapacity: true)
        for open in frame.step.opens { opens.append(SequenceOpening(open)) }
        if segments.count > frame.step.segments.count { segments.removeLast(segments.count - frame.step.segments.count) }
        for (index, segment) in frame.step.segments.enumerated() {
            if index == segments.count { segments.append(BatchSegment(sequence: 0, start: 0, tokens: [], newBlocks: [], samples: false)) }
            segments[index].become(segment)
        }
        rebuild = frame.step.rebuild.map { BatchRebuild(layers: $0.layers, hasInputs: $0.hasInputs) }
        poisoned.removeAll(keepingCapacity: true)
        for entry in frame.poisoned { poisoned.append(entry.sequence.value) }
    }
}

extension BatchSegment {
    fileprivate mutating func become(_ segment: Segment) {
        sequence = segment.sequence.value
        start = segment.start
        tokens = segment.tokens
        newBlocks.removeAll(keepingCapacity: true)
        for block in segment.newBlocks { newBlocks.append(Int32(block.value)) }
        samples = segment.samples
        drafts = segment.drafts
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
    /// - Parameter tokens: memory for the outcome's tokens, which nobody else holds; what was in it goes.
    init(_ result: StageResult, computeNanoseconds: UInt64, startedAt: Instant? = nil, tokens: inout [ClusterCore.SampledToken]) {
        tokens.removeAll(keepingCapacity: true)
        for sample in result.samples {
            tokens.append(
                ClusterCore.SampledToken(sequence: SequenceID(sample.sequence), position: sample.position, emitted: EmittedToken(sample.token)))
        }
        self.init(
            poisoned: result.poisoned.map { PoisonedSequence(sequence: SequenceID($0.sequence), layers: $0.layers) },
            tokens: tokens, computeNanoseconds: computeNanoseconds, startedAt: startedAt)
        foretold = result.foretold
        layersBegun = result.layersBegun
    }

    init(_ result: StageResult, computeNanoseconds: UInt64, startedAt: Instant? = nil) {
        var tokens: [ClusterCore.SampledToken] = []
        self.init(result, computeNanoseconds: computeNanoseconds, startedAt: startedAt, tokens: &tokens)
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
