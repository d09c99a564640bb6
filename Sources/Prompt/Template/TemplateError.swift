/// What went wrong with a chat template or with JSON that was handed to one.
///
/// Every failure of a template is the fault of the template, of the messages or of a limit, never a trap:
/// templates come out of model files and out of requests, so they are untrusted input.
package struct TemplateError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The kinds of failure. The raw values are stable: they may be logged, counted and put into API answers.
    package enum Code: String, Sendable {
        /// The template's text is no valid template.
        case syntax = "template_syntax"
        /// The template uses a part of the language that this interpreter leaves out.
        case unsupported = "template_unsupported"
        /// An operation met a value it cannot work on (Python's TypeError, ValueError and kin).
        case evaluation = "template_evaluation"
        /// An undefined value was used for more than printing, testing or iterating.
        case undefined = "template_undefined"
        /// The template called `raise_exception`: it refuses these messages.
        case raised = "template_raised"
        /// A limit of `TemplateLimits` was reached.
        case limit = "template_limit"
        /// A value's JSON text is damaged.
        case json = "template_json"
    }

    package let code: Code
    /// What was asked, what was found and, where it helps, what to do. For `raised` exactly the template's words.
    package let message: String
    /// Where in the template, 1-based; nil for JSON and for limits on whole inputs. For failures while rendering
    /// it is the statement or the `{{ }}` that was being worked on.
    package var position: Position?
    /// The failure below this one.
    package let cause: String?

    package struct Position: Sendable, Equatable {
        package let line: Int
        /// In bytes from the line's beginning, 1-based.
        package let column: Int
    }

    package init(_ code: Code, _ message: String, at position: Position? = nil, cause: String? = nil) {
        self.code = code
        self.message = message
        self.position = position
        self.cause = cause
    }

    package var description: String {
        var text = "\(code.rawValue): \(message)"
        if let position { text += " (template line \(position.line), column \(position.column))" }
        if let cause { text += "; cause: \(cause)" }
        return text
    }
}
