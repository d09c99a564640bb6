import CPCRE2

/// A compiled pattern that cuts valid UTF-8 into consecutive matches. Immutable once compiled, so threads may share it.
///
/// `@unchecked`: the compiled code is a C pointer that is only read after `init` (PCRE2 documents compiled code,
/// including its JIT code, as shareable between threads); what a match writes is in `Matcher`, one for each encoding.
final class SplitPattern: @unchecked Sendable {
    private let code: OpaquePointer
    private let hasMachineCode: Bool

    /// - Parameter pattern: our own constant; a pattern that does not compile is a bug here, not a fault of a file.
    init(_ pattern: String) {
        var errorNumber: Int32 = 0
        var errorOffset = 0
        var text = pattern
        let compiled = text.withUTF8 { utf8 in
            pcre2_compile_8(
                utf8.baseAddress, utf8.count, UInt32(PCRE2_UTF) | UInt32(PCRE2_NO_UTF_CHECK) | UInt32(PCRE2_ANCHORED),
                &errorNumber, &errorOffset, nil)
        }
        guard let compiled else {
            preconditionFailure("PCRE2 error \(errorNumber) at byte \(errorOffset) of the pattern \(pattern)")
        }
        code = compiled
        // Where the library was built without JIT this fails, and `Matcher` interprets instead: slower, the same cuts.
        hasMachineCode = pcre2_jit_compile_8(code, UInt32(PCRE2_JIT_COMPLETE)) == 0
    }

    deinit { pcre2_code_free_8(code) }

    /// The memory of one encoding's matches.
    struct Matcher: ~Copyable {
        private let pattern: SplitPattern
        private let matchData: OpaquePointer
        private let matchContext: OpaquePointer
        private let offsets: UnsafeMutablePointer<Int>

        init(_ pattern: SplitPattern) {
            guard
                let data = pcre2_match_data_create_8(1, nil),
                let context = pcre2_match_context_create_8(nil)
            else { preconditionFailure("out of memory for one PCRE2 match") }
            self.pattern = pattern
            matchData = data
            matchContext = context
            offsets = pcre2_get_ovector_pointer_8(data)
            // Our patterns backtrack at most once over what they match, so the work is bounded by the text's length;
            // PCRE2's default limits would end in the middle of a long run of one kind.
            pcre2_set_match_limit_8(context, UInt32.max)
        }

        deinit {
            pcre2_match_context_free_8(matchContext)
            pcre2_match_data_free_8(matchData)
        }

        /// The end of the match that starts at `start`; at least one character is matched whatever the text.
        ///
        /// - Parameter text: valid UTF-8; PCRE2 is told not to look.
        mutating func matchEnd(in text: UnsafeBufferPointer<UInt8>, from start: Int) -> Int {
            let options = UInt32(PCRE2_NO_UTF_CHECK)
            let result =
                pattern.hasMachineCode
                ? pcre2_jit_match_8(pattern.code, text.baseAddress, text.count, start, options, matchData, matchContext)
                : pcre2_match_8(pattern.code, text.baseAddress, text.count, start, options, matchData, matchContext)
            precondition(result > 0 && offsets[1] > start, "the patterns match any text; PCRE2 answered \(result)")
            return offsets[1]
        }
    }
}
