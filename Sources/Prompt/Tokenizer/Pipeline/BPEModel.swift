import ModelFiles

/// What a tokenizer.json says of its byte-pair encoding.
struct BPEDescription {
    var vocabulary: [(text: String, id: Int32)] = []
    var merges: [(left: [UInt8], right: [UInt8])] = []
    var unknown: String?
    var fusesUnknown = false
    var fallsBackToBytes = false
    var ignoresMerges = false

    init(json object: JSONObject) throws(PromptError) {
        guard let vocabulary = object["vocab"]?.object else { throw TokenizerJSON.invalid("has a BPE model without a vocabulary") }
        self.vocabulary.reserveCapacity(vocabulary.members.count)
        for member in vocabulary.members {
            guard let id = member.value.int, let number = Int32(exactly: id), number >= 0 else {
                throw TokenizerJSON.invalid("gives the token '\(member.key)' the id \(member.value.kind)")
            }
            self.vocabulary.append((member.key, number))
        }
        guard let merges = object["merges"]?.array else { throw TokenizerJSON.invalid("has a BPE model without merges") }
        self.merges.reserveCapacity(merges.count)
        for (rank, merge) in merges.enumerated() { self.merges.append(try Self.merge(merge, rank)) }
        unknown = object["unk_token"]?.string
        fusesUnknown = object["fuse_unk"]?.bool ?? false
        fallsBackToBytes = object["byte_fallback"]?.bool ?? false
        ignoresMerges = object["ignore_merges"]?.bool ?? false
        if let dropout = object["dropout"]?.double, dropout != 0 { throw TokenizerJSON.unsupported("has a BPE model that drops merges at random") }
        for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
            if let text = object[key]?.string, !text.isEmpty { throw TokenizerJSON.unsupported("has a BPE model with '\(key)'") }
        }
    }

    /// "left right", or the two in a list, as newer files write it.
    private static func merge(_ value: JSONValue, _ rank: Int) throws(PromptError) -> (left: [UInt8], right: [UInt8]) {
        if let pair = value.array, pair.count == 2, let left = pair[0].string, let right = pair[1].string {
            return (Array(left.utf8), Array(right.utf8))
        }
        if let text = value.string {
            let parts = Array(text.utf8).split(separator: 0x20, omittingEmptySubsequences: false)
            if parts.count == 2 { return (Array(parts[0]), Array(parts[1])) }
        }
        throw TokenizerJSON.invalid("has \(value.kind) as merge \(rank), which is not two tokens")
    }
}

/// Byte-pair encoding of one word: its smallest symbols (characters, or bytes where words are written in the alphabet of bytes) are merged by
/// rank.
struct BPEModel: Sendable {
    private let table: TokenTable
    private let merges: MergeTable
    private let worksOnBytes: Bool
    private let ignoresMerges: Bool
    private let fusesUnknown: Bool
    private let unknown: Int32?
    /// The token of each byte: as a symbol where the model works on bytes, else what an unknown character falls back to. -1 where there is none.
    private let byteTokens: [Int32]
    private let fallsBackToBytes: Bool
    /// By token: whether a word of its bytes is that token. True of nearly all, so most words cost one look-up.
    private var isWhole: [Bool] = []

    /// `table`: finds each token of the model by the bytes that it stands for in words.
    init(_ description: BPEDescription, table: TokenTable, texts: TokenTable, worksOnBytes: Bool) throws(PromptError) {
        self.table = table
        self.worksOnBytes = worksOnBytes
        ignoresMerges = description.ignoresMerges
        fusesUnknown = description.fusesUnknown
        if let name = description.unknown {
            let id = texts.find(name.utf8)
            guard id >= 0 else { throw TokenizerJSON.invalid("names the unknown token '\(name)', which is not in the vocabulary") }
            unknown = id
        } else {
            unknown = nil
        }
        fallsBackToBytes = description.fallsBackToBytes && !worksOnBytes
        byteTokens = (0..<256).map { byte in
            worksOnBytes ? table.find([UInt8(byte)]) : texts.find("<0x\(byte < 16 ? "0" : "")\(String(byte, radix: 16, uppercase: true))>".utf8)
        }
        merges = try Self.table(description, texts)
        isWhole = wholeTokens()
    }

