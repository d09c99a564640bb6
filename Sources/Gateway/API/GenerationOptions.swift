import ClusterCore
import Prompt

/// The members that chat and completion requests share: how to generate, when to stop, what to answer with.
struct GenerationOptions {
    /// In range; `maxTokens` is set when the prompt's length is known.
    var sampling = SamplingParameters()
    /// `nil`: until the context is full.
    var maxTokens: Int?
    var choices = 1
    var stopStrings: [String] = []
    var includesStopString = false
    var skipsSpecialTokens = true
    var topLogprobs: Int?
    var streams = false
    var includesUsage = false
    var returnsTokenIDs = false
    /// Lower is sooner, as in vLLM. `nil`: the client's usual one.
    var priority: Int32?
    /// The client's own name for the request.
    var requestName: String?

    /// - Parameters:
    ///   - defaults: what the model's makers want where the request is silent.
    ///   - randomSeed: taken where the request names none.
    init(
        _ fields: Fields, vocabulary: Int, limits: GatewayLimits, defaults: GenerationDefaults = GenerationDefaults(), randomSeed: UInt64
    ) throws(APIError) {
        try Self.refuseUnsupported(fields)
        try readSampling(fields, defaults, randomSeed: randomSeed)
        try readStops(fields, vocabulary: vocabulary, limits: limits)
        sampling.logitBias = try Self.logitBias(fields, vocabulary: vocabulary)
        choices = try fields.int("n", in: 1...limits.choicesMax) ?? 1
        priority = try fields.int("priority", in: Int(Int32.min)...Int(Int32.max)).map { Int32($0) }
        skipsSpecialTokens = try fields.bool("skip_special_tokens", default: true)
        returnsTokenIDs = try fields.bool("return_token_ids")
        try readStreaming(fields)
        if let bestOf = try fields.int("best_of", in: 1...limits.choicesMax), bestOf != choices {
            throw .unsupported("best_of", "'best_of' other than 'n' is not supported yet.")
        }
        requestName = try fields.string("request_id")
        if let requestName, !RequestName.isUsable(requestName) { throw .invalid("request_id", RequestName.rule) }
    }

    private mutating func readSampling(_ fields: Fields, _ defaults: GenerationDefaults, randomSeed: UInt64) throws(APIError) {
        sampling.temperature = try fields.float("temperature", in: 0...100) ?? Float(defaults.temperature ?? 1)
        sampling.topP = try fields.float("top_p", above0UpTo: 1) ?? Float(defaults.topP ?? 1)
        // -1 and 0 both say "all".
        sampling.topK = Int32(max(0, try fields.int("top_k", in: -1...Int(Int32.max)) ?? defaults.topK ?? 0))
        sampling.minP = try fields.float("min_p", in: 0...1) ?? Float(defaults.minP ?? 0)
        sampling.repetitionPenalty = try fields.float("repetition_penalty", above0UpTo: 10) ?? Float(defaults.repetitionPenalty ?? 1)
        sampling.presencePenalty = try fields.float("presence_penalty", in: -2...2) ?? 0
        sampling.frequencyPenalty = try fields.float("frequency_penalty", in: -2...2) ?? 0
        sampling.seed = try fields.int("seed", in: Int.min...Int.max).map { UInt64(bitPattern: Int64($0)) } ?? randomSeed
        sampling.ignoreEndTokens = try fields.bool("ignore_eos")
        sampling.minTokens = Int32(try fields.int("min_tokens", in: 0...Limits.contextTokensMax) ?? 0)
        // The newer name wins where a client gives both.
        let maxTokens = try fields.int("max_tokens", in: 1...Int(Int32.max))
        self.maxTokens = try fields.int("max_completion_tokens", in: 1...Int(Int32.max)) ?? maxTokens
        if let maxTokens = self.maxTokens, sampling.minTokens > maxTokens {
            throw .invalid("min_tokens", "'min_tokens' is \(sampling.minTokens), more than the \(maxTokens) of 'max_tokens'.", code: "out_of_range")
        }
    }

