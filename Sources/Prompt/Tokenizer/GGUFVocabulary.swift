import ModelFiles

/// The tokenizer of a Hugging Face folder in the words of GGUF files (`tokenizer.ggml.*`), so that a file made of the folder gives the same
/// tokens.
///
/// GGUF knows two kinds that we read: byte-level BPE whose words are cut as one of a few families cuts them, and SentencePiece's BPE by scores.
/// What a folder's tokenizer does beside that is refused by name. At the end both tokenizers are held against each other, token by token and
/// over texts that tell tokenizers apart, so a difference that nobody thought of is an error too and not a worse model.
package struct GGUFVocabulary {
    /// The keys, and no others.
    package private(set) var metadata = Metadata()
    /// What other readers may do differently, for a person; empty for most.
    package private(set) var notes: [String] = []

    /// - Parameters:
    ///   - folder: the folder's metadata (`HFKey`).
    ///   - architecture: `general.architecture` of the file.
    ///   - rows: of the embedding; the vocabulary is filled up to them, as other readers ask.
    /// - Throws: `unsupportedTokenizer` where GGUF has no words for it, `missingKey` for a folder without a tokenizer, and what
    ///   `Tokenizer.init` throws.
    package init(folder metadata: Metadata, architecture: String, rows: Int) throws(PromptError) {
        guard let folder = try FolderVocabulary(metadata: metadata) else {
            throw PromptError(
                .missingKey,
                "The folder has neither tokenizer.json nor tokenizer.model, without which a GGUF file cannot turn text into tokens. Fetch the folder with its tokenizer.")
        }
        let original = try Tokenizer(metadata: metadata)
        var source: VocabularySource
        switch folder.file {
        case .json(let text):
            let json = try TokenizerJSON(json: text)
            source = try FolderExport(json, architecture: architecture).source()
            if json.normalizer.isNFC {
                notes.append("text that is not in Unicode's NFC form gives other tokens than in the folder, because GGUF files cannot ask for it")
            }
        case .sentencePiece(let bytes): source = try Self.source(SentencePieceFile(bytes))
        }
        if source.spacePrefix != nil {
            notes.append("other readers than staffel put the space in front of a text by rules of their own")
        }
        try Self.addRoles(of: original, to: &source)
        try Self.fillUp(&source, rows: rows)
        source.write(to: &self.metadata)
        var whole = self.metadata
        whole.set(VocabularyKey.architecture, .string(architecture))
        try VocabularyComparison(original: original, made: Tokenizer(metadata: whole)).check()
    }

    static func impossible(_ what: String) -> PromptError {
        PromptError(.unsupportedTokenizer, "The folder's tokenizer \(what), which a GGUF file cannot say. Serve the folder as it is, or quantise it when it is loaded.")
    }

    // MARK: tokenizer.model

    private static func source(_ file: SentencePieceFile) throws(PromptError) -> VocabularySource {
        guard file.algorithm == .bpe else { throw impossible("is a Unigram model (tokenizer.model)") }
        guard file.map == nil else { throw impossible("maps characters before it cuts (a normalizer with a character map in tokenizer.model)") }
        guard !file.removesExtraSpaces else { throw impossible("removes spaces (remove_extra_whitespaces in tokenizer.model)") }
        var source = VocabularySource(model: "llama", tokens: StringArray(file.pieces.map { String(decoding: $0.text, as: UTF8.self) }))
        source.types = file.pieces.map { Int($0.type.rawValue) }
        source.scores = file.pieces.map { Double($0.score) }
        source.addSpacePrefix = file.addsDummyPrefix
        if file.addsDummyPrefix, file.pieces.contains(where: { $0.type == .userDefined }) {
            source.spacePrefix = SpacePrefix.beforeUserDefined.rawValue
        }
        for (role, id) in file.roles { source.specialTokens[role] = Int(id) }
        return source
    }

    // MARK: Roles and size

    /// A GGUF file has room for one token before a text, one after it, and three that end a generation.
    private static func addRoles(of original: Tokenizer, to source: inout VocabularySource) throws(PromptError) {
        for (role, id) in original.vocabulary.specialTokens { source.specialTokens[role] = Int(id) }
        let (before, after) = (original.around[0], original.around[1])
        guard before.count <= 1, after.count <= 1 else { throw impossible("puts \(before.count) tokens before and \(after.count) behind a text") }
        if let bos = before.first {
            guard source.specialTokens[.bos] ?? Int(bos) == Int(bos) else { throw impossible("puts another token than BOS in front of a text") }
            source.specialTokens[.bos] = Int(bos)
        }
        if let eos = after.first {
            guard source.specialTokens[.eos] ?? Int(eos) == Int(eos) else { throw impossible("puts another token than EOS behind a text") }
            source.specialTokens[.eos] = Int(eos)
        }
        (source.addBOS, source.addEOS) = (!before.isEmpty, !after.isEmpty)
        let named = EndTokenNames.ids(in: source.tokens)
        var ends = original.endTokens.filter { !named.contains($0) && source.specialTokens[.eos] != Int($0) }
        if source.specialTokens[.eos] == nil, let first = original.endTokens.first {
            source.specialTokens[.eos] = Int(first)
            ends.removeAll { $0 == first }
        }
        for role in [SpecialTokenKey.eot, .eom] where !ends.isEmpty { source.specialTokens[role] = Int(ends.removeFirst()) }
        guard ends.isEmpty else { throw impossible("has \(original.endTokens.count) tokens that end a text (eos_token_id)") }
    }

    /// Rows of the embedding that no token has get unused ones.
    private static func fillUp(_ source: inout VocabularySource, rows: Int) throws(PromptError) {
        let count = source.tokens.count
        guard count <= rows else { throw impossible("has \(count) tokens, of which only \(rows) have a row of the embedding") }
        guard count < rows else { return }
        source.tokens = StringArray(Array(source.tokens) + (count..<rows).map { "[PAD\($0)]" })
        let filling = rows - count
        source.types? += [Int](repeating: Int(TokenType.unused.rawValue), count: filling)
        source.scores? += [Double](repeating: 0, count: filling)
    }
}
