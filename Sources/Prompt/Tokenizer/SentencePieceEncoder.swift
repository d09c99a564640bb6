import ModelFiles

/// Which texts get a space in front, so that a first word is the same token as in mid-sentence. SentencePiece knows only
/// whole texts; families differ in what that means between added tokens.
enum SpacePrefix: String, Sendable {
    case never
    /// Where nothing but BOS is before. After other added tokens a template writes the spaces that it wants.
    case atStart = "at_start"
    /// The same, and also where a user-defined token begins the text: SentencePiece's own files.
    case beforeUserDefined = "before_user_defined"
    /// After each added token too, as Phi-3 publishes it.
    case everyText = "every_text"
    /// The same, unless the text has one already: a Metaspace that prepends always.
    case everyTextWithout = "every_text_without"
    /// Where nothing at all is before, unless the text has one already: a Metaspace that prepends first.
    case firstTextWithout = "first_text_without"

    init(_ source: VocabularySource) {
        guard source.addSpacePrefix ?? true else {
            self = .never
            return
        }
        // A name of a later release is none of ours, and then what every reader does.
        self = source.spacePrefix.flatMap(SpacePrefix.init) ?? (source.layout == .phi3 ? .everyText : .atStart)
    }

    /// Whether a text that begins like this gets one.
    func isAdded(to text: UnsafeBufferPointer<UInt8>, isAtStart: Bool) -> Bool {
        let hasOne = text.first == 0x20 || text.starts(with: SpaceEscape.bytes)
        return switch self {
        case .never: false
        case .atStart, .beforeUserDefined: isAtStart
        case .everyText: true
        case .everyTextWithout: !hasOne
        case .firstTextWithout: isAtStart && !hasOne
        }
    }
}

/// SentencePiece's BPE: characters are merged by the score of the piece they make; a character without a piece becomes
/// its bytes' tokens, or the unknown token where the vocabulary has none for bytes.
struct SentencePieceEncoder: Sendable {
    let spacePrefix: SpacePrefix
    private let pieces: TokenTable
    private let merges: PieceMerges
    /// The token of each byte, -1 where there is none.
    private let byteTokens: [Int32]
    private let unknownToken: Int32?
    /// By token: whether a word of its bytes is that token. True of nearly all tokens, so most words cost one look-up.
    private var isWhole: [Bool] = []

    init(_ source: VocabularySource, _ vocabulary: Vocabulary) throws(PromptError) {
        guard let scores = source.scores else { throw VocabularySource.missing(VocabularyKey.scores) }
        guard scores.count == vocabulary.count else {
            throw Vocabulary.invalid(
                VocabularyKey.scores, "holds \(scores.count) scores for \(vocabulary.count) tokens of '\(VocabularyKey.tokens)'")
        }
        if let id = scores.firstIndex(where: \.isNaN) {
            throw Vocabulary.invalid(VocabularyKey.scores, "gives token \(id) a score that is not a number")
        }
        pieces = vocabulary.table
        merges = PieceMerges(pieces: vocabulary.table, scores: scores)
        byteTokens = vocabulary.byteTokens
        unknownToken = vocabulary.specialTokens[.unknown]
        spacePrefix = SpacePrefix(source)
        isWhole = wholeTokens()
    }

    /// Whether a text behind BOS counts as the first one.
    var startsAfterBOS: Bool { spacePrefix != .firstTextWithout }

    private func wholeTokens() -> [Bool] {
        var merger = SymbolMerger()
        return pieces.blob.withUnsafeBufferPointer { blob in
            (0..<pieces.count).map { id in
                let bytes = UnsafeBufferPointer(rebasing: blob[pieces.offsets[id]..<pieces.offsets[id + 1]])
                guard pieces.find(bytes) == Int32(id) else { return false }
                merge(bytes, &merger)
                return merger.symbols.count == 1 && merger.symbols[0].id == Int32(id)
            }
        }
    }

