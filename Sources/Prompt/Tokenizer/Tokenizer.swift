import ModelFiles

/// Text to tokens and back, as the model's own tokenizer does it, from nothing but the model's metadata.
///
/// Immutable, so requests share one. Of GGUF files byte-level BPE (`tokenizer.ggml.model` = "gpt2") and SentencePiece BPE ("llama"); of Hugging
/// Face folders what `tokenizer.json` says (`TokenizerJSON`), or SentencePiece's own file (`SentencePieceFile`).
///
/// Text comes in as bytes, because prompts do. Bytes that are not UTF-8 are not lost: each becomes the token of that byte
/// (U+FFFD where a vocabulary lacks it), and the well-formed text on either side is encoded as if it stood alone. So
/// `bytes(of:)` over the tokens of any input gives the input back, except where the model's tokenizer itself changes text
/// (a space in front, U+2581 for a space, control characters that a vocabulary lacks).
package struct Tokenizer: Sendable {
    let vocabulary: Vocabulary
    private let encoder: Encoder
    private let addedTokens: AddedTokenMatcher
    /// What `addSpecial` puts around a text.
    let prefix: [Int32]
    let suffix: [Int32]
    /// What decoding takes away at the beginning of a text.
    let leadingSpaces: TokenDecoder.LeadingSpaces

    private enum Encoder: Sendable {
        case byteLevel(ByteLevelEncoder)
        case sentencePiece(SentencePieceEncoder)
        case sentencePieceFile(SentencePieceFileEncoder)
        case pipeline(PipelineEncoder)
    }

    /// A token by id and name.
    package struct NamedToken: Sendable, Equatable {
        package let id: Int32
        /// As chat templates write it.
        package let text: String
    }

    /// - Throws: `missingKey`, `invalidValue`, `unsupportedTokenizer` or `unsupportedPreTokenizer`; the message names the
    ///   metadata key.
    package init(metadata: Metadata) throws(PromptError) {
        if let folder = try FolderVocabulary(metadata: metadata) {
            try self.init(folder)
        } else {
            try self.init(VocabularySource(metadata: metadata))
        }
    }

    /// Of a Hugging Face folder.
    private init(_ folder: FolderVocabulary) throws(PromptError) {
        switch folder.file {
        case .json(let text):
            let json = try TokenizerJSON(json: text)
            let entries = try PipelineEncoder.entries(json)
            let encoder = try PipelineEncoder(json, entries: entries)
            vocabulary = try Vocabulary(entries, encoder, folder)
            prefix = try folder.prefix(vocabulary, own: encoder.prefix)
            suffix = try folder.suffix(vocabulary, own: encoder.suffix)
            leadingSpaces = encoder.decoder.leadingSpaces
            self.encoder = .pipeline(encoder)
        case .sentencePiece(let bytes):
            let file = try SentencePieceFile(bytes)
            let encoder = try SentencePieceFileEncoder(file)
            vocabulary = try Vocabulary(file, folder)
            prefix = try folder.prefix(vocabulary, own: vocabulary.specialTokens[.bos].map { [$0] } ?? [])
            suffix = try folder.suffix(vocabulary, own: [])
            // Where normalising left no space in front, decoding leaves none either.
            leadingSpaces = file.removesExtraSpaces ? .removed(.max) : file.addsDummyPrefix ? .removed(1) : .kept
            self.encoder = .sentencePieceFile(encoder)
        }
        addedTokens = AddedTokenMatcher(vocabulary, layout: .standard)
    }

    init(_ source: VocabularySource) throws(PromptError) {
        let vocabulary = try Vocabulary(source)
        self.vocabulary = vocabulary
        addedTokens = AddedTokenMatcher(vocabulary, layout: source.layout)
        let addsBOS: Bool
        if source.model == "gpt2" {
            let encoder = try ByteLevelEncoder(source, vocabulary)
            self.encoder = .byteLevel(encoder)
            addsBOS = source.addBOS ?? encoder.preTokenizer.addsBOSByDefault
            leadingSpaces = .kept
        } else {
            let encoder = try SentencePieceEncoder(source, vocabulary)
            self.encoder = .sentencePiece(encoder)
            addsBOS = source.addBOS ?? true
            leadingSpaces = encoder.spacePrefix == .never ? .kept : .removed(1)
        }
        prefix = try Self.around(addsBOS, .bos, vocabulary)
        suffix = try Self.around(source.addEOS ?? false, .eos, vocabulary)
    }

    /// The token of `role`, where texts take it.
    static func around(_ isAdded: Bool, _ role: SpecialTokenKey, _ vocabulary: Vocabulary) throws(PromptError) -> [Int32] {
        guard isAdded else { return [] }
        guard let token = vocabulary.specialTokens[role] else {
            throw PromptError(
                .missingKey,
                "The model's texts take its \(role.rawValue.uppercased()) token, but the metadata key '\(role.metadataKey)' is not there. Convert the model again, with its tokenizer files beside it."
            )
        }
        return [token]
    }

    /// Whether `addSpecial` puts BOS first and EOS last.
    package var addsBOS: Bool { prefix.first != nil && prefix.first == vocabulary.specialTokens[.bos] }
    package var addsEOS: Bool { suffix.last != nil && suffix.last == vocabulary.specialTokens[.eos] }
}

