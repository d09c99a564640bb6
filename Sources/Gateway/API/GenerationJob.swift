import ClusterCore
import Prompt

/// One prompt of a request, ready to be sent.
struct EncodedPrompt: Hashable {
    var tokens: [TokenID]
    /// For `echo`; empty otherwise.
    var echo: String = ""
}

/// What a request wants generated: everything is in range and fits the model.
struct GenerationJob {
    enum Kind { case chat, completion }

    var kind: Kind
    var options: GenerationOptions
    var prompts: [EncodedPrompt]
    /// By prompt: how many tokens may follow.
    var answerTokens: [Int32]

    var choiceCount: Int { prompts.count * options.choices }
    var promptTokens: Int { prompts.reduce(0) { $0 + $1.tokens.count } }

    /// - Parameter priority: what the client may have, see `Client.priority(asked:)`.
    func request(_ id: RequestID, prompt: Int, of client: Client, priority: Int32) -> GenerationRequest {
        var sampling = options.sampling
        sampling.maxTokens = answerTokens[prompt]
        return GenerationRequest(
            id: id, prompt: prompts[prompt].tokens, sampling: sampling, choices: options.choices,
            topLogprobs: options.topLogprobs, priority: priority, tenant: client.tenant,
            weight: client.weight)
    }
}

extension GenerationJob {
    /// `POST /v1/chat/completions`.
    init(chat fields: Fields, model: ServedModel, limits: GatewayLimits, randomSeed: UInt64, now: TemplateClock) throws(APIError) {
        var options = try GenerationOptions(
            fields, vocabulary: model.tokenizer.vocabularySize, limits: limits, defaults: model.defaults, randomSeed: randomSeed)
        let top = try fields.int("top_logprobs", in: 0...Limits.topLogprobsMax)
        if try fields.bool("logprobs") {
            options.topLogprobs = top ?? 0
        } else if top != nil {
            throw .invalid("top_logprobs", "'top_logprobs' is only taken together with \"logprobs\": true.")
        }
        let conversation = try Conversation(fields, limits: limits)
        let prompt = EncodedPrompt(tokens: try conversation.tokens(model, now: now))
        try self.init(.chat, options, [prompt], param: "messages", model)
    }

    /// `POST /v1/completions`.
    init(completion fields: Fields, model: ServedModel, limits: GatewayLimits, randomSeed: UInt64) throws(APIError) {
        var options = try GenerationOptions(
            fields, vocabulary: model.tokenizer.vocabularySize, limits: limits, defaults: model.defaults, randomSeed: randomSeed)
        options.topLogprobs = try fields.int("logprobs", in: 0...Limits.topLogprobsMax)
        // What OpenAI's own completions do where nothing is said.
        if options.maxTokens == nil { options.maxTokens = 16 }
        if let suffix = try fields.string("suffix"), !suffix.isEmpty {
            throw .unsupported("suffix", "To fill in the middle is not supported yet.")
        }
        let echoes = try fields.bool("echo")
        if echoes, options.topLogprobs != nil {
            throw .unsupported("echo", "Log-probabilities of an echoed prompt are not supported yet.")
        }
        let prompts = try Self.prompts(fields, model: model, limits: limits, echoes: echoes, skipsSpecial: options.skipsSpecialTokens)
        guard prompts.count * options.choices <= limits.choicesMax else {
            throw .invalid(
                "n",
                "\(prompts.count) prompts with \(options.choices) choices each are more than the \(limits.choicesMax) choices that one request may have.",
                code: "out_of_range")
        }
        try self.init(.completion, options, prompts, param: "prompt", model)
    }

    private init(_ kind: Kind, _ options: GenerationOptions, _ prompts: [EncodedPrompt], param: String, _ model: ServedModel) throws(APIError) {
        var answerTokens: [Int32] = []
        for prompt in prompts {
            answerTokens.append(
                try model.answerTokens(promptTokens: prompt.tokens.count, maxTokens: options.maxTokens, param: param))
        }
        self.kind = kind
        self.options = options
        self.prompts = prompts
        self.answerTokens = answerTokens
        // Only when nothing was asked for can the room be below `min_tokens`.
        guard answerTokens.allSatisfy({ $0 >= options.sampling.minTokens }) else {
            throw .contextExceeded(
                promptTokens: prompts.map(\.tokens.count).max() ?? 0, maxTokens: Int(options.sampling.minTokens),
                contextTokens: model.contextTokens, param: param)
        }
    }

    // MARK: Prompts of completions

