import ModelFiles

/// What requests mean that say nothing of sampling, for targets that do not read model files.
package typealias GenerationDefaults = SamplingDefaults

/// What a process without the model file needs to talk to the model: its tokenizer, its chat layout and its makers' sampling defaults, out of
/// the file's header bytes.
package struct ModelPrompting: Sendable {
    package let tokenizer: Tokenizer
    /// Why there is none is a `PromptError`: the file carries no template, or one that this interpreter cannot read. Text
    /// completion works without.
    package let chatTemplate: Result<ChatTemplate, PromptError>
    /// The one for conversations with tools, where the model has its own for these (`tool_use`).
    private let toolTemplate: Result<ChatTemplate, PromptError>?
    package let defaults: GenerationDefaults

    /// - Parameter ggufHeader: magic, version, counts and all key-value pairs; what follows is not looked at.
    /// - Throws: `invalidValue` for a damaged header, and what `Tokenizer.init` throws.
    package init(ggufHeader: [UInt8]) throws(PromptError) {
        let metadata: Metadata
        do {
            metadata = try Metadata(ggufHeaderBytes: ggufHeader)
        } catch {
            throw PromptError(.invalidValue, "The model's header cannot be read.", cause: error)
        }
        try self.init(metadata: metadata)
    }

    package init(metadata: Metadata) throws(PromptError) {
        tokenizer = try Tokenizer(metadata: metadata)
        chatTemplate = Self.chatTemplate(metadata, HFKey.chatTemplate)
        let toolKey = HFKey.chatTemplate(named: "tool_use")
        toolTemplate = metadata[toolKey] == nil ? nil : Self.chatTemplate(metadata, toolKey)
        do {
            defaults = try GenerationDefaults(metadata)
        } catch {
            throw PromptError(.invalidValue, "The model's sampling defaults cannot be read.", cause: error)
        }
    }

    private static func chatTemplate(_ metadata: Metadata, _ key: String) -> Result<ChatTemplate, PromptError> {
        let source: String?
        do {
            source = try metadata.string(key)
        } catch {
            return .failure(PromptError(.invalidValue, "The model's chat template cannot be read.", cause: error))
        }
        guard let source else {
            return .failure(
                PromptError(.missingKey, "The model carries no chat template (metadata key '\(key)'), so it cannot chat. Use text completion."))
        }
        do {
            return .success(try ChatTemplate(source: source))
        } catch {
            return .failure(PromptError(.templateUnsupported, "The model's chat template cannot be used.", cause: error))
        }
    }

    /// Renders a conversation and tokenizes it. Control tokens that the template writes are tokens.
    /// - Parameters: as `ChatTemplate.render`, which adds the tokenizer's BOS and EOS texts.
    /// - Throws: `missingKey` or `templateUnsupported` where there is no usable template, else `TemplateError` as `cause`
    ///   under `templateRaised`, `templateLimit` or `templateFailed`.
    package func render(
        messages: TemplateValue, tools: TemplateValue?, addGenerationPrompt: Bool, extra: [(String, TemplateValue)], now: TemplateClock
    ) throws(PromptError) -> String {
        let isWithTools: Bool
        if case .array(let tools)? = tools { isWithTools = !tools.isEmpty } else { isWithTools = false }
        let template = try (isWithTools ? toolTemplate ?? chatTemplate : chatTemplate).get()
        do {
            return try template.render(
                messages: messages, tools: tools, documents: nil, addGenerationPrompt: addGenerationPrompt,
                bosToken: tokenizer.bosToken?.text ?? "", eosToken: tokenizer.eosToken?.text ?? "", extra: extra, now: now)
        } catch {
            switch error.code {
            case .raised: throw PromptError(.templateRaised, error.message, cause: error)
            case .limit: throw PromptError(.templateLimit, error.message, cause: error)
            default: throw PromptError(.templateFailed, "The model's chat template failed on these messages: \(error)", cause: error)
            }
        }
    }

    /// Tokens of a rendered conversation: BOS goes in front where the model wants one and the template wrote none.
    package func encodeChat(_ text: String) -> [Int32] {
        let tokens = tokenizer.encode(text, addSpecial: false, parseSpecial: true)
        guard tokenizer.addsBOS, let bos = tokenizer.bosToken?.id, tokens.first != bos else { return tokens }
        return [bos] + tokens
    }
}