// MARK: Encoding

extension Tokenizer {
    /// The tokens of a text.
    ///
    /// - Parameters:
    ///   - utf8: any bytes; see above for those that are not UTF-8. At most 4 GiB.
    ///   - addSpecial: whether BOS and EOS go around it, where the model wants them. A text that a chat template made
    ///     often holds them already.
    ///   - parseSpecial: whether the names of control tokens ("<|im_end|>") in the text become those tokens; false keeps
    ///     them text, so that a user cannot end a turn. User-defined tokens are part of the text's alphabet and are
    ///     found either way.
    package func encode(_ utf8: UnsafeBufferPointer<UInt8>, addSpecial: Bool, parseSpecial: Bool) -> [Int32] {
        precondition(utf8.count < UInt32.max, "a text to encode is below 4 GiB")
        var tokens: [Int32] = []
        tokens.reserveCapacity(utf8.count / 4 + 2)
        if addSpecial { tokens += prefix }
        switch encoder {
        case .pipeline(let encoder): encoder.encode(utf8, parseSpecial: parseSpecial, into: &tokens)
        default: encodePieces(of: utf8, parseSpecial: parseSpecial, into: &tokens)
        }
        if addSpecial { tokens += suffix }
        return tokens
    }

    package func encode(_ utf8: [UInt8], addSpecial: Bool, parseSpecial: Bool) -> [Int32] {
        utf8.withUnsafeBufferPointer { encode($0, addSpecial: addSpecial, parseSpecial: parseSpecial) }
    }

    package func encode(_ text: String, addSpecial: Bool, parseSpecial: Bool) -> [Int32] {
        var text = text
        return text.withUTF8 { encode($0, addSpecial: addSpecial, parseSpecial: parseSpecial) }
    }

    /// Added tokens and the texts between them.
    private func encodePieces(of utf8: UnsafeBufferPointer<UInt8>, parseSpecial: Bool, into tokens: inout [Int32]) {
        var index = 0
        var isAtStart = true
        var swallowsWhiteSpace = false
        while index < utf8.count {
            let match = addedTokens.first(in: utf8, from: index, includingControl: parseSpecial)
            let end = match?.range.lowerBound ?? utf8.count
            // White space that is itself an added token is that token and not swallowed, hence the search before this.
            let start = swallowsWhiteSpace ? min(WhiteSpace.end(in: utf8, from: index), end) : index
            if end > start {
                encodeText(UnsafeBufferPointer(rebasing: utf8[start..<end]), isAtStart: isAtStart, into: &tokens)
            }
            guard let match else { return }
            if end == index, isAtStart { encodeSpace(before: match.token, into: &tokens) }
            tokens.append(match.token)
            index = match.range.upperBound
            isAtStart = match.token == vocabulary.specialTokens[.bos] && startsAfterBOS
            swallowsWhiteSpace = addedTokens.swallowsWhiteSpace(match.token)
        }
    }

