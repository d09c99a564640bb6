import ModelFiles

/// What a process without the model file needs to talk to the model: its tokenizer and its chat layout, out of the
/// file's header bytes.
package struct ModelPrompting: Sendable {
    package let tokenizer: Tokenizer
    /// Why there is none is a `PromptError`: the file carries no template, or one that this interpreter cannot read. Text
    /// completion works without.
    package let chatTemplate: Result<ChatTemplate, PromptError>
    /// Licence and provenance, for whoever shows the model.
    package let origin: ModelOrigin

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
        chatTemplate = Self.chatTemplate(metadata)
        origin = ModelOrigin(metadata)
    }

    private static func chatTemplate(_ metadata: Metadata) -> Result<ChatTemplate, PromptError> {
        let key = "tokenizer.chat_template"
        let source: String?
        do {
            source = try metadata.string(key)
        } catch {
            return .failure(PromptError(.invalidValue, "The model's chat template cannot be read.", cause: error))
        }
        guard let source else {
            return .failure(
                PromptError(.missingKey, "The model file carries no chat template (metadata key '\(key)'), so it cannot chat. Use text completion."))
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
        let template = try chatTemplate.get()
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
