import ModelFiles

/// Holds a tokenizer that was written in other words against the original.
struct VocabularyComparison {
    let original: Tokenizer
    let made: Tokenizer

    /// Throws `unsupportedTokenizer` with the first difference.
    func check() throws(PromptError) {
        guard original.vocabularySize <= made.vocabularySize else { throw different("lacks tokens") }
        for id in 0..<Int32(original.vocabularySize) where made.vocabulary.types[Int(id)] != .unused {
            guard original.bytes(of: id) == made.bytes(of: id) else {
                throw different("reads the token \(id) '\(original.name(of: id))' as another text")
            }
            guard original.isSpecial(id) == made.isSpecial(id) else {
                let found = made.isSpecial(id) ? "a" : "no"
                throw different("takes the token \(id) '\(original.name(of: id))' for \(found) special one")
            }
        }
        guard original.endTokens == made.endTokens else { throw different("ends texts with the tokens \(made.endTokens) and not \(original.endTokens)") }
        guard original.around == made.around else { throw different("puts other tokens around a text") }
        guard original.leadingSpaces == made.leadingSpaces else { throw different("treats spaces at the beginning of a text otherwise") }
        for text in Self.texts + textsWithAddedTokens {
            for isSpecial in [true, false] {
                let tokens = made.encode(text, addSpecial: isSpecial, parseSpecial: isSpecial)
                let wanted = original.encode(text, addSpecial: isSpecial, parseSpecial: isSpecial)
                guard tokens == wanted else { throw different("gives other tokens for '\(text)'") }
            }
        }
    }

    private func different(_ what: String) -> PromptError {
        PromptError(.unsupportedTokenizer, "Written into a GGUF file, the folder's tokenizer \(what). Serve the folder as it is, or quantise it when it is loaded.")
    }

    /// Words, numbers, spaces, lines, code and scripts, all in NFC.
    private static let texts = [
        "", " ", "  ", "\n", "a", " a", "a ", "The relay race is run by teams of four.", "  Two spaces,   three; a\ttab\u{A0}and such  ",
        "I'm, you're, he'll, THEY'D, it's — we've", "0 12 345 6789 3.14159 1,000,000 ½ ٣٤ Ⅻ", "line one\nline two\r\n\r\n  indented\n\n\n\tend\n",
        "def f(x):\n    return x**2 + 3*x - 1  # comment\n", "http://example.com/a?b=c&d=%20#e", "Größe, façade, naïve, Łódź, Đặng", "Привет, мир! Как дела?",
        "日本語の文章です。中文字符也在這裡。", "한국어 문장입니다.", "مرحبا بالعالم", "नमस्ते दुनिया", "👩‍👩‍👧 🏳️‍🌈 𝔘𝔫𝔦 ﬁ", "▁under ▁line▁", "<s>text</s><unk> [INST] <|im_end|>",
        "CamelCaseWordsAND_SNAKE_CASE x==y!=z<=w", "aaaaaaaaaaaaaaaa  bbbbbbbb....,,,,!!!!", "\u{0}\u{7}\u{1B}[0m \u{200B}\u{FEFF}",
    ]

    private static let addedMax = 64

    /// Beside each other, beside spaces and words.
    private var textsWithAddedTokens: [String] {
        let names = (0..<Int32(original.vocabularySize)).lazy.map(original.name).filter { made.tokenID(named: $0) != nil }
        return names.prefix(Self.addedMax).flatMap { name in [name, "a\(name)b", "a \(name) b \(name)\(name)", "\(name) Two words\n\(name)\n"] }
    }
}

extension Tokenizer {
    /// What stands before and behind a text.
    var around: [[Int32]] { [prefix, suffix] }
}
