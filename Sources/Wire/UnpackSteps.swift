import CWire
import ClusterCore

// Requests, steps, results and tokens, out of protobuf-c's structs.

extension Unpack {
    static func generationRequest(_ p: UnsafePointer<Staffel__V1__GenerationRequest>) throws(WireError) -> GenerationRequest {
        let f = Fields("GenerationRequest")
        let m = p.pointee
        let choices = try f.integer(m.has_choices, m.choices, "choices", 1...Limits.choicesMax)
        let resumed = try f.list(m.n_resumed, m.resumed, "resumed", atMost: Limits.choicesMax) { (list) throws(WireError) in
            try f.tokens(list.pointee.n_tokens, list.pointee.tokens, "resumed", 0...Limits.contextTokensMax)
        }
        try f.require(resumed.isEmpty || resumed.count == choices, "resumed", "has \(resumed.count) entries for \(choices) choices")
        return GenerationRequest(
            id: try requestID(m.id, f, "id"), prompt: try f.tokens(m.n_prompt, m.prompt, "prompt", 1...Limits.contextTokensMax),
            sampling: try sampling(f.submessage(m.sampling, "sampling")), choices: choices,
            topLogprobs: try topLogprobs(m.has_top_logprobs, m.top_logprobs, f),
            priority: try f.present(m.has_priority, m.priority, "priority"), tenant: Tenant(try f.present(m.has_tenant, m.tenant, "tenant")),
            weight: try f.integer(m.has_weight, m.weight, "weight", 1...Limits.tenantWeightMax), resumed: resumed,
            continues: m.continues == nil ? nil : try requestID(m.continues, f, "continues"))
    }

    static func sampling(_ p: UnsafePointer<Staffel__V1__SamplingParameters>) throws(WireError) -> SamplingParameters {
        let f = Fields("SamplingParameters")
        let m = p.pointee
        var value = SamplingParameters()
        value.temperature = try f.float(m.has_temperature, m.temperature, "temperature", 0...100)
        value.topK = Int32(try f.integer(m.has_top_k, m.top_k, "top_k", 0...Int(Int32.max)))
        value.topP = try f.float(m.has_top_p, m.top_p, "top_p", Float.leastNonzeroMagnitude...1)
        value.minP = try f.float(m.has_min_p, m.min_p, "min_p", 0...1)
        value.repetitionPenalty = try f.float(m.has_repetition_penalty, m.repetition_penalty, "repetition_penalty", Float.leastNonzeroMagnitude...10)
        value.presencePenalty = try f.float(m.has_presence_penalty, m.presence_penalty, "presence_penalty", -2...2)
        value.frequencyPenalty = try f.float(m.has_frequency_penalty, m.frequency_penalty, "frequency_penalty", -2...2)
        value.logitBias = try logitBias(m, f)
        value.seed = try f.present(m.has_seed, m.seed, "seed")
        value.minTokens = Int32(try f.integer(m.has_min_tokens, m.min_tokens, "min_tokens", 0...Int(Int32.max)))
        value.maxTokens = Int32(try f.integer(m.has_max_tokens, m.max_tokens, "max_tokens", 1...Int(Int32.max)))
        value.ignoreEndTokens = try f.present(m.has_ignore_end_tokens, m.ignore_end_tokens, "ignore_end_tokens") != 0
        value.stopTokens = try f.tokens(m.n_stop_tokens, m.stop_tokens, "stop_tokens", 0...Limits.stopTokensMax)
        return value
    }

    private static func logitBias(_ m: Staffel__V1__SamplingParameters, _ f: Fields) throws(WireError) -> [LogitBias] {
        let tokens = try f.tokens(m.n_logit_bias_tokens, m.logit_bias_tokens, "logit_bias_tokens", 0...Limits.logitBiasMax)
        try f.requireAscending(tokens, "logit_bias_tokens")
        try f.require(m.n_logit_bias_values == tokens.count, "logit_bias_values", "has \(m.n_logit_bias_values) entries for \(tokens.count) tokens")
        var biases: [LogitBias] = []
        for (index, token) in tokens.enumerated() {
            biases.append(LogitBias(token: token, bias: try f.float(1, m.logit_bias_values[index], "logit_bias_values", -100...100)))
        }
        return biases
    }

    private static func topLogprobs(_ has: protobuf_c_boolean, _ value: UInt32, _ f: Fields) throws(WireError) -> Int? {
        has == 0 ? nil : try f.integer(has, value, "top_logprobs", 0...Limits.topLogprobsMax)
    }

