/// Finds added tokens in text before it is cut into words: at each place the longest, the leftmost first.
///
/// User-defined tokens are always found; control tokens only where the caller says that the text may hold them, so
/// that a user's "<|im_end|>" can stay text.
struct AddedTokenMatcher: Sendable {
    /// A trie: node << 8 | byte → node. Node 0 is the root.
    private var edges: [Int: Int] = [:]
    /// By node: the token that ends there, or -1.
    private var tokens: [Int32] = [-1]
    private var isControl: [Bool] = [false]
    /// By byte: whether a token starts with it; nearly all of a text is skipped by this.
    private var starts = [Bool](repeating: false, count: 256)
    private(set) var isEmpty = true
    private let layout: VocabularySource.Layout
    /// Tokens that leave the white space after them alone in the Phi-3 layout.
    private var keepsWhiteSpace: [Int32] = []

    init(_ vocabulary: Vocabulary, layout: VocabularySource.Layout) {
        self.layout = layout
        for (id, type) in vocabulary.types.enumerated() {
            switch type {
            case .control, .unknown: insert(Int32(id), vocabulary.texts.bytes(at: id), isControl: true)
            case .userDefined: insert(Int32(id), vocabulary.texts.bytes(at: id), isControl: false)
            case .normal, .unused, .byte: break
            }
        }
        keepsWhiteSpace = ["<s>", "<unk>", "<|endoftext|>"].compactMap { name in
            Array(name.utf8).withUnsafeBufferPointer { longest(in: $0, at: 0, includingControl: true)?.token }
        }
    }

    private mutating func insert(_ id: Int32, _ text: ArraySlice<UInt8>, isControl control: Bool) {
        guard let first = text.first else { return }
        var node = 0
        for byte in text {
            let edge = node << 8 | Int(byte)
            if let existing = edges[edge] {
                node = existing
            } else {
                node = tokens.count
                edges[edge] = node
                tokens.append(-1)
                isControl.append(false)
            }
        }
        tokens[node] = id
        isControl[node] = control
        starts[Int(first)] = true
        isEmpty = false
    }

    /// Whether white space after this token is part of it.
    func swallowsWhiteSpace(_ token: Int32) -> Bool { layout == .phi3 && !keepsWhiteSpace.contains(token) }

    struct Match {
        let range: Range<Int>
        let token: Int32
    }

    /// The first match at or after `start`.
    func first(in text: UnsafeBufferPointer<UInt8>, from start: Int, includingControl: Bool) -> Match? {
        guard !isEmpty else { return nil }
        return starts.withUnsafeBufferPointer { starts in
            var index = start
            while index < text.count {
                if starts[Int(text[index])], let match = longest(in: text, at: index, includingControl: includingControl) {
                    return match
                }
                index += 1
            }
            return nil
        }
    }

    private func longest(in text: UnsafeBufferPointer<UInt8>, at start: Int, includingControl: Bool) -> Match? {
        var node = 0
        var index = start
        var found: Match?
        while index < text.count, let next = edges[node << 8 | Int(text[index])] {
            node = next
            index += 1
            if tokens[node] >= 0, includingControl || !isControl[node] {
                found = Match(range: start..<index, token: tokens[node])
            }
        }
        return found
    }
}
