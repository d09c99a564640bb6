/// Tokens to text, one at a time, never half a character: bytes that more bytes could complete are held back.
///
/// All pieces together are what decoding all tokens' bytes at once gives; bytes that are no UTF-8 become U+FFFD, one for
/// each maximal part of a character (the Unicode standard's recommendation, as Swift, Python and browsers do it), as soon
/// as no further byte can complete them.
///
/// States: running, finished. Appending after `finish` is a wrong call and ends the process.
package struct StreamingDetokenizer: Sendable {
    private let tokenizer: Tokenizer
    private let skipSpecialTokens: Bool
    /// Bytes of the character that is not complete yet, at most three.
    private var held: [UInt8] = []
    /// What of the next spaces encoding put in front.
    private var leadingSpaces: TokenDecoder.LeadingSpaces
    private var isFinished = false

    /// - Parameters:
    ///   - skipSpecialTokens: whether control tokens give no text; otherwise they give their names.
    ///   - continuesText: true where the tokens follow others whose text is out already (a completion that echoes), so
    ///     that a leading space is the text's own.
    package init(tokenizer: Tokenizer, skipSpecialTokens: Bool, continuesText: Bool = false) {
        self.tokenizer = tokenizer
        self.skipSpecialTokens = skipSpecialTokens
        leadingSpaces = continuesText ? .kept : tokenizer.leadingSpaces
    }

    /// The text that this token completes; often empty.
    package mutating func append(_ token: Int32) -> String {
        precondition(!isFinished, "a finished detokenizer takes no tokens")
        if skipSpecialTokens, tokenizer.isSpecial(token) { return "" }
        var bytes = tokenizer.bytes(of: token)[...]
        dropLeadingSpaces(of: &bytes)
        held += bytes
        let complete = held.count - WellFormedUTF8.incompleteTail(of: held)
        let text = String(decoding: held[..<complete], as: UTF8.self)
        held.removeFirst(complete)
        return text
    }

    private mutating func dropLeadingSpaces(of bytes: inout ArraySlice<UInt8>) {
        switch leadingSpaces {
        case .kept: return
        case .removedFromFirstToken:
            leadingSpaces = .kept
            bytes = bytes.filter { $0 != 0x20 }[...]
        case .removed(var count):
            while count > 0, bytes.first == 0x20 {
                bytes.removeFirst()
                count -= 1
            }
            leadingSpaces = count > 0 && bytes.isEmpty ? .removed(count) : .kept
        }
    }

    /// The rest: U+FFFD for a character that was never completed, else nothing.
    package mutating func finish() -> String {
        precondition(!isFinished, "a detokenizer is finished once")
        isFinished = true
        defer { held = [] }
        return String(decoding: held, as: UTF8.self)
    }
}
