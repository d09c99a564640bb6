/// A byte-level BPE vocabulary of any size, with the merges that make it: every byte, then words of two letters, of three and
/// so on, of which some begin with a space; last three tokens that bound messages. Any text can be written in it.
enum SyntheticVocabulary {
    /// Bytes and the last three.
    static let countMin = 256 + controls.count

    private static let controls = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    private static let letters = (UInt8(ascii: "a")...UInt8(ascii: "z")).map { String(UnicodeScalar($0)) }
    private static let space = "\u{120}"
    private static let chatTemplate =
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
        + "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"

    /// Adds the keys of a vocabulary of `count` tokens, at least `countMin`.
    static func add(to metadata: inout Metadata, count: Int, preTokenizer: String) {
        precondition(count >= countMin, "\(count) tokens do not hold all bytes")
        let words = words(count - countMin)
        var tokens = StringArray(byteAlphabet())
        for word in words { tokens.append(utf8: word.whole.utf8) }
        for control in controls { tokens.append(utf8: control.utf8) }
        let types = [Int32](repeating: 1, count: count - controls.count) + [Int32](repeating: 3, count: controls.count)

        metadata.set("tokenizer.ggml.model", .string("gpt2"))
        metadata.set("tokenizer.ggml.pre", .string(preTokenizer))
        metadata.set("tokenizer.ggml.tokens", .array(.string(tokens)))
        metadata.set("tokenizer.ggml.token_type", .array(.int32(types)))
        metadata.set("tokenizer.ggml.merges", .array(.string(StringArray(words.map { "\($0.left) \($0.right)" }))))
        metadata.set("tokenizer.ggml.bos_token_id", .uint32(UInt32(count - 3)))
        metadata.set("tokenizer.ggml.eos_token_id", .uint32(UInt32(count - 1)))
        metadata.set("tokenizer.ggml.padding_token_id", .uint32(UInt32(count - 3)))
        metadata.set("tokenizer.ggml.add_bos_token", .bool(false))
        metadata.set("tokenizer.chat_template", .string(chatTemplate))
    }

    private struct Word {
        let left: String
        let right: String
        var whole: String { left + right }
    }

    /// The first `count` words, shorter ones first; each is a shorter one, or a letter or the space, and one letter more.
    private static func words(_ count: Int) -> [Word] {
        var words: [Word] = []
        words.reserveCapacity(count)
        var stems = [space] + letters
        while words.count < count {
            var longer: [String] = []
            for stem in stems {
                for letter in letters {
                    guard words.count < count else { return words }
                    words.append(Word(left: stem, right: letter))
                    longer.append(stem + letter)
                }
            }
            stems = longer
        }
        return words
    }

    /// GPT-2's characters for the bytes 0...255: printable ones of Latin-1 stand for themselves, the others follow at U+0100.
    private static func byteAlphabet() -> [String] {
        var next: UInt32 = 0x100
        return (0..<256).map { byte in
            let isPrintable = (0x21...0x7E).contains(byte) || (0xA1...0xAC).contains(byte) || (0xAE...0xFF).contains(byte)
            if isPrintable { return String(UnicodeScalar(UInt8(byte))) }
            defer { next += 1 }
            return String(UnicodeScalar(next)!)
        }
    }
}
