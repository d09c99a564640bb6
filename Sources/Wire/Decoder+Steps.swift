import CWire
import ClusterCore

extension Decoder {
    static func sampling(
        _ pointer: UnsafeMutablePointer<Staffel__V1__SamplingParameters>?, _ field: String
    ) throws(WireError) -> SamplingParameters {
        let sampling = try FieldCheck.present(pointer, field)
        var value = SamplingParameters()
        value.temperature = try FieldCheck.float(sampling.temperature, 0...100, "\(field).temperature")
        value.topK = Int32(try FieldCheck.number(sampling.top_k, 0...Int(Int32.max), "\(field).top_k"))
        value.topP = try FieldCheck.float(sampling.top_p, Float.leastNonzeroMagnitude...1, "\(field).top_p")
        value.minP = try FieldCheck.float(sampling.min_p, 0...1, "\(field).min_p")
        value.repetitionPenalty = try FieldCheck.float(
            sampling.repetition_penalty, Float.leastNonzeroMagnitude...10, "\(field).repetition_penalty")
        value.presencePenalty = try FieldCheck.float(sampling.presence_penalty, -2...2, "\(field).presence_penalty")
        value.frequencyPenalty = try FieldCheck.float(sampling.frequency_penalty, -2...2, "\(field).frequency_penalty")
        value.logitBias = try FieldCheck.list(
            sampling.logit_bias, sampling.n_logit_bias, max: Limits.logitBiasMax, "\(field).logit_bias"
        ) { entry throws(WireError) in
            LogitBias(
                token: try token(entry.token, "\(field).logit_bias.token"),
                bias: try FieldCheck.float(entry.bias, -100...100, "\(field).logit_bias.bias"))
        }
        for (a, b) in zip(value.logitBias, value.logitBias.dropFirst()) where a.token >= b.token {
            throw FieldCheck.fail("\(field).logit_bias", "is not ascending by token")
        }
        value.seed = sampling.seed
        value.minTokens = Int32(try FieldCheck.number(sampling.min_tokens, 0...Int(Int32.max), "\(field).min_tokens"))
        value.maxTokens = Int32(try FieldCheck.number(sampling.max_tokens, 1...Int(Int32.max), "\(field).max_tokens"))
        value.ignoreEndTokens = sampling.ignore_end_tokens != 0
        value.stopTokens = try FieldCheck.tokens(sampling.stop_tokens, sampling.n_stop_tokens, max: Limits.stopTokensMax, "\(field).stop_tokens")
        return value
    }

    static func generationRequest(_ request: Staffel__V1__GenerationRequest) throws(WireError) -> GenerationRequest {
        let choices = try FieldCheck.number(request.choices, 1...Limits.choicesMax, "submit.choices")
        guard request.n_prompt > 0 else { throw FieldCheck.fail("submit.prompt", "is empty") }
        let resumed = try FieldCheck.list(
            request.resumed, request.n_resumed, max: Limits.choicesMax, "submit.resumed"
        ) { list throws(WireError) in
            try FieldCheck.tokens(list.tokens, list.n_tokens, max: Limits.contextTokensMax, "submit.resumed")
        }
        guard resumed.isEmpty || resumed.count == choices else {
            throw FieldCheck.fail("submit.resumed", "has \(resumed.count) entries for \(choices) choices")
        }
        return GenerationRequest(
            id: try requestID(request.id, "submit.id"),
            prompt: try FieldCheck.tokens(request.prompt, request.n_prompt, max: Limits.contextTokensMax, "submit.prompt"),
            sampling: try sampling(request.sampling, "submit.sampling"), choices: choices,
            topLogprobs: try topLogprobs(request.top_logprobs, "submit.top_logprobs"), priority: request.priority, resumed: resumed)
    }

