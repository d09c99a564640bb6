import Testing

@testable import Prompt

/// Tokens back to bytes and text, whole and streamed.
@Suite struct DecodingTests {
    @Test("byte-level tokens give back any input", arguments: ["gpt-2", "smollm", "llama-bpe", "qwen2", "tekken"])
    func bytesSurvive(name: String) throws {
        let tokenizer = try TokenizerFixtures.tokenizer(name)
        for entry in try TokenizerFixtures.corpus() {
            let tokens = tokenizer.encode(entry.bytes, addSpecial: false, parseSpecial: true)
            #expect(tokens.flatMap(tokenizer.bytes(of:)) == entry.bytes)
        }
    }

    /// The script that made the corpus has asserted the same of the reference.
    @Test("texts survive, damaged bytes become U+FFFD", arguments: ["gpt-2", "llama-bpe", "llama"])
    func textsSurvive(name: String) throws {
        let tokenizer = try TokenizerFixtures.tokenizer(name)
        for entry in try TokenizerFixtures.corpus() where entry.kind != "special" && !entry.text.contains("▁") {
            let tokens = tokenizer.encode(entry.bytes, addSpecial: false, parseSpecial: false)
            let text = tokenizer.text(of: tokens, skipSpecialTokens: false)
            #expect(Array(text.utf8) == Array(entry.text.utf8), "\(entry.kind) \(entry.text.debugDescription)")
        }
    }

    @Test("streaming gives the text of all bytes at once, never half a character", arguments: ["gpt-2", "llama"])
    func streaming(name: String) throws {
        let tokenizer = try TokenizerFixtures.tokenizer(name)
        for entry in try TokenizerFixtures.corpus() {
            // Each byte a token of its own: the most cuts that there can be.
            let tokens = entry.bytes.map { byte in singleByteToken(byte, tokenizer) }
            var detokenizer = StreamingDetokenizer(tokenizer: tokenizer, skipSpecialTokens: false, continuesText: true)
            var pieces = tokens.map { detokenizer.append($0) }
            pieces.append(detokenizer.finish())
            #expect(Array(pieces.joined().utf8) == Array(entry.text.utf8), "\(entry.text.debugDescription)")
            if entry.kind != "bytes", !entry.text.unicodeScalars.contains("\u{FFFD}") {
                #expect(!pieces.contains { $0.unicodeScalars.contains("\u{FFFD}") }, "\(pieces)")
                #expect(pieces.last == "")
            }
        }
    }

    private func singleByteToken(_ byte: UInt8, _ tokenizer: Tokenizer) -> Int32 {
        let token = tokenizer.vocabulary.byteTokens[Int(byte)]
        return token >= 0 ? token : tokenizer.vocabulary.table.find([byte])
    }

    @Test("random tokens, random cuts: the same text as at once")
    func randomTokens() throws {
        for name in ["tekken", "llama", "phi3"] {
            let tokenizer = try TokenizerFixtures.tokenizer(name)
            var random = SeededRandom(seed: 7)
            for _ in 0..<300 {
                let tokens = (0..<Int.random(in: 1...20, using: &random)).map { _ in
                    Int32.random(in: -2..<Int32(tokenizer.vocabularySize + 2), using: &random)
                }
                var bytes = tokens.flatMap(tokenizer.bytes(of:))
                if tokenizer.leadingSpaces != .kept, bytes.first == 0x20 { bytes.removeFirst() }
                #expect(tokenizer.text(of: tokens, skipSpecialTokens: false) == String(decoding: bytes, as: UTF8.self))
                #expect(
                    tokenizer.text(of: tokens, skipSpecialTokens: true)
                        == tokenizer.text(of: tokens.filter { !tokenizer.isSpecial($0) }, skipSpecialTokens: false))
            }
        }
    }

    @Test("the first space of a SentencePiece text is the tokenizer's own")
    func leadingSpace() throws {
        let tokenizer = try TokenizerFixtures.tokenizer("llama")
        let tokens = tokenizer.encode("the quick", addSpecial: true, parseSpecial: false)
        #expect(tokenizer.text(of: tokens, skipSpecialTokens: true) == "the quick")
        #expect(tokenizer.text(of: tokens, skipSpecialTokens: false) == "<s> the quick")
        var detokenizer = StreamingDetokenizer(tokenizer: tokenizer, skipSpecialTokens: true, continuesText: true)
        #expect(tokens.map { detokenizer.append($0) }.joined() == " the quick")
    }

    @Test("held bytes come out as soon as nothing can complete them")
    func replacement() throws {
        let tokenizer = try TokenizerFixtures.tokenizer("gpt-2")
        var detokenizer = StreamingDetokenizer(tokenizer: tokenizer, skipSpecialTokens: false)
        let texts = [0xF0, 0x9F, 0x98, 0x41, 0xED, 0xA0, 0xC3].map { detokenizer.append(singleByteToken($0, tokenizer)) }
        #expect(texts == ["", "", "", "\u{FFFD}A", "", "\u{FFFD}\u{FFFD}", ""])
        #expect(detokenizer.finish() == "\u{FFFD}")
    }
}

/// SplitMix64; a seed makes a test's run the same everywhere.
struct SeededRandom: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        return mixed ^ mixed >> 31
    }
}