    /// `prompt` is a string, strings, token ids, or several lists of token ids.
    private static func prompts(
        _ fields: Fields, model: ServedModel, limits: GatewayLimits, echoes: Bool, skipsSpecial: Bool
    ) throws(APIError) -> [EncodedPrompt] {
        let addsSpecial = try fields.bool("add_special_tokens", default: true)
        switch fields.value("prompt") {
        case nil: throw .missing("prompt", "a string, an array of strings, token ids, or arrays of token ids")
        case .array(let items)?:
            guard let first = items.first else { throw .invalid("prompt", "'prompt' is an empty array. Give at least one prompt.") }
            if case .int = first {
                return [try ids(items, "prompt", model, echoes: echoes, skipsSpecial: skipsSpecial)]
            }
            guard items.count <= limits.promptsMax else {
                throw .invalid("prompt", "'prompt' has \(items.count) entries, but at most \(limits.promptsMax) are taken.", code: "array_too_long")
            }
            var prompts: [EncodedPrompt] = []
            for (index, item) in items.enumerated() {
                let path = "prompt[\(index)]"
                switch (item, first) {
                case (.string(let text), .string):
                    prompts.append(try encoded(text, path, model, addsSpecial: addsSpecial, echoes: echoes))
                case (.array(let list), .array):
                    prompts.append(try ids(list, path, model, echoes: echoes, skipsSpecial: skipsSpecial))
                default: throw .wrongType(path, wanted: "a string or an array of token ids, as all others", found: item.kindForPeople)
                }
            }
            return prompts
        case .string(let text)?: return [try encoded(text, "prompt", model, addsSpecial: addsSpecial, echoes: echoes)]
        case let other?: throw fields.wrongType("prompt", "a string or an array", other)
        }
    }

    private static func encoded(_ text: String, _ path: String, _ model: ServedModel, addsSpecial: Bool, echoes: Bool) throws(APIError)
        -> EncodedPrompt
    {
        let tokens = model.tokenizer.encode(text, addSpecial: addsSpecial, parseSpecial: true)
        guard !tokens.isEmpty else { throw .invalid(path, "'\(path)' is empty. Give at least one token to go on from.") }
        return EncodedPrompt(tokens: tokens, echo: echoes ? text : "")
    }

    private static func ids(_ items: [TemplateValue], _ path: String, _ model: ServedModel, echoes: Bool, skipsSpecial: Bool) throws(APIError)
        -> EncodedPrompt
    {
        guard !items.isEmpty else { throw .invalid(path, "'\(path)' is empty. Give at least one token to go on from.") }
        guard items.count < model.contextTokens else {
            throw .contextExceeded(promptTokens: items.count, maxTokens: nil, contextTokens: model.contextTokens, param: path)
        }
        var tokens: [TokenID] = []
        tokens.reserveCapacity(items.count)
        for (index, item) in items.enumerated() {
            tokens.append(try GenerationOptions.token(item, "\(path)[\(index)]", vocabulary: model.tokenizer.vocabularySize))
        }
        return EncodedPrompt(tokens: tokens, echo: echoes ? model.tokenizer.text(of: tokens, skipSpecialTokens: skipsSpecial) : "")
    }
}

extension Conversation {
    /// The conversation as the model reads it.
    func tokens(_ model: ServedModel, now: TemplateClock) throws(APIError) -> [TokenID] {
        var text: String
        do {
            text = try model.prompting.render(
                messages: messages, tools: tools, addGenerationPrompt: addsGenerationPrompt, extra: templateVariables, now: now)
        } catch {
            let isOfTheModel = error.code == .missingKey || error.code == .templateUnsupported
            throw .invalid("messages", error.message, code: isOfTheModel ? "no_chat_template" : error.code.rawValue)
        }
        if continuesFinalMessage { text = try textUpToFinalContent(text) }
        let tokens = model.prompting.encodeChat(text)
        guard !tokens.isEmpty else { throw .invalid("messages", "The model's chat template makes an empty prompt of these messages.") }
        return tokens
    }

    /// Cuts off what the template puts behind the last message's content, its end-of-turn token above all.
    private func textUpToFinalContent(_ text: String) throws(APIError) -> String {
        guard case .array(let items) = messages, case .object(let last)? = items.last, case .string(let content)? = last["content"] else {
            preconditionFailure("a checked message has a content")
        }
        // Many templates trim content, so only what is left of it is looked for.
        let wanted = Array(content.utf8).trimmingWhitespace
        let bytes = Array(text.utf8)
        var start = bytes.count - wanted.count
        while start >= 0 {
            if bytes[start..<(start + wanted.count)].elementsEqual(wanted) {
                return String(decoding: bytes[..<(start + wanted.count)], as: UTF8.self)
            }
            start -= 1
        }
        throw .invalid("continue_final_message", "The model's chat template changes the last message, so it cannot be continued.")
    }
}

extension [UInt8] {
    fileprivate var trimmingWhitespace: ArraySlice<UInt8> {
        let isSpace: (UInt8) -> Bool = { $0 == 0x20 || (0x09...0x0D).contains($0) }
        guard let first = firstIndex(where: { !isSpace($0) }), let last = lastIndex(where: { !isSpace($0) }) else { return [] }
        return self[first...last]
    }
}
