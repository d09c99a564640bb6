import ModelFiles

/// How a normalised text is cut into words before the model sees it: the pre-tokenizers of `tokenizer.json`, in order. The model never joins
/// what lies in two words.
struct WordSplitter: Sendable {
    enum Step: Sendable {
        case cut(SearchPattern, Behavior, isInverted: Bool)
        case metaspace(Metaspace)
        /// A space in front of a text that has none; of a ByteLevel.
        case spaceInFront
    }

    /// What becomes of the matches of a pattern and of what is between them.
    enum Behavior: String, Sendable {
        case removed = "Removed"
        case isolated = "Isolated"
        case mergedWithPrevious = "MergedWithPrevious"
        case mergedWithNext = "MergedWithNext"
        case contiguous = "Contiguous"
    }

    struct Metaspace: Sendable {
        enum Prepending: String, Sendable { case always, never, first }
        let replacement: [UInt8]
        let prepending: Prepending
        let splits: Bool
    }

    private(set) var steps: [Step] = []
    /// Words are written in the alphabet of bytes: the model works on bytes.
    private(set) var isByteLevel = false

    init() {}

    init(json: JSONValue) throws(PromptError) { try add(json) }

    private mutating func add(_ value: JSONValue) throws(PromptError) {
        guard !value.isNull else { return }
        let (type, object) = try TokenizerJSON.part(value, "pre-tokenizer")
        guard !isByteLevel else { throw TokenizerJSON.unsupported("has a pre-tokenizer \(type) after its ByteLevel") }
        switch type {
        case "Sequence":
            guard let list = object["pretokenizers"]?.array else { throw TokenizerJSON.invalid("has a sequence of pre-tokenizers without a list") }
            for entry in list { try add(entry) }
        case "ByteLevel":
            if object["add_prefix_space"]?.bool ?? true { steps.append(.spaceInFront) }
            if object["use_regex"]?.bool ?? true { steps.append(.cut(SearchPattern(own: PreTokenizer.gpt2.pattern), .isolated, isInverted: false)) }
            isByteLevel = true
        case "Split": try addSplit(object)
        case "Digits":
            let isEach = object["individual_digits"]?.bool ?? false
            steps.append(.cut(SearchPattern(own: "[\(PreTokenizer.number)]"), isEach ? .isolated : .contiguous, isInverted: false))
        case "Metaspace": steps.append(.metaspace(try Self.metaspace(object)))
        case "Whitespace": steps.append(.cut(SearchPattern(own: "[\(Self.word)]+|[^\(Self.word)\(PreTokenizer.space)]+"), .removed, isInverted: true))
        case "WhitespaceSplit": steps.append(.cut(SearchPattern(own: "[\(PreTokenizer.space)]"), .removed, isInverted: false))
        case "Punctuation":
            let name = object["behavior"]?.string ?? "Isolated"
            guard let behavior = Behavior(rawValue: name) else { throw TokenizerJSON.unsupported("has a Punctuation with the behaviour '\(name)'") }
            steps.append(.cut(SearchPattern(own: "[\\p{P}!-/:-@\\[-`{-~]"), behavior, isInverted: false))
        default: throw TokenizerJSON.unsupported("has a pre-tokenizer of the type '\(type)'")
        }
    }

