import CWire
import ClusterCore

// Requests, steps, results and tokens, as protobuf-c's structs.

extension PackArena {
    func generationRequest(_ value: GenerationRequest) -> UnsafeMutablePointer<Staffel__V1__GenerationRequest> {
        make(staffel__v1__generation_request__init) { m in
            m.id = requestID(value.id)
            (m.n_prompt, m.prompt) = (value.prompt.count, copy(value.prompt))
            m.sampling = sampling(value.sampling)
            (m.has_choices, m.choices) = (1, UInt32(value.choices))
            if let top = value.topLogprobs { (m.has_top_logprobs, m.top_logprobs) = (1, UInt32(top)) }
            (m.has_priority, m.priority) = (1, value.priority)
            (m.has_tenant, m.tenant) = (1, value.tenant.value)
            (m.has_weight, m.weight) = (1, UInt32(value.weight))
            (m.n_resumed, m.resumed) = (value.resumed.count, table(value.resumed, tokenList))
            if let earlier = value.continues { m.continues = requestID(earlier) }
        }
    }

    func tokenList(_ tokens: [TokenID]) -> UnsafeMutablePointer<Staffel__V1__TokenList> {
        make(staffel__v1__token_list__init) { m in (m.n_tokens, m.tokens) = (tokens.count, copy(tokens)) }
    }

    func sampling(_ value: SamplingParameters) -> UnsafeMutablePointer<Staffel__V1__SamplingParameters> {
        make(staffel__v1__sampling_parameters__init) { m in
            (m.has_temperature, m.temperature) = (1, value.temperature)
            (m.has_top_k, m.top_k) = (1, UInt32(value.topK))
            (m.has_top_p, m.top_p) = (1, value.topP)
            (m.has_min_p, m.min_p) = (1, value.minP)
            (m.has_repetition_penalty, m.repetition_penalty) = (1, value.repetitionPenalty)
            (m.has_presence_penalty, m.presence_penalty) = (1, value.presencePenalty)
            (m.has_frequency_penalty, m.frequency_penalty) = (1, value.frequencyPenalty)
            (m.n_logit_bias_tokens, m.logit_bias_tokens) = (value.logitBias.count, copy(value.logitBias.map(\.token)))
            (m.n_logit_bias_values, m.logit_bias_values) = (value.logitBias.count, copy(value.logitBias.map(\.bias)))
            (m.has_seed, m.seed) = (1, value.seed)
            (m.has_min_tokens, m.min_tokens) = (1, UInt32(value.minTokens))
            (m.has_max_tokens, m.max_tokens) = (1, UInt32(value.maxTokens))
            (m.has_ignore_end_tokens, m.ignore_end_tokens) = (1, value.ignoreEndTokens ? 1 : 0)
            (m.n_stop_tokens, m.stop_tokens) = (value.stopTokens.count, copy(value.stopTokens))
        }
    }

    func emitted(_ value: EmittedToken) -> UnsafeMutablePointer<Staffel__V1__EmittedToken> {
        make(staffel__v1__emitted_token__init) { m in
            (m.has_token, m.token) = (1, value.token)
            if let logprob = value.logprob { (m.has_logprob, m.logprob) = (1, logprob) }
            (m.n_top_tokens, m.top_tokens) = (value.top.count, copy(value.top.map(\.token)))
            (m.n_top_logprobs, m.top_logprobs) = (value.top.count, copy(value.top.map(\.logprob)))
        }
    }

    func tokenBatch(_ value: TokenBatch) -> UnsafeMutablePointer<Staffel__V1__TokenBatch> {
        make(staffel__v1__token_batch__init) { m in
            m.request = requestID(value.request)
            (m.has_choice, m.choice) = (1, value.choice)
            (m.has_first_index, m.first_index) = (1, UInt32(value.firstIndex))
            (m.n_tokens, m.tokens) = (value.tokens.count, table(value.tokens, emitted))
        }
    }

    func step(_ value: Step) -> UnsafeMutablePointer<Staffel__V1__Step> {
        make(staffel__v1__step__init) { m in
            (m.has_epoch, m.epoch) = (1, value.epoch.value)
            (m.has_number, m.number) = (1, value.number.value)
            (m.n_opens, m.opens) = (value.opens.count, table(value.opens, sequenceOpen))
            (m.n_closes, m.closes) = (value.closes.count, copy(value.closes.map(\.value)))
            (m.n_segments, m.segments) = (value.segments.count, table(value.segments, segment))
            (m.n_copies_from, m.copies_from) = (value.copies.count, copy(value.copies.map(\.from.value)))
            (m.n_copies_to, m.copies_to) = (value.copies.count, copy(value.copies.map(\.to.value)))
            if let rebuild = value.rebuild {
                m.rebuild_layers = layerRange(rebuild.layers)
                (m.has_rebuild_has_inputs, m.rebuild_has_inputs) = (1, rebuild.hasInputs ? 1 : 0)
            }
            if value.followUps > 0 { (m.has_follow_ups, m.follow_ups) = (1, UInt32(value.followUps)) }
        }
    }