    private mutating func readStops(_ fields: Fields, vocabulary: Int, limits: GatewayLimits) throws(APIError) {
        includesStopString = try fields.bool("include_stop_str_in_output")
        if case .string(let stop)? = fields.value("stop") {
            stopStrings = [stop]
        } else {
            for (index, item) in (try fields.array("stop", max: limits.stopStringsMax) ?? []).enumerated() {
                guard case .string(let stop) = item else {
                    throw .wrongType("stop[\(index)]", wanted: "a string", found: item.kindForPeople)
                }
                stopStrings.append(stop)
            }
        }
        for stop in stopStrings where stop.isEmpty || stop.utf8.count > limits.stopStringBytesMax {
            throw .invalid("stop", "A stop string has \(stop.utf8.count) bytes; 1...\(limits.stopStringBytesMax) are taken.", code: "out_of_range")
        }
        for (index, item) in (try fields.array("stop_token_ids", max: Limits.stopTokensMax) ?? []).enumerated() {
            let path = fields.path("stop_token_ids[\(index)]")
            sampling.stopTokens.append(try Self.token(item, path, vocabulary: vocabulary))
        }
    }

    private mutating func readStreaming(_ fields: Fields) throws(APIError) {
        streams = try fields.bool("stream")
        guard let options = try fields.object("stream_options") else { return }
        guard streams else { throw .invalid("stream_options", "'stream_options' is only taken together with \"stream\": true.") }
        includesUsage = try Fields(options, prefix: fields.path("stream_options.")).bool("include_usage")
    }

    private static func logitBias(_ fields: Fields, vocabulary: Int) throws(APIError) -> [LogitBias] {
        guard let object = try fields.object("logit_bias") else { return [] }
        guard object.entries.count <= Limits.logitBiasMax else {
            throw .invalid("logit_bias", "'logit_bias' has \(object.entries.count) entries, but at most \(Limits.logitBiasMax) are taken.", code: "array_too_long")
        }
        let biases = Fields(object, prefix: fields.path("logit_bias."))
        var byToken: [TokenID: Float] = [:]
        for (key, _) in object.entries {
            guard let id = Int32(key), id >= 0, Int(id) < vocabulary else {
                throw .invalid("logit_bias", "'logit_bias' names '\(key)', which is no token id of this model (0...\(vocabulary - 1)).", code: "out_of_range")
            }
            byToken[id] = try biases.float(key, in: -100...100)
        }
        return byToken.map { LogitBias(token: $0.key, bias: $0.value) }.sorted { $0.token < $1.token }
    }

    static func token(_ value: TemplateValue, _ path: String, vocabulary: Int) throws(APIError) -> TokenID {
        guard let id = value.asInt else { throw .wrongType(path, wanted: "a token id", found: value.kindForPeople) }
        guard id >= 0, id < vocabulary else {
            throw .invalid(path, "'\(path)' is \(id), but this model's token ids are 0...\(vocabulary - 1).", code: "out_of_range")
        }
        return TokenID(id)
    }

    /// What other servers obey and this one cannot yet. To ignore it would give an answer that the client did not ask for.
    private static func refuseUnsupported(_ fields: Fields) throws(APIError) {
        if let format = try fields.object("response_format") {
            let kind = try Fields(format, prefix: "response_format.").string("type") ?? "text"
            guard kind == "text" else { throw .unsupported("response_format", "Response format '\(kind)' is not supported yet; only 'text' is.") }
        }
        for key in ["structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "grammar", "json_schema"] {
            try fields.refuse(key, "Constrained output is not supported yet.")
        }
        try fields.refuse("prompt_logprobs", "Log-probabilities of the prompt are not supported yet.")
        if try fields.bool("use_beam_search") { throw .unsupported("use_beam_search", "Beam search is not supported.") }
    }
}

/// Names that clients give to their requests: they come back in a header and stand in logs.
enum RequestName {
    static let bytesMax = 128
    static let rule = "A request id has 1...\(bytesMax) characters out of letters, digits, '-', '_', '.', ':'."

    static func isUsable(_ name: String) -> Bool {
        (1...bytesMax).contains(name.utf8.count)
            && name.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
                case UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: ":"): true
                default: false
                }
            }
    }
}
