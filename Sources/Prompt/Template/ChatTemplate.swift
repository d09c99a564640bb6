/// The moment `strftime_now` tells of, given from outside so that rendering is a pure function.
package struct TemplateClock: Sendable, Equatable {
    package var secondsSinceEpoch: Int
    /// Seconds east of UTC; a template sees local time.
    package var utcOffsetSeconds: Int

    package init(secondsSinceEpoch: Int, utcOffsetSeconds: Int = 0) {
        self.secondsSinceEpoch = secondsSinceEpoch
        self.utcOffsetSeconds = utcOffsetSeconds
    }
}

/// The Jinja template of a model's chat layout: read once, rendered many times, from any number of threads.
///
/// The language is jinja2's as Hugging Face transformers sets it up: immutable sandbox, `trim_blocks`, `lstrip_blocks`,
/// loop controls, `{% generation %}`, a `tojson` that writes plain JSON, `raise_exception` and `strftime_now`. Results
/// are the same bytes, and a part that is left out (`include` and kin, rare filters, integers beyond 64 bits) is an
/// error of code `unsupported` or `evaluation`, with these exceptions, which no published template is known to touch:
/// `escape` and `safe` give plain text, so it is neither escaped again by `+` nor printed as `Markup(…)` in a list;
/// the lazy filters (`map`, `select`, …) work at once, so an item nobody asks for may still raise an error; a block
/// that reads a name before the block around it sets that name finds the caller's variable, not nothing; slicing a
/// constant that cannot be sliced is an error, not nothing; objects without a text of their own print without their
/// address.
package struct ChatTemplate: Sendable {
    private let program: Jinja.Program
    private let limits: TemplateLimits

    /// Reads a template.
    /// - Parameters:
    ///   - source: the text, as `tokenizer.chat_template` of a GGUF file or `chat_template` of a tokenizer's
    ///     configuration carries it.
    ///   - limits: what one template may cost, at reading and at each rendering.
    /// - Throws: codes `syntax`, `unsupported` and `limit`, with line and column.
    package init(source: String, limits: TemplateLimits = .standard) throws(TemplateError) {
        program = try Jinja.Parser.program(of: Array(source.utf8), limits: limits)
        self.limits = limits
    }

    /// Renders a conversation to the text that is then tokenized.
    /// - Parameters:
    ///   - messages: an array of objects with `role`, `content` and what else the template knows (`tool_calls`, …).
    ///   - tools: the tools' descriptions; nil makes `tools` none, as transformers does.
    ///   - documents: nil makes `documents` none.
    ///   - addGenerationPrompt: whether the text ends with the opening of the model's answer.
    ///   - bosToken: the text of the token that begins every prompt; empty where the model has none.
    ///   - eosToken: likewise for the end.
    ///   - extra: further variables (`enable_thinking`, `date_string`, …); they win over the ones above.
    ///   - now: what `strftime_now` tells.
    /// - Throws: every code but `json`; `raised` carries the template's own refusal.
    package func render(
        messages: TemplateValue, tools: TemplateValue?, documents: TemplateValue?, addGenerationPrompt: Bool,
        bosToken: String, eosToken: String, extra: [(String, TemplateValue)], now: TemplateClock
    ) throws(TemplateError) -> String {
        let standard: [(String, TemplateValue)] = [
            ("messages", messages), ("tools", tools ?? .null), ("documents", documents ?? .null),
            ("add_generation_prompt", .bool(addGenerationPrompt)), ("bos_token", .string(bosToken)),
            ("eos_token", .string(eosToken)),
        ]
        return try render(variables: standard + extra, now: now)
    }

    /// Renders with exactly these variables.
    package func render(variables: [(String, TemplateValue)], now: TemplateClock) throws(TemplateError) -> String {
        let interpreter = Jinja.Interpreter(program: program, limits: limits, now: now)
        return try interpreter.render(variables)
    }
}
