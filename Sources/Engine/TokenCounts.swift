/// How often a sequence has seen each token, kept as it grows, because counting anew would cost a pass over the context per token.
struct TokenCounts {
    struct Entry {
        let token: Int32
        /// How often it stands in the output; 0 for a token of the prompt alone.
        var inOutput: Int32
    }

    /// One for every token of prompt and output, in the order in which they were first seen. An array, because each draw walks all of it.
    private(set) var entries: [Entry] = []
    private var places: [Int32: Int] = [:]

    init(tokens: [Int32], promptLength: Int) {
        for token in tokens[..<promptLength] { add(token, inOutput: 0) }
        for token in tokens[promptLength...] { add(output: token) }
    }

    mutating func add(output token: Int32) { add(token, inOutput: 1) }

    private mutating func add(_ token: Int32, inOutput: Int32) {
        if let place = places[token] {
            entries[place].inOutput += inOutput
        } else {
            places[token] = entries.count
            entries.append(Entry(token: token, inOutput: inOutput))
        }
    }
}
