import ModelFiles

/// The tokens of a model, checked: every id that it hands out is inside the table, every token has a type.
struct Vocabulary: Sendable {
    /// Token ids are `Int32` in the engine and on the wire; real vocabularies are below 300,000.
    static let tokensMax = 1 << 24

    /// The algorithm that made the vocabulary and how it writes bytes in token texts.
    enum Kind: Sendable {
        /// `tokenizer.ggml.model` = "gpt2": bytes written in `ByteAlphabet`.
        case byteLevel
        /// `tokenizer.ggml.model` = "llama": U+2581 for a space, `<0xNN>` for single bytes.
        case sentencePiece
        /// Of a tokenizer.json, which says all that itself.
        case pipeline
    }

    let kind: Kind
    /// Tokens as the file writes them.
    let texts: StringArray
    let types: [TokenType]
    /// The bytes each token stands for in text; what merging may produce is findable in it.
    let table: TokenTable
    let specialTokens: [SpecialTokenKey: Int32]
    /// Ids that end a generation, ascending.
    let endTokens: [Int32]
    /// SentencePiece's token of each single byte, -1 where there is none.
    let byteTokens: [Int32]

    var count: Int { texts.count }

    /// Of a Hugging Face folder, checked by whoever read it. `bytes`: what each token stands for in text.
    init(texts: StringArray, types: [TokenType], bytes: [[UInt8]], specialTokens: [SpecialTokenKey: Int32], endTokens: [Int32]) {
        kind = .pipeline
        self.texts = texts
        self.types = types
        table = TokenTable(tokens: bytes) { _ in false }
        self.specialTokens = specialTokens
        self.endTokens = endTokens
        byteTokens = []
    }

    init(_ source: VocabularySource) throws(PromptError) {
        switch source.model {
        case "gpt2": kind = .byteLevel
        case "llama": kind = .sentencePiece
        default:
            throw PromptError(
                .unsupportedTokenizer,
                "The metadata key '\(VocabularyKey.model)' names the tokenizer '\(source.model)', which is not supported; supported are gpt2 (byte-level BPE) and llama (SentencePiece BPE). Choose another model."
            )
        }
        guard !source.tokens.isEmpty, source.tokens.count <= Self.tokensMax else {
            throw Self.invalid(VocabularyKey.tokens, "holds \(source.tokens.count) tokens; 1 to \(Self.tokensMax) are possible")
        }
        texts = source.tokens
        let special = try Self.checkedSpecialTokens(source)
        specialTokens = special
        let named = EndTokenNames.ids(in: source.tokens)
        endTokens = Set([special[.eos], special[.eot], special[.eom]].compactMap { $0 } + named).sorted()
        let types = try Self.checkedTypes(source, alwaysControl: named)
        self.types = types

        var byteTokens = [Int32](repeating: -1, count: 256)
        var bytes: [[UInt8]] = []
        var isFindable = [Bool](repeating: false, count: types.count)
        bytes.reserveCapacity(types.count)
        for (id, type) in types.enumerated() {
            let text = source.tokens.bytes(at: id)
            let decoded = kind == .byteLevel ? Self.byteLevelBytes(text, type) : Self.sentencePieceBytes(text, type)
            bytes.append(decoded.bytes)
            isFindable[id] = decoded.isFindable
            if type == .byte, kind == .sentencePiece { byteTokens[Int(decoded.bytes[0])] = Int32(id) }
        }
        table = TokenTable(tokens: bytes) { isFindable[$0] }
        self.byteTokens = byteTokens
    }

    private static func byteLevelBytes(_ text: ArraySlice<UInt8>, _ type: TokenType) -> (bytes: [UInt8], isFindable: Bool) {
        switch type {
        case .control, .userDefined, .unknown: return (Array(text), false)
        case .normal, .byte:
            guard let bytes = ByteAlphabet.decode(text) else { return (Array(text), false) }
            return (bytes, true)
        case .unused: return ([], false)
        }
    }

    /// With spaces as spaces: a text's own U+2581 and its spaces are the same to SentencePiece.
    private static func sentencePieceBytes(
        _ text: ArraySlice<UInt8>, _ type: TokenType
    ) -> (bytes: [UInt8], isFindable: Bool) {
        switch type {
        case .control, .unknown: return (Array(text), false)
        case .byte: return ([byteValue(text) ?? 0], false)
        case .normal, .userDefined:
            // A raw space never comes out of SentencePiece's escaping, so such a piece is never found.
            return (SpaceEscape.unescaped(text), !text.contains(0x20))
        // Never the outcome of a tokenizer: model files use the type for gaps in the list of ids, which stand for no text.
        case .unused: return ([], false)
        }
    }