    static func emitted(_ p: UnsafePointer<Staffel__V1__EmittedToken>) throws(WireError) -> EmittedToken {
        let f = Fields("EmittedToken")
        let m = p.pointee
        let token = try f.present(m.has_token, m.token, "token")
        try f.require(token >= 0 && Int(token) < Limits.vocabularyMax, "token", "is \(token), allowed is 0..<\(Limits.vocabularyMax)")
        let topTokens = try f.tokens(m.n_top_tokens, m.top_tokens, "top_tokens", 0...Limits.topLogprobsMax)
        try f.require(m.n_top_logprobs == topTokens.count, "top_logprobs", "has \(m.n_top_logprobs) entries for \(topTokens.count) tokens")
        try f.require(m.has_logprob != 0 || topTokens.isEmpty, "logprob", "is missing beside alternatives")
        var top: [TokenLogprob] = []
        for (index, token) in topTokens.enumerated() {
            top.append(TokenLogprob(token: token, logprob: try logprob(1, m.top_logprobs[index], "top_logprobs", f)))
        }
        return EmittedToken(token: token, logprob: m.has_logprob == 0 ? nil : try logprob(m.has_logprob, m.logprob, "logprob", f), top: top)
    }

    /// A rounding error above 0 is no reason to drop a step's result.
    private static func logprob(_ has: protobuf_c_boolean, _ value: Float, _ field: StaticString, _ f: Fields) throws(WireError) -> Float {
        try f.float(has, value, field, -Float.infinity...1)
    }

    static func tokenBatch(_ p: UnsafePointer<Staffel__V1__TokenBatch>) throws(WireError) -> TokenBatch {
        let f = Fields("TokenBatch")
        let m = p.pointee
        let first = try f.integer(m.has_first_index, m.first_index, "first_index", 0...Limits.contextTokensMax)
        let tokens = try f.list(m.n_tokens, m.tokens, "tokens", atMost: Limits.tokensPerBatchMax, emitted)
        try f.require(!tokens.isEmpty, "tokens", "is empty")
        try f.require(first + tokens.count <= Limits.contextTokensMax, "tokens", "reaches index \(first + tokens.count), over the longest context")
        return TokenBatch(
            request: try requestID(m.request, f, "request"),
            choice: UInt32(try f.integer(m.has_choice, m.choice, "choice", 0...Limits.choicesMax - 1)),
            firstIndex: first, tokens: tokens)
    }

    static func step(_ p: UnsafePointer<Staffel__V1__Step>) throws(WireError) -> Step {
        let f = Fields("Step")
        let m = p.pointee
        let opens = try f.list(m.n_opens, m.opens, "opens", atMost: Limits.stepSegmentsMax, sequenceOpen)
        try f.requireDistinct(opens.map(\.sequence), "opens")
        try f.require(m.n_closes <= WireLimits.stepClosesMax, "closes", "has \(m.n_closes) entries, allowed are \(WireLimits.stepClosesMax)")
        var closes: [SequenceID] = []
        for value in UnsafeBufferPointer(start: m.closes, count: m.n_closes) { closes.append(SequenceID(try f.counter(1, value, "closes"))) }
        try f.requireDistinct(closes, "closes")
        let segments = try f.list(m.n_segments, m.segments, "segments", atMost: Limits.stepSegmentsMax, segment)
        try f.requireDistinct(segments.map(\.sequence), "segments")
        var step = Step(
            epoch: try f.epoch(m.has_epoch, m.epoch), number: StepNumber(try f.counter(m.has_number, m.number, "number")), opens: opens,
            closes: closes, copies: try copies(m, f), segments: segments)
        if let layers = m.rebuild_layers {
            let hasInputs = m.has_rebuild_has_inputs != 0 && m.rebuild_has_inputs != 0
            step.rebuild = Rebuild(layers: try f.layers(layers, "rebuild_layers"), hasInputs: hasInputs)
            try f.require(step.rebuild!.isSound, "rebuild_layers", "has no layer before it that could have kept its inputs")
        }
        if m.has_follow_ups != 0 { step.followUps = try f.integer(m.has_follow_ups, m.follow_ups, "follow_ups", 0...Limits.followUpsMax) }
        try f.require(step.number.value > 0, "number", "is 0, steps are numbered from 1")
        try f.require(step.rowCount <= Limits.stepRowsMax, "segments", "has \(step.rowCount) rows, allowed are \(Limits.stepRowsMax)")
        return step
    }