    /// Some texts have their space in front also where no text follows it.
    private func encodeSpace(before token: Int32, into tokens: inout [Int32]) {
        guard case .sentencePiece(let encoder) = encoder, encoder.spacePrefix == .beforeUserDefined,
            vocabulary.types[Int(token)] == .userDefined
        else { return }
        [0x20].withUnsafeBufferPointer { encoder.encode($0, isAtStart: false, into: &tokens) }
    }

    private var startsAfterBOS: Bool {
        if case .sentencePiece(let encoder) = encoder { encoder.startsAfterBOS } else { true }
    }

    private func encodeText(_ text: UnsafeBufferPointer<UInt8>, isAtStart: Bool, into tokens: inout [Int32]) {
        switch encoder {
        case .byteLevel(let encoder): encoder.encode(text, into: &tokens)
        case .sentencePiece(let encoder): encoder.encode(text, isAtStart: isAtStart, into: &tokens)
        case .sentencePieceFile(let encoder): encoder.encode(text, isAtStart: isAtStart, into: &tokens)
        case .pipeline: preconditionFailure("a pipeline cuts texts itself")
        }
    }
}

// MARK: Decoding

extension Tokenizer {
    /// The bytes that a token stands for, which may be part of a character; a control token's are its name. Empty for an
    /// id that is not in the vocabulary (a model's output layer is often wider than it).
    package func bytes(of token: Int32) -> [UInt8] {
        guard token >= 0, token < vocabulary.count else { return [] }
        return Array(vocabulary.table.bytes(of: Int(token)))
    }

    /// The text of whole token lists: `StreamingDetokenizer` over all of them at once.
    package func text(of tokens: some Sequence<Int32>, skipSpecialTokens: Bool) -> String {
        var detokenizer = StreamingDetokenizer(tokenizer: self, skipSpecialTokens: skipSpecialTokens)
        var text = ""
        for token in tokens { text += detokenizer.append(token) }
        return text + detokenizer.finish()
    }
}

// MARK: Tokens

extension Tokenizer {
    package var vocabularySize: Int { vocabulary.count }

    package var bosToken: NamedToken? { token(.bos) }
    package var eosToken: NamedToken? { token(.eos) }
    package var unknownToken: NamedToken? { token(.unknown) }
    package var paddingToken: NamedToken? { token(.padding) }

    /// Ids that end a generation, ascending: `eos`, `eot` and `eom` of the metadata and tokens of well-known names.
    package var endTokens: [Int32] { vocabulary.endTokens }

    /// Whether a token is a control token (or the unknown one): no text, left out where special tokens are skipped.
    package func isSpecial(_ token: Int32) -> Bool {
        guard token >= 0, token < vocabulary.count else { return false }
        switch vocabulary.types[Int(token)] {
        case .control, .unknown: return true
        case .normal, .userDefined, .unused, .byte: return false
        }
    }

    /// A token as the model file writes it; empty for an id that is not in the vocabulary.
    package func name(of token: Int32) -> String {
        guard token >= 0, token < vocabulary.count else { return "" }
        return vocabulary.texts[Int(token)]
    }

    /// The id of an added token by its name; ordinary tokens have no names.
    package func tokenID(named name: String) -> Int32? {
        if case .pipeline(let encoder) = encoder { return encoder.addedToken(name) }
        let bytes = Array(name.utf8)
        return bytes.withUnsafeBufferPointer { text in
            guard let match = addedTokens.first(in: text, from: 0, includingControl: true) else { return nil }
            return match.range == 0..<text.count ? match.token : nil
        }
    }

    private func token(_ role: SpecialTokenKey) -> NamedToken? {
        vocabulary.specialTokens[role].map { NamedToken(id: $0, text: vocabulary.texts[Int($0)]) }
    }
}