    private static func table(_ description: BPEDescription, _ texts: TokenTable) throws(PromptError) -> MergeTable {
        var table = MergeTable(capacity: description.merges.count)
        for (rank, merge) in description.merges.enumerated() {
            let ids = [texts.find(merge.left), texts.find(merge.right), texts.find(merge.left + merge.right)]
            guard ids.allSatisfy({ $0 >= 0 }) else {
                throw TokenizerJSON.invalid("has merge \(rank) of tokens, or into one, that are not in the vocabulary")
            }
            table.insert(left: ids[0], right: ids[1], rank: UInt32(rank), symbol: ids[2])
        }
        return table
    }

    private func wholeTokens() -> [Bool] {
        guard !ignoresMerges else { return Array(repeating: true, count: table.count) }
        var merger = SymbolMerger()
        return table.blob.withUnsafeBufferPointer { blob in
            (0..<table.count).map { id in
                let bytes = UnsafeBufferPointer(rebasing: blob[table.offsets[id]..<table.offsets[id + 1]])
                guard table.find(bytes) == Int32(id) else { return false }
                merge(bytes, &merger)
                return merger.symbols.count == 1 && merger.symbols[0].id == Int32(id)
            }
        }
    }

    func encode(_ word: [UInt8], _ merger: inout SymbolMerger, into tokens: inout [Int32]) {
        word.withUnsafeBufferPointer { word in
            let whole = table.find(word)
            if whole >= 0, isWhole[Int(whole)] {
                tokens.append(whole)
            } else {
                merge(word, &merger)
                for symbol in merger.symbols { tokens.append(symbol.id) }
            }
        }
    }

    private func merge(_ word: UnsafeBufferPointer<UInt8>, _ merger: inout SymbolMerger) {
        merger.removeAll()
        if worksOnBytes {
            // A byte that the vocabulary lacks is left out, or unknown.
            appendSymbols(word, &merger) { _ in 1 }
        } else {
            appendSymbols(word, &merger) { max(1, WellFormedUTF8.sequenceLength(in: word, at: $0)) }
        }
        merger.merge(merges)
    }

    private func appendSymbols(_ word: UnsafeBufferPointer<UInt8>, _ merger: inout SymbolMerger, length: (Int) -> Int) {
        var index = 0
        // Where an unknown symbol waits for whether its neighbour is one too.
        var pending: Int?
        while index < word.count {
            let count = length(index)
            let character = UnsafeBufferPointer(rebasing: word[index..<index + count])
            let id = worksOnBytes ? byteTokens[Int(word[index])] : table.find(character)
            if id >= 0 {
                if let start = pending { merger.append(id: unknown!, start: start) }
                pending = nil
                merger.append(id: id, start: index)
            } else if fallsBackToBytes, character.allSatisfy({ byteTokens[Int($0)] >= 0 }) {
                for (offset, byte) in character.enumerated() { merger.append(id: byteTokens[Int(byte)], start: index + offset) }
            } else if let unknown {
                if let start = pending, !fusesUnknown { merger.append(id: unknown, start: start) }
                if pending == nil || !fusesUnknown { pending = index }
            }
            index += count
        }
        if let start = pending { merger.append(id: unknown!, start: start) }
    }

    /// The tokens of a byte that is not part of UTF-8; empty where there is none.
    func tokens(ofStray byte: UInt8) -> [Int32] {
        guard worksOnBytes || fallsBackToBytes, byteTokens[Int(byte)] >= 0 else { return [] }
        return [byteTokens[Int(byte)]]
    }
}
