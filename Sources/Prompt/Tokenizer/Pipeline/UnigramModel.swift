import ModelFiles

/// What a tokenizer.json, or a SentencePiece file, says of its unigram model.
struct UnigramDescription {
    struct Piece {
        let text: [UInt8]
        let score: Double
        /// Is never the outcome.
        var isUnusable = false
    }

    var pieces: [Piece] = []
    var unknown: Int32?
    var fallsBackToBytes = false
    /// Sums are rounded to Float, as SentencePiece does; Hugging Face's are Double.
    var isSinglePrecision = false
    /// Of the pieces that count for what an unknown character scores; nil: all.
    var scoreMin: Double?

    init() {}

    init(json object: JSONObject) throws(PromptError) {
        guard let vocabulary = object["vocab"]?.array else { throw TokenizerJSON.invalid("has a Unigram model without a vocabulary") }
        pieces.reserveCapacity(vocabulary.count)
        for entry in vocabulary {
            guard let pair = entry.array, pair.count == 2, let text = pair[0].string, let score = pair[1].double, score.isFinite else {
                throw TokenizerJSON.invalid("has \(entry.kind) as piece \(pieces.count), which is not a text and a score")
            }
            pieces.append(Piece(text: Array(text.utf8), score: score))
        }
        if let value = object["unk_id"], !value.isNull {
            guard let id = value.int, pieces.indices.contains(id) else { throw TokenizerJSON.invalid("has the unknown piece \(value.kind) of \(pieces.count)") }
            unknown = Int32(id)
        }
        fallsBackToBytes = object["byte_fallback"]?.bool ?? false
    }
}

/// The unigram language model of SentencePiece: of all ways to cut a word into pieces, the one whose scores have the largest sum.
struct UnigramModel: Sendable {
    /// What a character without a piece scores below the worst piece.
    private static let unknownPenalty = 10.0

    private let trie: ByteTrie
    private let scores: [Double]
    private let unknownScore: Double
    private let isSinglePrecision: Bool
    private let unknown: Int32?
    /// By byte; empty where there are none.
    private let byteTokens: [Int32]

    init(_ description: UnigramDescription) throws(PromptError) {
        var trie = ByteTrie()
        for (id, piece) in description.pieces.enumerated() where !piece.isUnusable { trie.insert(piece.text, Int32(id)) }
        self.trie = trie
        scores = description.pieces.map(\.score)
        unknownScore = (description.scoreMin ?? scores.min() ?? 0) - Self.unknownPenalty
        isSinglePrecision = description.isSinglePrecision
        unknown = description.unknown
        var bytes = [Int32](repeating: -1, count: 256)
        if description.fallsBackToBytes {
            for (id, piece) in description.pieces.enumerated() {
                if let byte = Vocabulary.byteValue(piece.text[...]) { bytes[Int(byte)] = Int32(id) }
            }
        }
        byteTokens = bytes
    }

    /// A place in the word: how it is best reached.
    private struct Node {
        var score = 0.0
        var start = -1
        var token: Int32 = -1
    }

    func encode(_ word: [UInt8], into tokens: inout [Int32]) {
        var nodes = [Node](repeating: Node(), count: word.count + 1)
        word.withUnsafeBufferPointer { word in
            var start = 0
            while start < word.count {
                let length = max(1, WellFormedUTF8.sequenceLength(in: word, at: start))
                let reached = nodes[start].score
                var hasOne = false
                func reach(_ end: Int, _ score: Double, _ token: Int32) {
                    // Rounded before it is compared, or sums that are equal but for their order would not be.
                    let score = isSinglePrecision ? Double(Float(score)) : score
                    guard nodes[end].start < 0 || score > nodes[end].score else { return }
                    nodes[end] = Node(score: score, start: start, token: token)
                }
                trie.forEachPrefix(of: word, at: start) { end, token in
                    reach(end, scores[Int(token)] + reached, token)
                    if end - start == length { hasOne = true }
                }
                if !hasOne { reach(start + length, unknownScore + reached, -1) }
                start += length
            }
        }
        appendBest(nodes, word, &tokens)
    }

    private func appendBest(_ nodes: [Node], _ word: [UInt8], _ tokens: inout [Int32]) {
        var path: [Node] = []
        var ends: [Int] = []
        var end = word.count
        while end > 0 {
            path.append(nodes[end])
            ends.append(end)
            end = nodes[end].start
        }
        var unknownText: [UInt8] = []
        for (node, end) in zip(path.reversed(), ends.reversed()) {
            if node.token < 0 || node.token == unknown {
                unknownText += word[node.start..<end]
                continue
            }
            appendUnknown(&unknownText, &tokens)
            tokens.append(node.token)
        }
        appendUnknown(&unknownText, &tokens)
    }

    /// Characters in a row that have no piece: their bytes, or one unknown token.
    private func appendUnknown(_ text: inout [UInt8], _ tokens: inout [Int32]) {
        guard !text.isEmpty else { return }
        if text.allSatisfy({ byteTokens[Int($0)] >= 0 }) {
            tokens += text.map { byteTokens[Int($0)] }
        } else if let unknown {
            tokens.append(unknown)
        }
        text = []
    }

    /// The token of a byte that is not part of UTF-8; empty where there is none.
    func tokens(ofStray byte: UInt8) -> [Int32] { byteTokens[Int(byte)] >= 0 ? [byteTokens[Int(byte)]] : [] }
}
