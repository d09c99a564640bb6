import ModelFiles

/// Byte-level BPE, the way of GPT-2: text is cut into words by a pattern, a word's bytes are merged by rank.
struct ByteLevelEncoder: Sendable {
    let preTokenizer: PreTokenizer
    private let pattern: SplitPattern
    private let merges: MergeTable
    private let table: TokenTable
    /// The token of each byte, -1 where the vocabulary lacks it.
    private let byteTokens: [Int32]
    /// By token: whether a word of its bytes is that token. True of nearly all tokens, so most words of a text cost one
    /// look-up; a cache of words would need a lock and would answer the same.
    private var isWhole: [Bool]
    /// What each byte becomes where it is not part of UTF-8: its token; U+FFFD where the vocabulary lacks it.
    private var strayByteTokens: [[Int32]] = []

    init(_ source: VocabularySource, _ vocabulary: Vocabulary) throws(PromptError) {
        preTokenizer = try PreTokenizer(name: source.pre)
        pattern = SplitPattern(preTokenizer.pattern)
        table = vocabulary.table
        byteTokens = (0..<256).map { vocabulary.table.find([UInt8($0)]) }
        merges = try Self.readMerges(source)
        isWhole = Array(repeating: preTokenizer.ignoresMerges, count: vocabulary.count)
        if !preTokenizer.ignoresMerges { findWholeTokens() }
        var replacement: [Int32] = []
        Array("\u{FFFD}".utf8).withUnsafeBufferPointer { encode($0, into: &replacement) }
        strayByteTokens = byteTokens.map { $0 >= 0 ? [$0] : replacement }
    }

    /// Merges name tokens by text, so they are looked up in the file's own texts, not in decoded bytes.
    private static func readMerges(_ source: VocabularySource) throws(PromptError) -> MergeTable {
        guard let merges = source.merges else { throw VocabularySource.missing(VocabularyKey.merges) }
        let texts = TokenTable(tokens: source.tokens.indices.map { Array(source.tokens.bytes(at: $0)) }) { _ in true }
        var table = MergeTable(capacity: merges.count)
        for rank in merges.indices {
            let bytes = merges.bytes(at: rank)
            // A merge of two tokens holds one space; one that is first can only be part of the left token.
            guard let space = bytes.dropFirst().firstIndex(of: 0x20), space + 1 < bytes.endIndex else {
                throw Vocabulary.invalid(VocabularyKey.merges, "holds '\(merges[rank])' as merge \(rank), which is not two tokens with a space between")
            }
            let left = bytes[..<space]
            let right = bytes[(space + 1)...]
            let ids = [texts.find(left), texts.find(right), texts.find(Array(left) + Array(right))]
            guard ids.allSatisfy({ $0 >= 0 }) else {
                throw Vocabulary.invalid(
                    VocabularyKey.merges,
                    "holds '\(merges[rank])' as merge \(rank), but its parts or what they make are not in '\(VocabularyKey.tokens)'")
            }
            table.insert(left: ids[0], right: ids[1], rank: UInt32(rank), symbol: ids[2])
        }
        return table
    }

    private mutating func findWholeTokens() {
        var merger = SymbolMerger()
        var flags = isWhole
        table.blob.withUnsafeBufferPointer { blob in
            for id in 0..<table.count {
                let bytes = UnsafeBufferPointer(rebasing: blob[table.offsets[id]..<table.offsets[id + 1]])
                guard table.find(bytes) == Int32(id) else { continue }
                merge(bytes, &merger)
                flags[id] = merger.symbols.count == 1 && merger.symbols[0].id == Int32(id)
            }
        }
        isWhole = flags
    }

    /// Appends the tokens of a text that is free of added tokens. Each byte that is not UTF-8 becomes `strayByteTokens` and
    /// cuts the text as its end does.
    func encode(_ text: UnsafeBufferPointer<UInt8>, into tokens: inout [Int32]) {
        var matcher = SplitPattern.Matcher(pattern)
        var merger = SymbolMerger()
        var index = 0
        while index < text.count {
            let end = WellFormedUTF8.end(in: text, from: index)
            if end > index {
                encodeWords(UnsafeBufferPointer(rebasing: text[index..<end]), &matcher, &merger, &tokens)
                index = end
            } else {
                tokens += strayByteTokens[Int(text[index])]
                index += 1
            }
        }
    }

    private func encodeWords(
        _ text: UnsafeBufferPointer<UInt8>, _ matcher: inout SplitPattern.Matcher, _ merger: inout SymbolMerger,
        _ tokens: inout [Int32]
    ) {
        var start = 0
        while start < text.count {
            let end = matcher.matchEnd(in: text, from: start)
            let word = UnsafeBufferPointer(rebasing: text[start..<end])
            let whole = table.find(word)
            if whole >= 0, isWhole[Int(whole)] {
                tokens.append(whole)
            } else {
                merge(word, &merger)
                for symbol in merger.symbols { tokens.append(symbol.id) }
            }
            start = end
        }
    }

    /// Leaves the word's tokens in `merger`. A byte that the vocabulary lacks is left out, as the reference does: byte-level
    /// vocabularies have no token for the unknown (SmolLM2 lacks some control characters).
    private func merge(_ word: UnsafeBufferPointer<UInt8>, _ merger: inout SymbolMerger) {
        merger.removeAll()
        for (index, byte) in word.enumerated() {
            let token = byteTokens[Int(byte)]
            if token >= 0 { merger.append(id: token, start: index) }
        }
        merger.merge(merges)
    }
}
