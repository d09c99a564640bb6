import ModelFiles

/// What a tokenizer.json says, as the plain values of a GGUF file; see `GGUFVocabulary`, which looks at the rest.
struct FolderExport {
    private let json: TokenizerJSON
    private let architecture: String
    private let entries: [PipelineEncoder.Entry]

    init(_ json: TokenizerJSON, architecture: String) throws(PromptError) {
        self.json = json
        self.architecture = architecture
        entries = try PipelineEncoder.entries(json)
    }

    /// Throws `unsupportedTokenizer`.
    func source() throws(PromptError) -> VocabularySource {
        guard case .bpe(let description) = json.model else { throw GGUFVocabulary.impossible("is a Unigram model") }
        let source = json.splitter.isByteLevel ? try byteLevel(description) : try sentencePiece(description)
        try checkAddedTokens(isPhi3: source.model == "llama" && architecture == "phi3")
        return source
    }

    /// The first flag that GGUF has no word for. Phi-3's readers know that its tokens take the white space behind them.
    private func checkAddedTokens(isPhi3: Bool) throws(PromptError) {
        for token in json.addedTokens {
            let taken = isPhi3 && !["<s>", "<unk>", "<|endoftext|>"].contains(token.text)
            let name = "has the added token '\(token.text)'"
            guard !token.stripsLeft, token.stripsRight == taken else { throw GGUFVocabulary.impossible(name + ", which takes the white space beside it (lstrip, rstrip)") }
            guard !token.isWord else { throw GGUFVocabulary.impossible(name + ", which is found as a whole word only (single_word)") }
            let bytes = Array(token.text.utf8)
            guard !token.isNormalized || json.normalizer.normalized(bytes) == bytes else {
                throw GGUFVocabulary.impossible(name + ", which is looked for in normalised text")
            }
        }
    }

    private func begin(_ model: String) -> VocabularySource {
        let added = Set(json.addedTokens.map(\.id))
        var source = VocabularySource(
            model: model, tokens: StringArray(entries.enumerated().map { $1.isUsed ? $1.text : "[PAD\($0)]" }))
        source.types = entries.enumerated().map { id, entry in
            let type: TokenType = !entry.isUsed ? .unused : entry.isSpecial ? .control : added.contains(Int32(id)) ? .userDefined : .normal
            return Int(type.rawValue)
        }
        return source
    }

    // MARK: Byte-level BPE

    private func byteLevel(_ description: BPEDescription) throws(PromptError) -> VocabularySource {
        guard json.normalizer.isEmpty || json.normalizer.isNFC else { throw GGUFVocabulary.impossible("changes text before it cuts (a normalizer beside byte-level BPE)") }
        if description.unknown != nil {
            let bytes = Set(entries.filter(\.isOfModel).compactMap { ByteAlphabet.decode(Array($0.text.utf8)[...]) }.filter { $0.count == 1 })
            guard bytes.count == 256 else { throw GGUFVocabulary.impossible("has an unknown token (unk_token) beside byte-level BPE that lacks tokens of bytes") }
        }
        var source = begin("gpt2")
        let pre = try preTokenizer()
        guard description.ignoresMerges == pre.ignoresMerges else {
            throw GGUFVocabulary.impossible("cuts words as '\(pre.rawValue)' does and says \(description.ignoresMerges) for ignore_merges")
        }
        source.pre = pre.rawValue
        var merges: [String] = []
        merges.reserveCapacity(description.merges.count)
        for (left, right) in description.merges {
            // A space would be taken for what stands between the two.
            guard !left.contains(0x20), !right.contains(0x20) else { throw GGUFVocabulary.impossible("merges tokens with a space in their text") }
            merges.append(String(decoding: left + [0x20] + right, as: UTF8.self))
        }
        source.merges = StringArray(merges)
        return source
    }

    /// Which family cuts words like this.
    private func preTokenizer() throws(PromptError) -> PreTokenizer {
        var patterns: [String] = []
        for step in json.splitter.steps {
            guard case .cut(let pattern, .isolated, isInverted: false) = step else { throw GGUFVocabulary.impossible(unknownCut) }
            patterns.append(pattern.pattern)
        }
        // A family that isolates digits first has one pattern for both in GGUF's words.
        if patterns == ["[\(PreTokenizer.number)]", PreTokenizer.gpt2.pattern] { return .smollm }
        guard patterns.count == 1, let found = PreTokenizer.allCases.first(where: { $0.pattern == patterns[0] }) else {
            throw GGUFVocabulary.impossible(unknownCut)
        }
        return found
    }

    private var unknownCut: String {
        "cuts words in a way of its own (its pre_tokenizer is that of none of \(PreTokenizer.allCases.map(\.rawValue).joined(separator: ", ")))"
    }