    /// `\w` of Unicode's technical standard 18, for use inside brackets.
    private static let word = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200C}\\x{200D}"

    private mutating func addSplit(_ object: JSONObject) throws(PromptError) {
        guard let pattern = object["pattern"]?.object, let name = object["behavior"]?.string, let behavior = Behavior(rawValue: name) else {
            throw TokenizerJSON.invalid("has a Split without a pattern or with an unknown behaviour")
        }
        let search: SearchPattern
        if let expression = pattern["Regex"]?.string {
            search = try SearchPattern(expression: expression)
        } else if let text = pattern["String"]?.string, !text.isEmpty {
            // Each character by its number, so that none is an operator.
            search = try SearchPattern(expression: text.unicodeScalars.map { "\\x{\(String($0.value, radix: 16))}" }.joined())
        } else {
            throw TokenizerJSON.invalid("has a Split whose pattern is neither a text nor an expression")
        }
        steps.append(.cut(search, behavior, isInverted: object["invert"]?.bool ?? false))
    }

    private static func metaspace(_ object: JSONObject) throws(PromptError) -> Metaspace {
        guard let text = object["replacement"]?.string, text.unicodeScalars.count == 1 else { throw TokenizerJSON.invalid("has a Metaspace without a replacement") }
        // The older word for always and never.
        let older = object["add_prefix_space"]?.bool ?? true
        let name = object["prepend_scheme"]?.string ?? (older ? "always" : "never")
        guard let prepending = Metaspace.Prepending(rawValue: name) else { throw TokenizerJSON.unsupported("has a Metaspace with the scheme '\(name)'") }
        return Metaspace(replacement: Array(text.utf8), prepending: prepending, splits: object["split"]?.bool ?? true)
    }

    /// The words of a text without added tokens, in order; none is empty.
    ///
    /// - Parameters:
    ///   - isAtStart: whether the text begins where the whole text began.
    ///   - isContinued: whether it goes on after bytes that are not UTF-8, so that nothing belongs in front of it.
    func words(of text: [UInt8], isAtStart: Bool, isContinued: Bool = false) -> [[UInt8]] {
        var words = text.isEmpty ? [] : [text]
        for step in steps {
            switch step {
            case .spaceInFront: words = words.enumerated().map { $1.first == 0x20 || isContinued && $0 == 0 ? $1 : [0x20] + $1 }
            case .cut(let pattern, let behavior, let isInverted):
                words = words.flatMap { behavior.cut($0, pattern, isInverted: isInverted) }
            case .metaspace(let metaspace):
                words = words.enumerated().flatMap { metaspace.words(of: $1, isAtStart: isAtStart && $0 == 0, isContinued: isContinued && $0 == 0) }
            }
        }
        return words
    }
}

extension WordSplitter.Behavior {
    /// The pieces of `word`; none is empty.
    func cut(_ word: [UInt8], _ pattern: SearchPattern, isInverted: Bool) -> [[UInt8]] {
        let matches = word.withUnsafeBufferPointer { pattern.matches(in: $0) }
        return cut(word.count, matches, isInverted: isInverted).map { Array(word[$0]) }
    }

    /// The same for ranges of a text of `count` bytes.
    func cut(_ count: Int, _ matches: [Range<Int>], isInverted: Bool) -> [Range<Int>] {
        var pieces: [(range: Range<Int>, isMatch: Bool)] = []
        var done = 0
        for match in matches {
            if done < match.lowerBound { pieces.append((done..<match.lowerBound, isInverted)) }
            pieces.append((match, !isInverted))
            done = match.upperBound
        }
        if done < count { pieces.append((done..<count, isInverted)) }
        switch self {
        case .isolated: return pieces.map(\.range)
        case .removed: return pieces.filter { !$0.isMatch }.map(\.range)
        case .contiguous: return Self.joined(pieces) { $0.isMatch == $1.isMatch }
        case .mergedWithPrevious: return Self.joined(pieces) { !$0.isMatch && $1.isMatch }
        // From the end, so that of matches side by side the last one goes to what follows.
        case .mergedWithNext:
            var result: [(range: Range<Int>, isMatch: Bool)] = []
            for piece in pieces.reversed() {
                if let next = result.last, piece.isMatch, !next.isMatch {
                    result[result.count - 1] = (piece.range.lowerBound..<next.range.upperBound, true)
                } else {
                    result.append(piece)
                }
            }
            return result.reversed().map(\.range)
        }
    }

    /// Neighbours become one where `joins` says so of the last one's own kind and the next one's.
    private static func joined(
        _ pieces: [(range: Range<Int>, isMatch: Bool)], _ joins: ((range: Range<Int>, isMatch: Bool), (range: Range<Int>, isMatch: Bool)) -> Bool
    ) -> [Range<Int>] {
        var result: [(range: Range<Int>, isMatch: Bool)] = []
        for piece in pieces {
            if let last = result.last, joins(last, piece) {
                result[result.count - 1] = (last.range.lowerBound..<piece.range.upperBound, piece.isMatch)
            } else {
                result.append(piece)
            }
        }
        return result.map(\.range)
    }
}

extension WordSplitter.Metaspace {
    func words(of word: [UInt8], isAtStart: Bool, isContinued: Bool) -> [[UInt8]] {
        var text = TextNormalizer.Step.replace([0x20], with: replacement).applied(to: word)
        let isPrepended = !isContinued && (prepending == .always || prepending == .first && isAtStart)
        if isPrepended, !text.starts(with: replacement) { text = replacement + text }
        guard splits else { return [text] }
        // A word begins with each replacement; what follows one directly is a word of its own.
        var words: [[UInt8]] = []
        var start = 0
        var index = 0
        while index < text.count {
            if index > start, text[index...].starts(with: replacement) {
                words.append(Array(text[start..<index]))
                start = index
            }
            index += 1
        }
        words.append(Array(text[start...]))
        return words
    }
}