    static func followUp(_ p: UnsafePointer<Staffel__V1__Step>) throws(WireError) -> Step {
        let step = try step(p)
        try Fields("Step").require(step.canBeFollowUp, "segments", "have more than one known row each, or need more than the stages know")
        return step
    }

    private static func copies(_ m: Staffel__V1__Step, _ f: Fields) throws(WireError) -> [BlockCopy] {
        try f.require(
            m.n_copies_from <= Limits.stepSegmentsMax, "copies_from", "has \(m.n_copies_from) entries, allowed are \(Limits.stepSegmentsMax)")
        try f.require(m.n_copies_to == m.n_copies_from, "copies_to", "has \(m.n_copies_to) entries for \(m.n_copies_from) copies")
        return (0..<m.n_copies_from).map { BlockCopy(from: BlockID(m.copies_from[$0]), to: BlockID(m.copies_to[$0])) }
    }

    static func sequenceOpen(_ p: UnsafePointer<Staffel__V1__SequenceOpen>) throws(WireError) -> SequenceOpen {
        let f = Fields("SequenceOpen")
        let m = p.pointee
        let tokens = try f.tokens(m.n_tokens, m.tokens, "tokens", 1...Limits.contextTokensMax)
        let endTokens = try f.tokens(m.n_end_tokens, m.end_tokens, "end_tokens", 0...WireLimits.endTokensMax)
        try f.requireAscending(endTokens, "end_tokens")
        return SequenceOpen(
            sequence: try f.sequence(m.has_sequence, m.sequence),
            choice: UInt32(try f.integer(m.has_choice, m.choice, "choice", 0...Limits.choicesMax - 1)),
            tokens: tokens, promptLength: try f.integer(m.has_prompt_length, m.prompt_length, "prompt_length", 1...tokens.count),
            cached: try f.integer(m.has_cached, m.cached, "cached", 0...tokens.count - 1),
            sampling: try sampling(f.submessage(m.sampling, "sampling")), endTokens: endTokens,
            topLogprobs: try topLogprobs(m.has_top_logprobs, m.top_logprobs, f))
    }

    static func segment(_ p: UnsafePointer<Staffel__V1__Segment>) throws(WireError) -> Segment {
        let f = Fields("Segment")
        let m = p.pointee
        let tokens = try f.tokens(m.n_tokens, m.tokens, "tokens", 1...Limits.stepRowsMax)
        let start = try f.integer(m.has_start, m.start, "start", 0...Limits.contextTokensMax)
        try f.require(start + tokens.count <= Limits.contextTokensMax, "start", "is \(start) with \(tokens.count) tokens, over the longest context")
        try f.require(
            m.n_new_blocks <= WireLimits.segmentBlocksMax, "new_blocks", "has \(m.n_new_blocks) entries, allowed are \(WireLimits.segmentBlocksMax)")
        let blocks = UnsafeBufferPointer(start: m.new_blocks, count: m.n_new_blocks).map { BlockID($0) }
        try f.requireDistinct(blocks, "new_blocks")
        let samples = try f.present(m.has_samples, m.samples, "samples") != 0
        // The first row is known, whatever follows.
        let drafts = m.has_drafts == 0 ? 0 : try f.integer(m.has_drafts, m.drafts, "drafts", 0...tokens.count - 1)
        try f.require(samples || drafts == 0, "drafts", "is \(drafts) in a segment that does not sample")
        return Segment(
            sequence: try f.sequence(m.has_sequence, m.sequence), start: start, tokens: tokens, newBlocks: blocks, samples: samples, drafts: drafts)
    }

    static func stepFrame(_ p: UnsafePointer<Staffel__V1__StepFrame>) throws(WireError) -> StepFrame {
        let f = Fields("StepFrame")
        let m = p.pointee
        let poisoned = try f.list(m.n_poisoned, m.poisoned, "poisoned", atMost: Limits.stepSegmentsMax, poisonedSequence)
        try f.requireDistinct(poisoned.map(\.sequence), "poisoned")
        return StepFrame(
            step: try step(f.submessage(m.step, "step")), timings: try f.list(m.n_timings, m.timings, "timings", atMost: Limits.stagesMax, timing),
            poisoned: poisoned)
    }

