/// What is wrong with a vocabulary, a template or a request's text options, as a stable name that logs, tests and the API can rely on.
package enum PromptErrorCode: String, Sendable, CaseIterable {
    // The vocabulary in a model file's metadata
    case missingKey = "missing_key"
    case invalidValue = "invalid_value"
    case unsupportedTokenizer = "unsupported_tokenizer"
    case unsupportedPreTokenizer = "unsupported_pre_tokenizer"

    // What a request asks for
    case invalidStopStrings = "invalid_stop_strings"

    // Chat templates; `cause` is the `TemplateError` that says where
    /// The model's template cannot be used at all.
    case templateUnsupported = "template_unsupported"
    /// The template failed on this request's messages.
    case templateFailed = "template_failed"
    /// The template called `raise_exception`: its own message is the error's message.
    case templateRaised = "template_raised"
    case templateLimit = "template_limit"
}

/// The one error of this library: a vocabulary, template or input that cannot be used, and why.
package struct PromptError: Error, CustomStringConvertible {
    package let code: PromptErrorCode
    /// What was asked, what was found, what to do; whole sentences for a person.
    package let message: String
    /// The error of another library where there is one.
    package let cause: (any Error)?

    package init(_ code: PromptErrorCode, _ message: String, cause: (any Error)? = nil) {
        self.code = code
        self.message = message
        self.cause = cause
    }

    package var description: String {
        guard let cause else { return "\(message) [\(code.rawValue)]" }
        return "\(message) [\(code.rawValue)] (\(cause))"
    }
}
