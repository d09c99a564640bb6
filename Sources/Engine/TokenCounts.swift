/// How often a sequence has seen each token, kept as it grows, because counting anew would cost a pass over the context per token.
struct TokenCounts {
    /// Every token of prompt and output, with how often it stands in the output.
    private(set) var inOutput: [Int32: Int32] = [:]

    init(tokens: [Int32], promptLength: Int) {
        for token in tokens[..<promptLength] { inOutput[token, default: 0] += 0 }
        for token in tokens[promptLength...] { add(output: token) }
    }

    mutating func add(output token: Int32) { inOutput[token, default: 0] += 1 }
}