    static func timing(_ p: UnsafePointer<Staffel__V1__StageTiming>) throws(WireError) -> StageTiming {
        let f = Fields("StageTiming")
        let m = p.pointee
        var timing = StageTiming(
            queueNanoseconds: try f.counter(m.has_queue_nanoseconds, m.queue_nanoseconds, "queue_nanoseconds", atMost: WireLimits.nanosecondsMax),
            computeNanoseconds: try f.counter(
                m.has_compute_nanoseconds, m.compute_nanoseconds, "compute_nanoseconds", atMost: WireLimits.nanosecondsMax),
            idleNanoseconds: try f.counterOrZero(m.has_idle_nanoseconds, m.idle_nanoseconds, "idle_nanoseconds", atMost: WireLimits.nanosecondsMax),
            handOverNanoseconds: try f.counterOrZero(
                m.has_hand_over_nanoseconds, m.hand_over_nanoseconds, "hand_over_nanoseconds", atMost: WireLimits.nanosecondsMax),
            readBytes: try f.counterOrZero(m.has_read_bytes, m.read_bytes, "read_bytes", atMost: WireLimits.bytesMax))
        timing.streamedBytes = try f.counterOrZero(m.has_streamed_bytes, m.streamed_bytes, "streamed_bytes", atMost: WireLimits.bytesMax)
        timing.streamWaitNanoseconds = try f.counterOrZero(
            m.has_stream_wait_nanoseconds, m.stream_wait_nanoseconds, "stream_wait_nanoseconds", atMost: WireLimits.nanosecondsMax)
        timing.begunNanoseconds = try f.counterOrZero(
            m.has_begun_nanoseconds, m.begun_nanoseconds, "begun_nanoseconds", atMost: WireLimits.nanosecondsMax)
        timing.streamReadNanoseconds = try f.counterOrZero(
            m.has_stream_read_nanoseconds, m.stream_read_nanoseconds, "stream_read_nanoseconds", atMost: WireLimits.nanosecondsMax)
        return timing
    }

    static func poisonedSequence(_ p: UnsafePointer<Staffel__V1__PoisonedSequence>) throws(WireError) -> PoisonedSequence {
        let f = Fields("PoisonedSequence")
        return PoisonedSequence(
            sequence: try f.sequence(p.pointee.has_sequence, p.pointee.sequence), layers: try f.layers(p.pointee.layers, "layers"))
    }

    static func stepResult(_ p: UnsafePointer<Staffel__V1__StepResult>) throws(WireError) -> StepResult {
        let f = Fields("StepResult")
        let m = p.pointee
        let tokens = try f.list(m.n_tokens, m.tokens, "tokens", atMost: Limits.stepRowsMax, sampledToken)
        let poisoned = try f.list(m.n_poisoned, m.poisoned, "poisoned", atMost: Limits.stepSegmentsMax, poisonedSequence)
        try requireRuns(tokens, f)
        try f.requireDistinct(poisoned.map(\.sequence), "poisoned")
        var result = StepResult(
            epoch: try f.epoch(m.has_epoch, m.epoch), number: StepNumber(try f.counter(m.has_number, m.number, "number")), tokens: tokens,
            poisoned: poisoned,
            timings: try f.list(m.n_timings, m.timings, "timings", atMost: Limits.stagesMax, timing))
        result.isFollowed = m.has_followed != 0 && m.followed != 0
        return result
    }

    /// Tokens of a sequence stand together, at consecutive positions.
    private static func requireRuns(_ tokens: [SampledToken], _ f: Fields) throws(WireError) {
        var firsts: [SequenceID] = []
        for (index, token) in tokens.enumerated() {
            if index > 0, tokens[index - 1].sequence == token.sequence {
                try f.require(token.position == tokens[index - 1].position + 1, "tokens", "has position \(token.position) after \(tokens[index - 1].position)")
            } else {
                firsts.append(token.sequence)
            }
        }
        try f.requireDistinct(firsts, "tokens")
    }

    static func sampledToken(_ p: UnsafePointer<Staffel__V1__SampledToken>) throws(WireError) -> SampledToken {
        let f = Fields("SampledToken")
        let m = p.pointee
        return SampledToken(
            sequence: try f.sequence(m.has_sequence, m.sequence),
            position: try f.integer(m.has_position, m.position, "position", 0...Limits.contextTokensMax),
            emitted: try emitted(f.submessage(m.emitted, "emitted")))
    }
}