    static func step(_ step: Staffel__V1__Step) throws(WireError) -> Step {
        let segments = try FieldCheck.list(step.segments, step.n_segments, max: Limits.stepSegmentsMax, "step.segments", segment)
        guard Set(segments.map(\.sequence)).count == segments.count else { throw FieldCheck.fail("step.segments", "has a sequence twice") }
        let opens = try FieldCheck.list(step.opens, step.n_opens, max: Limits.stepSegmentsMax, "step.opens", sequenceOpen)
        guard Set(opens.map(\.sequence)).count == opens.count else { throw FieldCheck.fail("step.opens", "has a sequence twice") }
        guard step.n_closes <= Limits.stepClosesMax else {
            throw FieldCheck.fail("step.closes", "has \(step.n_closes) entries, at most \(Limits.stepClosesMax) are taken")
        }
        let value = Step(
            epoch: try FieldCheck.epoch(step.epoch, "step.epoch"), number: StepNumber(step.number), opens: opens,
            closes: UnsafeBufferPointer(start: step.closes, count: step.n_closes).map { SequenceID($0) }, segments: segments)
        guard value.rowCount <= Limits.stepRowsMax else {
            throw FieldCheck.fail("step.segments", "has \(value.rowCount) rows, at most \(Limits.stepRowsMax) are taken")
        }
        return value
    }

    private static func sequenceOpen(_ open: Staffel__V1__SequenceOpen) throws(WireError) -> SequenceOpen {
        guard open.n_tokens > 0 else { throw FieldCheck.fail("step.opens.tokens", "is empty") }
        return SequenceOpen(
            sequence: SequenceID(open.sequence), choice: try choice(open.choice, "step.opens.choice"),
            tokens: try FieldCheck.tokens(open.tokens, open.n_tokens, max: Limits.contextTokensMax, "step.opens.tokens"),
            promptLength: try FieldCheck.number(open.prompt_length, 1...open.n_tokens, "step.opens.prompt_length"),
            sampling: try sampling(open.sampling, "step.opens.sampling"),
            endTokens: try FieldCheck.tokens(
                open.end_tokens, open.n_end_tokens, max: Limits.endTokensMax, "step.opens.end_tokens"),
            topLogprobs: try topLogprobs(open.top_logprobs, "step.opens.top_logprobs"))
    }

    private static func segment(_ segment: Staffel__V1__Segment) throws(WireError) -> Segment {
        guard segment.n_tokens > 0 else { throw FieldCheck.fail("step.segments.tokens", "is empty") }
        let blocksMax = Limits.contextTokensMax / Limits.positionsPerBlock
        guard segment.n_new_blocks <= blocksMax else {
            throw FieldCheck.fail("step.segments.new_blocks", "has \(segment.n_new_blocks) entries, at most \(blocksMax) are taken")
        }
        let blocks = UnsafeBufferPointer(start: segment.new_blocks, count: segment.n_new_blocks)
        for block in blocks where block > UInt32(Int32.max) { throw FieldCheck.fail("step.segments.new_blocks", "has a block \(block)") }
        return Segment(
            sequence: SequenceID(segment.sequence),
            start: try FieldCheck.number(segment.start, 0...(Limits.contextTokensMax - 1), "step.segments.start"),
            tokens: try FieldCheck.tokens(segment.tokens, segment.n_tokens, max: Limits.stepRowsMax, "step.segments.tokens"),
            newBlocks: blocks.map { BlockID($0) }, samples: segment.samples != 0)
    }

    static func stepFrame(_ frame: Staffel__V1__StepFrame) throws(WireError) -> StepFrame {
        StepFrame(
            step: try step(try FieldCheck.present(frame.step, "step_frame.step")),
            timings: try FieldCheck.list(frame.timings, frame.n_timings, max: Limits.stagesMax, "step_frame.timings", timing),
            poisoned: try FieldCheck.list(frame.poisoned, frame.n_poisoned, max: Limits.stepSegmentsMax, "step_frame.poisoned", poisoned))
    }