    /// Appends the tokens of a text that is free of added tokens; bytes that are not UTF-8 become their bytes' tokens
    /// and cut the text as its end does.
    ///
    /// - Parameter isAtStart: whether nothing but BOS, or nothing at all (`startsAfterBOS`), is before the text.
    func encode(_ text: UnsafeBufferPointer<UInt8>, isAtStart: Bool, into tokens: inout [Int32]) {
        guard !text.isEmpty else { return }
        var escaped: [UInt8] = []
        escaped.reserveCapacity(text.count + 1)
        if spacePrefix.isAdded(to: text, isAtStart: isAtStart) { escaped.append(0x20) }
        SpaceEscape.appendUnescaped(text, to: &escaped)
        var output = Output(tokens: tokens)
        var merger = SymbolMerger()
        escaped.withUnsafeBufferPointer { text in
            var index = 0
            while index < text.count {
                let end = WellFormedUTF8.end(in: text, from: index)
                if end > index {
                    encodeWords(UnsafeBufferPointer(rebasing: text[index..<end]), &merger, &output)
                    index = end
                } else {
                    appendUnmerged(UnsafeBufferPointer(rebasing: text[index..<index + 1]), &output)
                    index += 1
                }
            }
        }
        tokens = output.tokens
    }

    private struct Output {
        var tokens: [Int32]
        /// Characters in a row that have no token at all make one unknown token.
        var lastIsUnknown = false
    }

    private func encodeWords(
        _ text: UnsafeBufferPointer<UInt8>, _ merger: inout SymbolMerger, _ output: inout Output
    ) {
        var start = 0
        while start < text.count {
            let end = merges.wordsAreIndependent ? Self.wordEnd(in: text, from: start) : text.count
            encodeWord(UnsafeBufferPointer(rebasing: text[start..<end]), &merger, &output)
            start = end
        }
    }

    /// The place before the next space that follows something else.
    private static func wordEnd(in text: UnsafeBufferPointer<UInt8>, from start: Int) -> Int {
        var index = start
        while index < text.count, text[index] == 0x20 { index += 1 }
        while index < text.count, text[index] != 0x20 { index += 1 }
        return index
    }

    private func encodeWord(_ word: UnsafeBufferPointer<UInt8>, _ merger: inout SymbolMerger, _ output: inout Output) {
        let whole = pieces.find(word)
        if whole >= 0, isWhole[Int(whole)] {
            output.tokens.append(whole)
            output.lastIsUnknown = false
            return
        }
        merge(word, &merger)
        for (index, symbol) in merger.symbols.enumerated() {
            if symbol.id >= 0, symbol.id < Int32(pieces.count) {
                output.tokens.append(symbol.id)
                output.lastIsUnknown = false
            } else {
                let end = index + 1 < merger.symbols.count ? Int(merger.symbols[index + 1].start) : word.count
                appendUnmerged(UnsafeBufferPointer(rebasing: word[Int(symbol.start)..<end]), &output)
            }
        }
    }

    private func merge(_ word: UnsafeBufferPointer<UInt8>, _ merger: inout SymbolMerger) {
        merger.removeAll()
        var index = 0
        while index < word.count {
            // A piece of a damaged vocabulary may be cut anywhere; its stray bytes are symbols that merge with nothing.
            let length = max(1, WellFormedUTF8.sequenceLength(in: word, at: index))
            let character = UnsafeBufferPointer(rebasing: word[index..<index + length])
            merger.append(id: length == 1 && word[index] >= 0x80 ? -1 : merges.symbol(of: character), start: index)
            index += length
        }
        merger.merge(merges.table)
    }

    /// A character that no piece holds, or a byte that is not UTF-8.
    private func appendUnmerged(_ character: UnsafeBufferPointer<UInt8>, _ output: inout Output) {
        let isSpace = character.count == 1 && character[0] == 0x20
        let bytes = isSpace ? SpaceEscape.bytes : Array(character)
        if bytes.allSatisfy({ byteTokens[Int($0)] >= 0 }) {
            for byte in bytes { output.tokens.append(byteTokens[Int(byte)]) }
            output.lastIsUnknown = false
        } else if let unknownToken, !output.lastIsUnknown {
            output.tokens.append(unknownToken)
            output.lastIsUnknown = true
        }
    }
}
