import ModelFiles

/// Text to tokens as a `tokenizer.json` says it: added tokens, normalizer, added tokens by their normalised names, words, model.
struct PipelineEncoder: Sendable {
    private enum Model: Sendable {
        case bpe(BPEModel)
        case unigram(UnigramModel)
    }

    private let normalizer: TextNormalizer
    private let splitter: WordSplitter
    private let plain: AddedTokenFinder
    private let normalized: AddedTokenFinder
    private let model: Model
    private let tokensByText: TokenTable
    private let addedByText: [[UInt8]: Int32]
    let decoder: TokenDecoder
    let prefix: [Int32]
    let suffix: [Int32]
    private let unknownCharacter: [Int32]

    /// A token's text and what it is.
    struct Entry {
        var text = ""
        var isSpecial = false
        /// Of the model and not only added.
        var isOfModel = false
        var isUsed = false
        /// What decoding takes for its text: an added token that is found in normalised text is written as it was found.
        var decoded = ""
    }

    /// All tokens by id, in which gaps are unused.
    static func entries(_ json: TokenizerJSON) throws(PromptError) -> [Entry] {
        var pairs: [(text: String, id: Int32)]
        switch json.model {
        case .bpe(let description): pairs = description.vocabulary
        case .unigram(let description):
            pairs = description.pieces.enumerated().map { (String(decoding: $1.text, as: UTF8.self), Int32($0)) }
        }
        let ofModel = pairs.count
        pairs += json.addedTokens.map { ($0.text, $0.id) }
        guard let last = pairs.map(\.id).max() else { throw TokenizerJSON.invalid("has no tokens") }
        // A gap costs memory that no byte of the file pays for.
        guard Int(last) < min(Vocabulary.tokensMax, pairs.count + gapsMax) else { throw TokenizerJSON.invalid("has \(pairs.count) tokens, but one of the id \(last)") }
        var entries = [Entry](repeating: Entry(), count: Int(last) + 1)
        for (number, pair) in pairs.enumerated() {
            let old = entries[Int(pair.id)]
            guard !old.isUsed || old.text.utf8.elementsEqual(pair.text.utf8) else {
                throw TokenizerJSON.invalid("gives the id \(pair.id) to '\(old.text)' and to '\(pair.text)'")
            }
            entries[Int(pair.id)] = Entry(text: pair.text, isOfModel: old.isOfModel || number < ofModel, isUsed: true)
        }
        for id in entries.indices { entries[id].decoded = entries[id].text }
        for token in json.addedTokens {
            if token.isSpecial { entries[Int(token.id)].isSpecial = true }
            guard token.isNormalized else { continue }
            entries[Int(token.id)].decoded = String(decoding: json.normalizer.normalized(Array(token.text.utf8)), as: UTF8.self)
        }
        return entries
    }

    private static let gapsMax = 1 << 17

    init(_ json: TokenizerJSON, entries: [Entry]) throws(PromptError) {
        normalizer = json.normalizer
        splitter = json.splitter
        decoder = json.decoder
        prefix = json.prefix
        suffix = json.suffix
        for id in prefix + suffix where !entries.indices.contains(Int(id)) {
            throw TokenizerJSON.invalid("puts the token \(id) around texts, of a vocabulary of \(entries.count)")
        }
        let plainTokens = json.addedTokens.filter { !$0.isNormalized }
        let normalizedTokens = json.addedTokens.filter(\.isNormalized)
        plain = AddedTokenFinder(plainTokens, names: plainTokens.map { Array($0.text.utf8) })
        normalized = AddedTokenFinder(normalizedTokens, names: normalizedTokens.map { json.normalizer.normalized(Array($0.text.utf8)) })
        let utf8 = entries.map { Array($0.text.utf8) }
        let texts = TokenTable(tokens: utf8) { entries[$0].isUsed }
        tokensByText = texts
        addedByText = Dictionary(json.addedTokens.map { (Array($0.text.utf8), $0.id) }) { _, last in last }
        switch json.model {
        case .bpe(let description):
            let isByteLevel = json.splitter.isByteLevel
            let ofModel = TokenTable(tokens: utf8) { entries[$0].isOfModel }
            // A token with a character outside of the alphabet of bytes is in no word.
            let words = isByteLevel ? TokenTable(tokens: utf8.map { ByteAlphabet.decode($0[...]) ?? [] }) { entries[$0].isOfModel } : ofModel
            model = .bpe(try BPEModel(description, table: words, texts: ofModel, worksOnBytes: isByteLevel))
        case .unigram(let description):
            guard !json.splitter.isByteLevel else { throw TokenizerJSON.unsupported("has a Unigram model of bytes") }
            model = .unigram(try UnigramModel(description))
        }
        var merger = SymbolMerger()
        var replacement: [Int32] = []
        Self.encode(Array("\u{FFFD}".utf8), model, &merger, &replacement)
        unknownCharacter = replacement
    }