    /// The value of `<0xNN>`.
    static func byteValue(_ text: ArraySlice<UInt8>) -> UInt8? {
        let string = String(decoding: text, as: UTF8.self)
        guard text.count == 6, string.hasPrefix("<0x"), string.hasSuffix(">") else { return nil }
        return UInt8(string.dropFirst(3).dropLast(), radix: 16)
    }
}

// MARK: Checks

extension Vocabulary {
    static func invalid(_ key: String, _ found: String, cause: (any Error)? = nil) -> PromptError {
        PromptError(
            .invalidValue,
            "The metadata key '\(key)' \(found). The model file is damaged or from a faulty converter; fetch or convert it again.",
            cause: cause)
    }

    private static func checkedTypes(
        _ source: VocabularySource, alwaysControl: [Int32]
    ) throws(PromptError) -> [TokenType] {
        let count = source.tokens.count
        var types = [TokenType](repeating: .normal, count: count)
        if let numbers = source.types {
            guard numbers.count == count else {
                throw invalid(VocabularyKey.types, "holds \(numbers.count) types for \(count) tokens of '\(VocabularyKey.tokens)'")
            }
            for (id, number) in numbers.enumerated() {
                guard let raw = UInt8(exactly: number), let type = TokenType(rawValue: raw) else {
                    throw invalid(VocabularyKey.types, "gives token \(id) the type \(number); 1 to 6 are known")
                }
                if type == .byte, source.model == "llama", byteValue(source.tokens.bytes(at: id)) == nil {
                    throw invalid(
                        VocabularyKey.types, "calls token \(id) '\(source.tokens[id])' a byte; bytes are written <0x00> to <0xFF>")
                }
                types[id] = type
            }
        }
        // Some converters leave end-of-turn tokens normal. Taken as text they would never end a generation.
        for id in alwaysControl where types[Int(id)] != .userDefined { types[Int(id)] = .control }
        return types
    }

    private static func checkedSpecialTokens(
        _ source: VocabularySource
    ) throws(PromptError) -> [SpecialTokenKey: Int32] {
        var result: [SpecialTokenKey: Int32] = [:]
        for key in SpecialTokenKey.allCases {
            guard let id = source.specialTokens[key] else { continue }
            guard id >= 0, id < source.tokens.count else {
                throw invalid(key.metadataKey, "names token \(id) of a vocabulary of \(source.tokens.count)")
            }
            result[key] = Int32(id)
        }
        if source.model == "llama" { addSentencePieceDefaults(source, &result) }
        return result
    }

    /// Old converters left out the ids of SentencePiece's own control tokens; they are always named like this.
    private static func addSentencePieceDefaults(_ source: VocabularySource, _ ids: inout [SpecialTokenKey: Int32]) {
        let names: [(SpecialTokenKey, String)] = [(.unknown, "<unk>"), (.bos, "<s>"), (.eos, "</s>")]
        for (key, name) in names where ids[key] == nil {
            // SentencePiece puts its control tokens first; a look at the head of the list is enough.
            let head = source.tokens.indices.prefix(16)
            if let id = head.first(where: { source.tokens.bytes(at: $0).elementsEqual(name.utf8) }) { ids[key] = Int32(id) }
        }
    }
}

/// U+2581, which SentencePiece writes for a space.
enum SpaceEscape {
    static let bytes: [UInt8] = [0xE2, 0x96, 0x81]

    /// `text` with each U+2581 as a space.
    static func unescaped(_ text: ArraySlice<UInt8>) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(text.count)
        text.withUnsafeBufferPointer { appendUnescaped($0, to: &result) }
        return result
    }

    static func appendUnescaped(_ text: UnsafeBufferPointer<UInt8>, to result: inout [UInt8]) {
        var index = 0
        while index < text.count {
            if text[index] == 0xE2, index + 2 < text.count, text[index + 1] == 0x96, text[index + 2] == 0x81 {
                result.append(0x20)
                index += 3
            } else {
                result.append(text[index])
                index += 1
            }
        }
    }
}