    // MARK: SentencePiece's BPE

    private func sentencePiece(_ description: BPEDescription) throws(PromptError) -> VocabularySource {
        var source = begin("llama")
        let prefix = try spacePrefix()
        source.addSpacePrefix = prefix != .never
        // Where GGUF's own key says all, no other is needed.
        if prefix != .never, !(prefix == .everyText && architecture == "phi3") { source.spacePrefix = prefix.rawValue }
        guard !description.ignoresMerges else { throw GGUFVocabulary.impossible("says true for ignore_merges beside BPE of characters") }
        try addBytes(description, &source)
        source.scores = try scores(description)
        return source
    }

    private func spacePrefix() throws(PromptError) -> SpacePrefix {
        var normalizers = json.normalizer.steps[...]
        if json.splitter.steps.isEmpty {
            var prefix = SpacePrefix.never
            if case .prepend(SpaceEscape.bytes)? = normalizers.first {
                prefix = .everyText
                normalizers.removeFirst()
            }
            if normalizers.count == 1, case .replace([0x20], with: SpaceEscape.bytes)? = normalizers.first { return prefix }
        } else if normalizers.isEmpty, json.splitter.steps.count == 1, case .metaspace(let metaspace)? = json.splitter.steps.first,
            metaspace.replacement == SpaceEscape.bytes
        {
            return switch metaspace.prepending {
            case .never: .never
            case .always: .everyTextWithout
            case .first: .firstTextWithout
            }
        }
        throw GGUFVocabulary.impossible("is BPE of characters with a normalizer and a pre_tokenizer that are not SentencePiece's")
    }

    /// Characters without a token become bytes, or one unknown token.
    private func addBytes(_ description: BPEDescription, _ source: inout VocabularySource) throws(PromptError) {
        var found = 0
        for (id, entry) in entries.enumerated() where entry.isUsed && Vocabulary.byteValue(Array(entry.text.utf8)[...]) != nil {
            if description.fallsBackToBytes { source.types![id] = Int(TokenType.byte.rawValue) }
            found += 1
        }
        guard found == (description.fallsBackToBytes ? 256 : 0) else {
            throw GGUFVocabulary.impossible("has \(found) tokens for bytes and says \(description.fallsBackToBytes) for byte_fallback")
        }
        if let name = description.unknown, let id = entries.firstIndex(where: { $0.isOfModel && $0.text.utf8.elementsEqual(name.utf8) }) {
            source.types![id] = Int(TokenType.unknown.rawValue)
            source.specialTokens[.unknown] = id
        }
        guard description.fallsBackToBytes || description.fusesUnknown && description.unknown != nil else {
            throw GGUFVocabulary.impossible("has no unknown token for several characters (unk_token, fuse_unk)")
        }
    }

    /// SentencePiece merges by the score of what a merge makes. Merges by rank say the same where all ways to make a token are merges, and have
    /// their ranks side by side; files that were converted from SentencePiece are like this.
    private func scores(_ description: BPEDescription) throws(PromptError) -> [Double] {
        let texts = TokenTable(tokens: entries.map { Array($0.text.utf8) }) { entries[$0].isOfModel }
        var scores = [Double](repeating: -Double(description.merges.count) - 1, count: entries.count)
        var ways = [Int](repeating: 0, count: entries.count)
        var last: Int32 = -1
        for (rank, merge) in description.merges.enumerated() {
            let made = texts.find(merge.left + merge.right)
            guard made >= 0 else { throw TokenizerJSON.invalid("has merge \(rank) into a token that is not in the vocabulary") }
            if made != last {
                guard ways[Int(made)] == 0 else { throw notByScore(made) }
                scores[Int(made)] = -Double(rank)
                last = made
            }
            ways[Int(made)] += 1
        }
        // An added token is found before anything is merged.
        let added = Set(json.addedTokens.map { Int($0.id) })
        for (id, entry) in entries.enumerated() where entry.isOfModel && !added.contains(id) {
            let bytes = Array(entry.text.utf8)
            let possible = bytes.indices.dropFirst().count { cut in
                bytes[cut] & 0xC0 != 0x80 && texts.find(Array(bytes[..<cut])) >= 0 && texts.find(Array(bytes[cut...])) >= 0
            }
            guard possible == ways[id] || Vocabulary.byteValue(bytes[...]) != nil else { throw notByScore(Int32(id)) }
        }
        return scores
    }

    private func notByScore(_ id: Int32) -> PromptError {
        GGUFVocabulary.impossible("merges characters in an order that no scores give (the token '\(entries[Int(id)].text)')")
    }
}

extension TextNormalizer {
    /// Unicode's NFC and nothing else.
    var isNFC: Bool {
        if steps.count == 1, case .form(.nfc) = steps[0] { true } else { false }
    }
}
