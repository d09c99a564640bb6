import CWire
import ClusterCore

extension Encoder {
    static func sampling(_ sampling: SamplingParameters, _ arena: inout Arena) -> UnsafeMutablePointer<Staffel__V1__SamplingParameters> {
        var value = Staffel__V1__SamplingParameters()
        staffel__v1__sampling_parameters__init(&value)
        value.temperature = sampling.temperature
        value.top_k = UInt32(clamping: sampling.topK)
        value.top_p = sampling.topP
        value.min_p = sampling.minP
        value.repetition_penalty = sampling.repetitionPenalty
        value.presence_penalty = sampling.presencePenalty
        value.frequency_penalty = sampling.frequencyPenalty
        let biases = sampling.logitBias.map { entry in
            var bias = Staffel__V1__LogitBias()
            staffel__v1__logit_bias__init(&bias)
            bias.token = UInt32(bitPattern: entry.token)
            bias.bias = entry.bias
            return bias
        }
        value.n_logit_bias = biases.count
        value.logit_bias = arena.pointers(biases)
        value.seed = sampling.seed
        value.min_tokens = UInt32(clamping: sampling.minTokens)
        value.max_tokens = UInt32(clamping: sampling.maxTokens)
        value.ignore_end_tokens = sampling.ignoreEndTokens ? 1 : 0
        (value.n_stop_tokens, value.stop_tokens) = tokens(sampling.stopTokens, &arena)
        return arena.pointer(value)
    }

    static func generationRequest(_ request: GenerationRequest, _ arena: inout Arena) -> UnsafeMutablePointer<Staffel__V1__GenerationRequest> {
        var value = Staffel__V1__GenerationRequest()
        staffel__v1__generation_request__init(&value)
        value.id = requestID(request.id, &arena)
        (value.n_prompt, value.prompt) = tokens(request.prompt, &arena)
        value.sampling = sampling(request.sampling, &arena)
        value.choices = UInt32(clamping: request.choices)
        value.top_logprobs = count(request.topLogprobs, &arena)
        value.priority = request.priority
        let resumed = request.resumed.map { list in
            var value = Staffel__V1__TokenList()
            staffel__v1__token_list__init(&value)
            (value.n_tokens, value.tokens) = tokens(list, &arena)
            return value
        }
        value.n_resumed = resumed.count
        value.resumed = arena.pointers(resumed)
        return arena.pointer(value)
    }

    static func step(_ step: Step, _ arena: inout Arena) -> UnsafeMutablePointer<Staffel__V1__Step> {
        var value = Staffel__V1__Step()
        staffel__v1__step__init(&value)
        value.epoch = step.epoch.value
        value.number = step.number.value
        let opens = step.opens.map { open in sequenceOpen(open, &arena) }
        value.n_opens = opens.count
        value.opens = arena.pointers(opens)
        value.n_closes = step.closes.count
        value.closes = arena.array(step.closes.map(\.value))
        let segments = step.segments.map { part in segment(part, &arena) }
        value.n_segments = segments.count
        value.segments = arena.pointers(segments)
        return arena.pointer(value)
    }

    private static func sequenceOpen(_ open: SequenceOpen, _ arena: inout Arena) -> Staffel__V1__SequenceOpen {
        var value = Staffel__V1__SequenceOpen()
        staffel__v1__sequence_open__init(&value)
        value.sequence = open.sequence.value
        value.choice = open.choice
        (value.n_tokens, value.tokens) = tokens(open.tokens, &arena)
        value.prompt_length = UInt32(clamping: open.promptLength)
        value.sampling = sampling(open.sampling, &arena)
        (value.n_end_tokens, value.end_tokens) = tokens(open.endTokens, &arena)
        value.top_logprobs = count(open.topLogprobs, &arena)
        return value
    }

    private static func segment(_ segment: Segment, _ arena: inout Arena) -> Staffel__V1__Segment {
        var value = Staffel__V1__Segment()
        staffel__v1__segment__init(&value)
        value.sequence = segment.sequence.value
        value.start = UInt32(clamping: segment.start)
        (value.n_tokens, value.tokens) = tokens(segment.tokens, &arena)
        value.n_new_blocks = segment.newBlocks.count
        value.new_blocks = arena.array(segment.newBlocks.map(\.value))
        value.samples = segment.samples ? 1 : 0
        return value
    }