    func sequenceOpen(_ value: SequenceOpen) -> UnsafeMutablePointer<Staffel__V1__SequenceOpen> {
        make(staffel__v1__sequence_open__init) { m in
            (m.has_sequence, m.sequence) = (1, value.sequence.value)
            (m.has_choice, m.choice) = (1, value.choice)
            (m.n_tokens, m.tokens) = (value.tokens.count, copy(value.tokens))
            (m.has_prompt_length, m.prompt_length) = (1, UInt32(value.promptLength))
            (m.has_cached, m.cached) = (1, UInt32(value.cached))
            m.sampling = sampling(value.sampling)
            (m.n_end_tokens, m.end_tokens) = (value.endTokens.count, copy(value.endTokens))
            if let top = value.topLogprobs { (m.has_top_logprobs, m.top_logprobs) = (1, UInt32(top)) }
        }
    }

    func segment(_ value: Segment) -> UnsafeMutablePointer<Staffel__V1__Segment> {
        make(staffel__v1__segment__init) { m in
            (m.has_sequence, m.sequence) = (1, value.sequence.value)
            (m.has_start, m.start) = (1, UInt32(value.start))
            (m.n_tokens, m.tokens) = (value.tokens.count, copy(value.tokens))
            (m.n_new_blocks, m.new_blocks) = (value.newBlocks.count, copy(value.newBlocks.map(\.value)))
            (m.has_samples, m.samples) = (1, value.samples ? 1 : 0)
            if value.drafts > 0 { (m.has_drafts, m.drafts) = (1, UInt32(value.drafts)) }
        }
    }

    func stepFrame(_ value: StepFrame) -> UnsafeMutablePointer<Staffel__V1__StepFrame> {
        make(staffel__v1__step_frame__init) { m in
            m.step = step(value.step)
            (m.n_timings, m.timings) = (value.timings.count, table(value.timings, timing))
            (m.n_poisoned, m.poisoned) = (value.poisoned.count, table(value.poisoned, poisoned))
        }
    }

    func timing(_ value: StageTiming) -> UnsafeMutablePointer<Staffel__V1__StageTiming> {
        make(staffel__v1__stage_timing__init) { m in
            (m.has_queue_nanoseconds, m.queue_nanoseconds) = (1, value.queueNanoseconds)
            (m.has_compute_nanoseconds, m.compute_nanoseconds) = (1, value.computeNanoseconds)
            if value.idleNanoseconds > 0 { (m.has_idle_nanoseconds, m.idle_nanoseconds) = (1, min(value.idleNanoseconds, WireLimits.nanosecondsMax)) }
            if value.handOverNanoseconds > 0 {
                (m.has_hand_over_nanoseconds, m.hand_over_nanoseconds) = (1, min(value.handOverNanoseconds, WireLimits.nanosecondsMax))
            }
            if value.readBytes > 0 { (m.has_read_bytes, m.read_bytes) = (1, min(value.readBytes, WireLimits.bytesMax)) }
            if value.streamedBytes > 0 { (m.has_streamed_bytes, m.streamed_bytes) = (1, min(value.streamedBytes, WireLimits.bytesMax)) }
            if value.streamWaitNanoseconds > 0 {
                (m.has_stream_wait_nanoseconds, m.stream_wait_nanoseconds) = (1, min(value.streamWaitNanoseconds, WireLimits.nanosecondsMax))
            }
            if value.begunNanoseconds > 0 {
                (m.has_begun_nanoseconds, m.begun_nanoseconds) = (1, min(value.begunNanoseconds, WireLimits.nanosecondsMax))
            }
            if value.streamReadNanoseconds > 0 {
                (m.has_stream_read_nanoseconds, m.stream_read_nanoseconds) = (1, min(value.streamReadNanoseconds, WireLimits.nanosecondsMax))
            }
        }
    }

    func poisoned(_ value: PoisonedSequence) -> UnsafeMutablePointer<Staffel__V1__PoisonedSequence> {
        make(staffel__v1__poisoned_sequence__init) { m in
            (m.has_sequence, m.sequence) = (1, value.sequence.value)
            m.layers = layerRange(value.layers)
        }
    }

    func stepResult(_ value: StepResult) -> UnsafeMutablePointer<Staffel__V1__StepResult> {
        make(staffel__v1__step_result__init) { m in
            (m.has_epoch, m.epoch) = (1, value.epoch.value)
            (m.has_number, m.number) = (1, value.number.value)
            (m.n_tokens, m.tokens) = (value.tokens.count, table(value.tokens, sampledToken))
            (m.n_poisoned, m.poisoned) = (value.poisoned.count, table(value.poisoned, poisoned))
            (m.n_timings, m.timings) = (value.timings.count, table(value.timings, timing))
            if value.isFollowed { (m.has_followed, m.followed) = (1, 1) }
        }
    }

    func sampledToken(_ value: SampledToken) -> UnsafeMutablePointer<Staffel__V1__SampledToken> {
        make(staffel__v1__sampled_token__init) { m in
            (m.has_sequence, m.sequence) = (1, value.sequence.value)
            (m.has_position, m.position) = (1, UInt32(value.position))
            m.emitted = emitted(value.emitted)
        }
    }
}
