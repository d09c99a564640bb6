import ModelFiles

/// What the metadata of a Hugging Face folder says of its tokenizer (`HFKey`).
struct FolderVocabulary: Sendable {
    enum File: Sendable {
        case json(String)
        case sentencePiece([UInt8])
    }

    let file: File
    /// Names of tokens by their roles; of a folder, roles have names and not numbers.
    private var names: [(SpecialTokenKey, String)] = []
    private let addBOS: Bool?
    private let addEOS: Bool?
    private let endTokens: [Int]

    /// nil where the metadata is of a GGUF file, which may carry a tokenizer.json beside its own vocabulary.
    init?(metadata: Metadata) throws(PromptError) {
        guard metadata[VocabularyKey.model] == nil else { return nil }
        do {
            if let text = try metadata.string(HFKey.tokenizer) {
                file = .json(text)
            } else if case .array(.uint8(let bytes)) = metadata[HFKey.sentencePiece] {
                file = .sentencePiece(bytes)
            } else {
                return nil
            }
            for (role, name) in [(SpecialTokenKey.bos, "bos"), (.eos, "eos"), (.unknown, "unk"), (.padding, "pad")] {
                if let text = try metadata.string(HFKey.specialToken(name)) { names.append((role, text)) }
            }
            addBOS = try metadata.bool(HFKey.addBOS)
            addEOS = try metadata.bool(HFKey.addEOS)
            endTokens = try metadata.ints(HFKey.endTokens) ?? []
        } catch {
            throw PromptError(.invalidValue, "The model folder's vocabulary cannot be read.", cause: error)
        }
    }

    /// Ids of the roles. `find`: a token's id by its text. A name that is not in the vocabulary has none, as in the reference before it adds one.
    func roles(_ find: (String) -> Int32?) -> [SpecialTokenKey: Int32] {
        var roles: [SpecialTokenKey: Int32] = [:]
        for (role, name) in names { roles[role] = find(name) }
        return roles
    }

    /// Ids that end a generation, ascending: what the folder lists, `eos` and tokens of well-known names.
    func ends(_ roles: [SpecialTokenKey: Int32], _ texts: StringArray) throws(PromptError) -> [Int32] {
        // A list may name a token that the tokenizer lacks and the model has: embeddings are padded. It only must not be absurd.
        for id in endTokens where !(0..<Vocabulary.tokensMax).contains(id) {
            throw PromptError(.invalidValue, "The model folder names \(id) as a token that ends a text. Mend eos_token_id.")
        }
        let listed = endTokens.filter { $0 < texts.count }.map { Int32($0) }
        return Set(listed + [roles[.eos]].compactMap { $0 } + EndTokenNames.ids(in: texts)).sorted()
    }

    /// What stands before a text: what tokenizer_config.json says of BOS counts more than the tokenizer's own template.
    func prefix(_ vocabulary: Vocabulary, own: [Int32]) throws(PromptError) -> [Int32] {
        guard let addBOS else { return own }
        let bos = vocabulary.specialTokens[.bos]
        if addBOS { return own.first == bos && bos != nil ? own : try Tokenizer.around(true, .bos, vocabulary) + own }
        return own.first == bos && bos != nil ? Array(own.dropFirst()) : own
    }

    func suffix(_ vocabulary: Vocabulary, own: [Int32]) throws(PromptError) -> [Int32] {
        guard let addEOS else { return own }
        let eos = vocabulary.specialTokens[.eos]
        if addEOS { return own.last == eos && eos != nil ? own : try own + Tokenizer.around(true, .eos, vocabulary) }
        return own.last == eos && eos != nil ? Array(own.dropLast()) : own
    }
}

extension Vocabulary {
    /// Of a tokenizer.json.
    init(_ entries: [PipelineEncoder.Entry], _ encoder: PipelineEncoder, _ folder: FolderVocabulary) throws(PromptError) {
        let texts = StringArray(entries.map(\.text))
        let roles = folder.roles(encoder.token)
        self.init(
            texts: texts, types: entries.map { !$0.isUsed ? .unused : $0.isSpecial ? .control : $0.isOfModel ? .normal : .userDefined },
            bytes: entries.map { encoder.decoder.bytes(of: Array($0.decoded.utf8)) }, specialTokens: roles, endTokens: try folder.ends(roles, texts))
    }

    /// Of a SentencePiece file. Its user-defined pieces are found by its own encoder, in the normalised text.
    init(_ file: SentencePieceFile, _ folder: FolderVocabulary) throws(PromptError) {
        let texts = StringArray(file.pieces.map { String(decoding: $0.text, as: UTF8.self) })
        let decoder = TokenDecoder(sentencePieceWithPrefix: file.addsDummyPrefix)
        var roles = folder.roles { name in file.pieces.firstIndex { $0.text.elementsEqual(name.utf8) }.map { Int32($0) } }
        for (role, id) in file.roles where roles[role] == nil { roles[role] = id }
        self.init(
            texts: texts, types: file.pieces.map { $0.type == .userDefined ? .normal : $0.type },
            bytes: file.pieces.map { decoder.bytes(of: $0.text) }, specialTokens: roles, endTokens: try folder.ends(roles, texts))
    }
}
