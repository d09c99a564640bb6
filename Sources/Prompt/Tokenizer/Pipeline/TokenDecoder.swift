import ModelFiles

/// What bytes a token stands for in text: the decoders of `tokenizer.json`, as far as each token has bytes of its own.
struct TokenDecoder: Sendable {
    private enum Step: Sendable {
        case byteLevel
        case replace([UInt8], with: [UInt8])
        case byteFallback
    }

    private var steps: [Step] = []
    /// What is taken away at the beginning of a text.
    private(set) var leadingSpaces = LeadingSpaces.kept
    private var isFused = false

    enum LeadingSpaces: Sendable, Equatable {
        case kept
        /// At most so many.
        case removed(Int)
        /// Those of the first token, however many.
        case removedFromFirstToken
    }

    init(json: JSONValue) throws(PromptError) {
        guard !json.isNull else { throw TokenizerJSON.unsupported("has no decoder, so tokens would be joined by spaces") }
        try add(json)
    }

    private mutating func add(_ value: JSONValue) throws(PromptError) {
        let (type, object) = try TokenizerJSON.part(value, "decoder")
        switch type {
        case "Sequence":
            guard let list = object["decoders"]?.array else { throw TokenizerJSON.invalid("has a sequence of decoders without a list") }
            for entry in list { try add(entry) }
        case "ByteLevel": steps.append(.byteLevel)
        case "ByteFallback": steps.append(.byteFallback)
        case "Fuse": isFused = true
        case "Replace":
            guard let old = object["pattern"]?.object?["String"]?.string, let new = object["content"]?.string, old.unicodeScalars.count == 1 else {
                throw TokenizerJSON.unsupported("has a decoder that replaces something else than one character")
            }
            steps.append(.replace(Array(old.utf8), with: Array(new.utf8)))
        case "Metaspace":
            guard let old = object["replacement"]?.string, old.unicodeScalars.count == 1 else { throw TokenizerJSON.invalid("has a Metaspace without a replacement") }
            let scheme = object["prepend_scheme"]?.string ?? (object["add_prefix_space"]?.bool ?? true ? "always" : "never")
            steps.append(.replace(Array(old.utf8), with: [0x20]))
            if scheme != "never" { leadingSpaces = .removedFromFirstToken }
        case "Strip":
            guard isFused, object["content"]?.string == " ", let start = object["start"]?.int, (0...1024).contains(start), object["stop"]?.int == 0 else {
                throw TokenizerJSON.unsupported("has a decoder that strips something else than spaces at the beginning of the whole text")
            }
            if start > 0 { leadingSpaces = .removed(start) }
        default: throw TokenizerJSON.unsupported("has a decoder of the type '\(type)'")
        }
    }

    /// For a SentencePiece file: U+2581 is a space, `<0xNN>` a byte.
    init(sentencePieceWithPrefix hasPrefix: Bool) {
        steps = [.replace(SpaceEscape.bytes, with: [0x20]), .byteFallback]
        leadingSpaces = hasPrefix ? .removed(1) : .kept
    }

    func bytes(of token: [UInt8]) -> [UInt8] {
        var bytes = token
        for step in steps {
            switch step {
            case .byteLevel: bytes = ByteAlphabet.decode(bytes[...]) ?? bytes
            case .replace(let old, let new): bytes = TextNormalizer.Step.replace(old, with: new).applied(to: bytes)
            case .byteFallback:
                // A byte is a character's part and nothing that later steps would know.
                if let byte = Vocabulary.byteValue(bytes[...]) { return [byte] }
            }
        }
        return bytes
    }
}
