import CPCRE2

/// A regular expression that a tokenizer's file brings, compiled to find matches in valid UTF-8. Immutable once compiled, so threads may share it.
///
/// The reference reads expressions with Oniguruma; `PatternTranslation` writes them so that PCRE2 finds the same, or refuses them. An
/// expression from a file may be made to take for ever: the work for one match is bounded, and where the bound is met the rest of the text is
/// without a match. The bound counts PCRE2's steps and not time, so every machine stops at the same place.
///
/// `@unchecked`: as `SplitPattern`.
final class SearchPattern: @unchecked Sendable {
    private static let matchStepsMax: UInt32 = 5_000_000
    private static let heapKiBMax: UInt32 = 32 << 10
    private static let expressionBytesMax = 16 << 10
    /// In PCRE2's words.
    let pattern: String
    private let code: OpaquePointer
    private let hasMachineCode: Bool

    /// An expression of a file. Throws `unsupportedTokenizer`.
    convenience init(expression: String) throws(PromptError) {
        guard expression.utf8.count <= Self.expressionBytesMax else {
            throw TokenizerJSON.unsupported("has an expression of \(expression.utf8.count) bytes")
        }
        let pattern = try PatternTranslation.pattern(of: expression)
        // Those of the families we know backtrack at most once over what they match; for them the machine code needs no bound.
        let isOwn = Self.published.contains(expression) || PreTokenizer.allCases.contains { $0.pattern == pattern }
        guard let code = Self.compiled(pattern) else { throw TokenizerJSON.unsupported("has the expression '\(expression)'") }
        self.init(pattern, code, isTrusted: isOwn)
    }

    /// - Parameter own: our own constant, in PCRE2's words.
    convenience init(own pattern: String) {
        guard let code = Self.compiled(pattern) else { preconditionFailure("PCRE2 cannot read \(pattern)") }
        self.init(pattern, code, isTrusted: true)
    }

    private init(_ pattern: String, _ code: OpaquePointer, isTrusted: Bool) {
        self.pattern = pattern
        self.code = code
        hasMachineCode = isTrusted && pcre2_jit_compile_8(code, UInt32(PCRE2_JIT_COMPLETE)) == 0
    }

    /// Expressions of GPT-4's and GPT-4o's tokenizers, which others have taken over.
    private static let published: Set<String> = {
        let upper = #"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"#
        let lower = #"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"#
        let start = #"[^\r\n\p{L}\p{N}]?"#
        let ending = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        return [
            "\(start)\(upper)*\(lower)+\(ending)|\(start)\(upper)+\(lower)*\(ending)|"
                + #"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"#,
            #"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"#,
        ]
    }()

    deinit { pcre2_code_free_8(code) }

    private static func compiled(_ pattern: String) -> OpaquePointer? {
        var errorNumber: Int32 = 0
        var errorOffset = 0
        var text = pattern
        return text.withUTF8 { utf8 in
            let options = UInt32(PCRE2_UTF) | UInt32(PCRE2_UCP) | UInt32(PCRE2_NEVER_BACKSLASH_C)
            return pcre2_compile_8(utf8.baseAddress, utf8.count, options, &errorNumber, &errorOffset, nil)
        }
    }

    /// Ranges of all matches that are not empty, in order.
    ///
    /// - Parameter text: valid UTF-8; PCRE2 is told not to look.
    func matches(in text: UnsafeBufferPointer<UInt8>) -> [Range<Int>] {
        guard let data = pcre2_match_data_create_8(1, nil), let context = pcre2_match_context_create_8(nil) else {
            preconditionFailure("out of memory for one PCRE2 match")
        }
        defer {
            pcre2_match_context_free_8(context)
            pcre2_match_data_free_8(data)
        }
        pcre2_set_match_limit_8(context, hasMachineCode ? UInt32.max : Self.matchStepsMax)
        pcre2_set_heap_limit_8(context, Self.heapKiBMax)
        let offsets = pcre2_get_ovector_pointer_8(data)!
        var ranges: [Range<Int>] = []
        var start = 0
        while start < text.count {
            let options = UInt32(PCRE2_NO_UTF_CHECK)
            let result =
                hasMachineCode
                ? pcre2_jit_match_8(code, text.baseAddress, text.count, start, options, data, context)
                : pcre2_match_8(code, text.baseAddress, text.count, start, options, data, context)
            guard result > 0 else { break }
            let range = offsets[0]..<max(offsets[0], offsets[1])
            if range.isEmpty {
                start = range.upperBound + 1
                while start < text.count, text[start] & 0xC0 == 0x80 { start += 1 }
            } else {
                ranges.append(range)
                start = range.upperBound
            }
        }
        return ranges
    }
}

/// Writes an expression for PCRE2 that was written for Oniguruma. White space is listed, as in `PreTokenizer`; what the two read differently is
/// refused.
enum PatternTranslation {
    static func pattern(of expression: String) throws(PromptError) -> String {
        var result = ""
        var isInClass = false
        var characters = expression.unicodeScalars.makeIterator()
        func refused(_ what: String) -> PromptError { TokenizerJSON.unsupported("has the expression '\(expression)' with \(what)") }
        var previous: Unicode.Scalar?
        while let character = characters.next() {
            switch character {
            case "\\":
                guard let escaped = characters.next() else { throw refused("nothing behind its last backslash") }
                switch escaped {
                case "s": result += isInClass ? PreTokenizer.space : "[\(PreTokenizer.space)]"
                case "S":
                    guard !isInClass else { throw refused("\\S in brackets") }
                    result += "[^\(PreTokenizer.space)]"
                // Letters that mean the same to both, digits that count groups aside.
                case "r", "n", "t", "f", "d", "D", "w", "W", "p", "P", "b", "B", "A", "z", "x", "u":
                    guard escaped != "u" else { throw refused("\\u") }
                    result += "\\\(escaped)"
                case _ where escaped.properties.isAlphabetic || escaped.properties.numericType != nil: throw refused("\\\(escaped)")
                default: result += "\\\(escaped)"
                }
            case "[":
                guard !isInClass else { throw refused("brackets in brackets") }
                isInClass = true
                result += "["
            case "]":
                isInClass = false
                result += "]"
            // Ends of a line to one, of the text to the other.
            case "^", "$":
                guard isInClass else { throw refused("\(character) outside of brackets") }
                result.unicodeScalars.append(character)
            case "&" where isInClass && previous == "&": throw refused("&& in brackets")
            default: result.unicodeScalars.append(character)
            }
            previous = character
        }
        return result
    }
}