    static func stepResult(_ result: Staffel__V1__StepResult) throws(WireError) -> StepResult {
        StepResult(
            epoch: try FieldCheck.epoch(result.epoch, "step_result.epoch"), number: StepNumber(result.number),
            tokens: try FieldCheck.list(
                result.tokens, result.n_tokens, max: Limits.stepSegmentsMax, "step_result.tokens"
            ) { sampled throws(WireError) in
                SampledToken(
                    sequence: SequenceID(sampled.sequence),
                    position: try FieldCheck.number(sampled.position, 1...Limits.contextTokensMax, "step_result.tokens.position"),
                    emitted: try emitted(try FieldCheck.present(sampled.emitted, "step_result.tokens.emitted")))
            },
            poisoned: try FieldCheck.list(result.poisoned, result.n_poisoned, max: Limits.stepSegmentsMax, "step_result.poisoned", poisoned),
            timings: try FieldCheck.list(result.timings, result.n_timings, max: Limits.stagesMax, "step_result.timings", timing))
    }

    static func tokenBatch(_ batch: Staffel__V1__TokenBatch) throws(WireError) -> TokenBatch {
        TokenBatch(
            request: try requestID(batch.request, "tokens.request"), choice: try choice(batch.choice, "tokens.choice"),
            firstIndex: try FieldCheck.number(batch.first_index, 0...Limits.contextTokensMax, "tokens.first_index"),
            tokens: try FieldCheck.list(batch.tokens, batch.n_tokens, max: Limits.tokensPerBatchMax, "tokens.tokens", emitted))
    }

    static func finished(_ finished: Staffel__V1__Finished) throws(WireError) -> FromCoordinator {
        .finished(
            try requestID(finished.request, "finished.request"), choice: try choice(finished.choice, "finished.choice"),
            tokenCount: try FieldCheck.number(finished.token_count, 0...Limits.contextTokensMax, "finished.token_count"),
            try FieldCheck.kind(finished.reason, "finished.reason"))
    }

    private static func topLogprobs(_ pointer: UnsafeMutablePointer<Staffel__V1__Count>?, _ field: String) throws(WireError) -> Int? {
        guard let count = pointer?.pointee else { return nil }
        return try FieldCheck.number(count.value, 0...Limits.topLogprobsMax, field)
    }

    private static func token(_ value: UInt32, _ field: String) throws(WireError) -> TokenID {
        TokenID(try FieldCheck.number(value, 0...(Limits.vocabularyMax - 1), field))
    }

    private static func timing(_ timing: Staffel__V1__StageTiming) throws(WireError) -> StageTiming {
        StageTiming(queueNanoseconds: timing.queue_nanoseconds, computeNanoseconds: timing.compute_nanoseconds)
    }

    private static func poisoned(_ entry: Staffel__V1__PoisonedSequence) throws(WireError) -> PoisonedSequence {
        PoisonedSequence(sequence: SequenceID(entry.sequence), layers: try FieldCheck.layers(entry.layers, "poisoned.layers"))
    }

    private static func emitted(_ emitted: Staffel__V1__EmittedToken) throws(WireError) -> EmittedToken {
        // A log-probability may be minus infinity (a token that a bias forced), but not NaN.
        guard !emitted.logprob.isNaN else { throw FieldCheck.fail("emitted.logprob", "is NaN") }
        return EmittedToken(
            token: try token(emitted.token, "emitted.token"), logprob: emitted.has_logprob != 0 ? emitted.logprob : nil,
            top: try FieldCheck.list(emitted.top, emitted.n_top, max: Limits.topLogprobsMax, "emitted.top") { entry throws(WireError) in
                guard !entry.logprob.isNaN else { throw FieldCheck.fail("emitted.top.logprob", "is NaN") }
                return TokenLogprob(token: try token(entry.token, "emitted.top.token"), logprob: entry.logprob)
            })
    }
}
