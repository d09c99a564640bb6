/// A token that is found in text before anything else is done with it.
struct AddedToken: Sendable {
    let id: Int32
    let text: String
    /// No text: left out where special tokens are skipped, and found only where the caller says that the text may hold such.
    let isSpecial: Bool
    /// Only found where no letter or digit stands beside it.
    let isWord: Bool
    /// The white space before it, and after it, belongs to it.
    let stripsLeft: Bool
    let stripsRight: Bool
    /// Found in the normalised text, by its normalised name.
    let isNormalized: Bool
}

/// Finds added tokens as the reference does: at each place the longest, the leftmost first; of the matches that result, those that may not be
/// are passed over.
struct AddedTokenFinder: Sendable {
    /// A piece of text: an added token, or nil for what is between them.
    struct Piece {
        let token: Int32?
        let range: Range<Int>
    }

    private var trie = ByteTrie()
    private let tokens: [AddedToken]

    /// `names`: what is looked for, of each token.
    init(_ tokens: [AddedToken], names: [[UInt8]]) {
        self.tokens = tokens
        for (index, name) in names.enumerated() where !name.isEmpty { trie.insert(name, Int32(index)) }
    }

    var isEmpty: Bool { tokens.isEmpty }

    /// All of `text`, cut. Ranges may overlap where a token takes white space that is another's, as the reference has it.
    func pieces(of text: UnsafeBufferPointer<UInt8>, includingSpecial: Bool) -> [Piece] {
        guard !isEmpty else { return text.isEmpty ? [] : [Piece(token: nil, range: 0..<text.count)] }
        var pieces: [Piece] = []
        var done = 0
        var index = 0
        while index < text.count {
            guard let match = trie.longest(in: text, at: index) else {
                index += 1
                continue
            }
            let token = tokens[Int(match.value)]
            var range = index..<match.end
            index = match.end
            guard includingSpecial || !token.isSpecial else { continue }
            if token.isWord, Self.isWordBefore(text, range.lowerBound) || Self.isWordAfter(text, range.upperBound) { continue }
            if token.stripsLeft {
                let start = Self.whiteSpaceStart(in: text, before: range.lowerBound)
                range = max(start, min(done, range.lowerBound))..<range.upperBound
            }
            if token.stripsRight { range = range.lowerBound..<WhiteSpace.end(in: text, from: range.upperBound) }
            if done < range.lowerBound { pieces.append(Piece(token: nil, range: done..<range.lowerBound)) }
            pieces.append(Piece(token: token.id, range: range))
            done = range.upperBound
        }
        if done < text.count { pieces.append(Piece(token: nil, range: done..<text.count)) }
        return pieces
    }

    private static func whiteSpaceStart(in text: UnsafeBufferPointer<UInt8>, before end: Int) -> Int {
        var start = end
        while start > 0 {
            var character = start - 1
            while character > 0, text[character] & 0xC0 == 0x80 { character -= 1 }
            guard WhiteSpace.end(in: text, from: character) >= start else { return start }
            start = character
        }
        return start
    }

    private static func isWordBefore(_ text: UnsafeBufferPointer<UInt8>, _ end: Int) -> Bool {
        guard end > 0 else { return false }
        return String(decoding: text[max(0, end - 4)..<end], as: UTF8.self).unicodeScalars.last.map(isWord) ?? false
    }

    private static func isWordAfter(_ text: UnsafeBufferPointer<UInt8>, _ start: Int) -> Bool {
        guard start < text.count else { return false }
        return String(decoding: text[start..<min(text.count, start + 4)], as: UTF8.self).unicodeScalars.first.map(isWord) ?? false
    }

    /// `\w` of Unicode's technical standard 18.
    private static func isWord(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .nonspacingMark, .spacingMark, .enclosingMark, .decimalNumber, .connectorPunctuation: true
        default: scalar.properties.isAlphabetic || scalar.value == 0x200C || scalar.value == 0x200D
        }
    }
}

/// Byte strings with a number each.
struct ByteTrie: Sendable {
    /// node << 8 | byte → node. Node 0 is the root.
    private var edges: [Int: Int32] = [:]
    /// By node: the number of the string that ends there, or -1.
    private var values: [Int32] = [-1]
    /// By byte: whether a string begins with it; nearly all of a text is skipped by this.
    private var begins = [Bool](repeating: false, count: 256)

    /// Of equal strings the last one counts.
    mutating func insert(_ bytes: some Collection<UInt8>, _ value: Int32) {
        guard let first = bytes.first else { return }
        begins[Int(first)] = true
        var node = 0
        for byte in bytes {
            let edge = node << 8 | Int(byte)
            if let existing = edges[edge] {
                node = Int(existing)
            } else {
                node = values.count
                edges[edge] = Int32(node)
                values.append(-1)
            }
        }
        values[node] = value
    }

    /// The longest string that begins at `start`.
    func longest(in text: UnsafeBufferPointer<UInt8>, at start: Int) -> (end: Int, value: Int32)? {
        var found: (end: Int, value: Int32)?
        forEachPrefix(of: text, at: start) { end, value in found = (end, value) }
        return found
    }

    /// Every string that begins at `start`, shortest first.
    func forEachPrefix(of text: UnsafeBufferPointer<UInt8>, at start: Int, _ body: (_ end: Int, _ value: Int32) -> Void) {
        guard start < text.count, begins[Int(text[start])] else { return }
        var node = 0
        var index = start
        while index < text.count, let next = edges[node << 8 | Int(text[index])] {
            node = Int(next)
            index += 1
            if values[node] >= 0 { body(index, values[node]) }
        }
    }
}
