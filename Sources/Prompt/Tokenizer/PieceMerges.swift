/// SentencePiece's pieces and scores as pair merges, made when the vocabulary is loaded.
///
/// SentencePiece merges two neighbours when their concatenation is a piece, the highest score first. A symbol is at any
/// time a single character or a piece, so the pairs that can ever merge are a finite list: each cut of each piece into
/// two of those. Equal scores share a rank, so that of equals the leftmost merges first.
struct PieceMerges: Sendable {
    let table: MergeTable
    /// Whether no piece has a space after something else. Then no merge crosses the border before a space that follows
    /// something else, and words can be merged one by one with the same result as the whole text at once.
    let wordsAreIndependent: Bool

    private let pieces: TokenTable
    /// Characters that only occur inside of longer pieces; their symbols follow the tokens' ids.
    private let partCharacters: TokenTable
    private let asciiSymbols: [Int32]

    init(pieces: TokenTable, scores: [Double]) {
        var parts: Set<[UInt8]> = []
        var independent = true
        var pairCount = 0
        Self.forEachPiece(of: pieces) { _, bytes in
            var last: UInt8?
            for character in Self.characters(of: bytes) {
                if pieces.find(character) < 0 { parts.insert(Array(character)) }
                if character.first == 0x20, let last, last != 0x20 { independent = false }
                last = character.last
                pairCount += 1
            }
        }
        let partCharacters = TokenTable(tokens: parts.sorted { $0.lexicographicallyPrecedes($1) }) { _ in true }
        self.pieces = pieces
        self.partCharacters = partCharacters
        wordsAreIndependent = independent
        asciiSymbols = (0..<128).map { Self.symbol(of: [UInt8($0)], pieces, partCharacters) }
        table = Self.makeTable(pieces, partCharacters, ranks: Self.ranks(of: scores), capacity: pairCount)
    }

    /// The symbol of a single character, -1 where no piece holds it.
    func symbol(of character: UnsafeBufferPointer<UInt8>) -> Int32 {
        if character.count == 1 { return asciiSymbols[Int(character[0])] }
        let id = pieces.find(character)
        if id >= 0 || partCharacters.count == 0 { return id }
        let part = partCharacters.find(character)
        return part < 0 ? -1 : Int32(pieces.count) + part
    }

    private static func symbol(of text: some Sequence<UInt8>, _ pieces: TokenTable, _ parts: TokenTable) -> Int32 {
        let bytes = Array(text)
        let id = pieces.find(bytes)
        if id >= 0 { return id }
        let part = parts.find(bytes)
        return part < 0 ? -1 : Int32(pieces.count) + part
    }

    /// Highest score first, equal scores alike.
    private static func ranks(of scores: [Double]) -> [UInt32] {
        var ranks = [UInt32](repeating: 0, count: scores.count)
        var rank: UInt32 = 0
        var last: Double?
        for id in scores.indices.sorted(by: { scores[$0] > scores[$1] }) {
            if let last, last != scores[id] { rank += 1 }
            last = scores[id]
            ranks[id] = rank
        }
        return ranks
    }

    private static func makeTable(
        _ pieces: TokenTable, _ parts: TokenTable, ranks: [UInt32], capacity: Int
    ) -> MergeTable {
        var table = MergeTable(capacity: capacity)
        forEachPiece(of: pieces) { id, bytes in
            var cut = bytes.startIndex
            for character in characters(of: bytes).dropLast() {
                cut += character.count
                let left = symbol(of: bytes[..<cut], pieces, parts)
                let right = symbol(of: bytes[cut...], pieces, parts)
                if left >= 0, right >= 0 { table.insert(left: left, right: right, rank: ranks[id], symbol: Int32(id)) }
            }
        }
        return table
    }

    /// All tokens that merging can produce; of equal ones the one that a look-up finds.
    private static func forEachPiece(of pieces: TokenTable, _ body: (Int, ArraySlice<UInt8>) -> Void) {
        for id in 0..<pieces.count {
            let bytes = pieces.bytes(of: id)
            if pieces.find(bytes) == Int32(id) { body(id, bytes) }
        }
    }

    /// The characters of a piece; metadata strings are UTF-8.
    private static func characters(of bytes: ArraySlice<UInt8>) -> [ArraySlice<UInt8>] {
        var result: [ArraySlice<UInt8>] = []
        var start = bytes.startIndex
        while start < bytes.endIndex {
            let end = bytes[(start + 1)...].firstIndex { $0 & 0xC0 != 0x80 } ?? bytes.endIndex
            result.append(bytes[start..<end])
            start = end
        }
        return result
    }
}