    /// The id of a token by its text; nil where there is none.
    func token(_ text: String) -> Int32? {
        let id = tokensByText.find(text.utf8)
        return id >= 0 ? id : nil
    }

    /// The id of an added token by its text; nil where there is none.
    func addedToken(_ text: String) -> Int32? { addedByText[Array(text.utf8)] }

    /// Appends the tokens of any bytes; those that are not UTF-8 are single bytes' tokens and cut the text.
    func encode(_ text: UnsafeBufferPointer<UInt8>, parseSpecial: Bool, into tokens: inout [Int32]) {
        var merger = SymbolMerger()
        for piece in plain.pieces(of: text, includingSpecial: parseSpecial) {
            if let token = piece.token {
                tokens.append(token)
                continue
            }
            var index = piece.range.lowerBound
            while index < piece.range.upperBound {
                let rest = UnsafeBufferPointer(rebasing: text[index..<piece.range.upperBound])
                let count = WellFormedUTF8.end(in: rest, from: 0)
                if count > 0 {
                    let place = Place(isAtStart: index == 0, isContinued: index > piece.range.lowerBound)
                    encodeText(Array(rest[..<count]), place, parseSpecial, &merger, &tokens)
                    index += count
                } else {
                    let stray = strayTokens(text[index])
                    tokens += stray.isEmpty ? unknownCharacter : stray
                    index += 1
                }
            }
        }
    }

    private func strayTokens(_ byte: UInt8) -> [Int32] {
        switch model {
        case .bpe(let model): model.tokens(ofStray: byte)
        case .unigram(let model): model.tokens(ofStray: byte)
        }
    }

    /// Where a piece of text stands.
    private struct Place {
        let isAtStart: Bool
        /// Behind a byte that is not UTF-8.
        let isContinued: Bool
    }

    private func encodeText(_ text: [UInt8], _ place: Place, _ parseSpecial: Bool, _ merger: inout SymbolMerger, _ tokens: inout [Int32]) {
        let text = normalizer.normalized(text, isContinued: place.isContinued)
        let pieces = text.withUnsafeBufferPointer { normalized.pieces(of: $0, includingSpecial: parseSpecial) }
        for piece in pieces {
            if let token = piece.token {
                tokens.append(token)
                continue
            }
            let isFirst = piece.range.lowerBound == 0
            let words = splitter.words(
                of: Array(text[piece.range]), isAtStart: place.isAtStart && isFirst, isContinued: place.isContinued && isFirst)
            for word in words {
                Self.encode(word, model, &merger, &tokens)
            }
        }
    }

    private static func encode(_ word: [UInt8], _ model: Model, _ merger: inout SymbolMerger, _ tokens: inout [Int32]) {
        switch model {
        case .bpe(let model): model.encode(word, &merger, into: &tokens)
        case .unigram(let model): model.encode(word, into: &tokens)
        }
    }
}