    static func stepFrame(_ frame: StepFrame, _ arena: inout Arena) -> UnsafeMutablePointer<Staffel__V1__StepFrame> {
        var value = Staffel__V1__StepFrame()
        staffel__v1__step_frame__init(&value)
        value.step = step(frame.step, &arena)
        (value.n_timings, value.timings) = timings(frame.timings, &arena)
        (value.n_poisoned, value.poisoned) = poisoned(frame.poisoned, &arena)
        return arena.pointer(value)
    }

    static func stepResult(_ result: StepResult, _ arena: inout Arena) -> UnsafeMutablePointer<Staffel__V1__StepResult> {
        var value = Staffel__V1__StepResult()
        staffel__v1__step_result__init(&value)
        value.epoch = result.epoch.value
        value.number = result.number.value
        let sampled = result.tokens.map { token in
            var sampled = Staffel__V1__SampledToken()
            staffel__v1__sampled_token__init(&sampled)
            sampled.sequence = token.sequence.value
            sampled.position = UInt32(clamping: token.position)
            sampled.emitted = arena.pointer(emitted(token.emitted, &arena))
            return sampled
        }
        value.n_tokens = sampled.count
        value.tokens = arena.pointers(sampled)
        (value.n_poisoned, value.poisoned) = poisoned(result.poisoned, &arena)
        (value.n_timings, value.timings) = timings(result.timings, &arena)
        return arena.pointer(value)
    }

    static func tokenBatch(_ batch: TokenBatch, _ arena: inout Arena) -> UnsafeMutablePointer<Staffel__V1__TokenBatch> {
        var value = Staffel__V1__TokenBatch()
        staffel__v1__token_batch__init(&value)
        value.request = requestID(batch.request, &arena)
        value.choice = batch.choice
        value.first_index = UInt32(clamping: batch.firstIndex)
        let tokens = batch.tokens.map { token in emitted(token, &arena) }
        value.n_tokens = tokens.count
        value.tokens = arena.pointers(tokens)
        return arena.pointer(value)
    }

    private static func emitted(_ token: EmittedToken, _ arena: inout Arena) -> Staffel__V1__EmittedToken {
        var value = Staffel__V1__EmittedToken()
        staffel__v1__emitted_token__init(&value)
        value.token = UInt32(bitPattern: token.token)
        value.has_logprob = token.logprob == nil ? 0 : 1
        value.logprob = token.logprob ?? 0
        let top = token.top.map { alternative in
            var top = Staffel__V1__TokenLogprob()
            staffel__v1__token_logprob__init(&top)
            top.token = UInt32(bitPattern: alternative.token)
            top.logprob = alternative.logprob
            return top
        }
        value.n_top = top.count
        value.top = arena.pointers(top)
        return value
    }

    private typealias List<Value> = (Int, UnsafeMutablePointer<UnsafeMutablePointer<Value>?>?)

    private static func timings(_ timings: [StageTiming], _ arena: inout Arena) -> List<Staffel__V1__StageTiming> {
        let values = timings.map { timing in
            var value = Staffel__V1__StageTiming()
            staffel__v1__stage_timing__init(&value)
            value.queue_nanoseconds = timing.queueNanoseconds
            value.compute_nanoseconds = timing.computeNanoseconds
            return value
        }
        return (values.count, arena.pointers(values))
    }

    private static func poisoned(_ poisoned: [PoisonedSequence], _ arena: inout Arena) -> List<Staffel__V1__PoisonedSequence> {
        let values = poisoned.map { entry in
            var value = Staffel__V1__PoisonedSequence()
            staffel__v1__poisoned_sequence__init(&value)
            value.sequence = entry.sequence.value
            value.layers = range(entry.layers, &arena)
            return value
        }
        return (values.count, arena.pointers(values))
    }

    private static func tokens(_ tokens: [TokenID], _ arena: inout Arena) -> (Int, UnsafeMutablePointer<UInt32>?) {
        (tokens.count, arena.array(tokens.lazy.map { UInt32(bitPattern: $0) }))
    }
}
