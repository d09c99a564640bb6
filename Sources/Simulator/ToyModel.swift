import ClusterCore

/// A model whose every layer mixes its input with all that the layer remembers of the sequence: (layer, position, input, history). A skipped
/// stage, a stale or shared block, a repeated row or a lost step changes the next token.
struct ToyModel: Sendable {
    var layerCount: Int
    var vocabulary: Int
    var contextTokens: Int
    /// Ascending.
    var endTokens: [TokenID]
    /// One in so many values is not a number; 0: none is.
    var poisonOneIn: UInt64 = 0
    /// Of keys and values, as plans count them and hand-overs cut them into frames.
    var kvBytesPerPosition: UInt64 = 1

    /// What is not a number, and makes all that is computed of it none.
    static let poison = UInt64.max
    static let layerBytes: UInt64 = 1_000
    static let embeddingBytes: UInt64 = 300

    var profile: ModelProfile {
        ModelProfile(
            digest: ModelDigest(bytes: [UInt8](repeating: 5, count: 32))!, name: "toy",
            layerBytes: [UInt64](repeating: Self.layerBytes, count: layerCount), embeddingBytes: Self.embeddingBytes,
            headBytes: Self.embeddingBytes, headIsTied: true, hidden: 1, vocabulary: vocabulary, contextTokens: contextTokens,
            kvBytesPerTokenPerLayer: kvBytesPerPosition, endTokens: endTokens)
    }

    func embed(_ token: TokenID) -> UInt64 { mixed(UInt64(token), 1) }

    /// What a position leaves in a layer's memory.
    @inline(__always) func memory(layer: Int, input: UInt64) -> UInt64 {
        input == Self.poison ? Self.poison : mixed(input, UInt64(1_000 + layer))
    }

    /// How one remembered position weighs in the sum that stands for attention: each position otherwise.
    @inline(__always) static func term(_ memory: UInt64, at position: Int) -> UInt64 {
        (memory ^ (UInt64(truncatingIfNeeded: position) &* 0x9E37_79B9_7F4A_7C15)) &* 0xD6E8_FEB8_6659_FD93
    }

    /// - Parameter attention: the sum of the terms of positions 0...position; `isPoisoned` where one of them was poison.
    @inline(__always) func output(layer: Int, position: Int, input: UInt64, attention: UInt64, isPoisoned: Bool) -> UInt64 {
        if isPoisoned || input == Self.poison { return Self.poison }
        let value = mixed(input &+ UInt64(layer * 100_000 + position), attention)
        // Not in the last layer: what comes out there is remembered by nobody, and so seen by none who shares the row.
        return poisonOneIn > 0 && layer + 1 < layerCount && value % poisonOneIn == 0 ? Self.poison : value
    }

    func sample(_ output: UInt64, position: Int, choice: UInt32, promptLength: Int, sampling: SamplingParameters, endTokens: [TokenID]) -> TokenID {
        var token = TokenID(mixed(output, sampling.seed &* 7 &+ UInt64(choice) &* 3 &+ UInt64(position)) % UInt64(vocabulary))
        let mayEnd = position - promptLength >= Int(sampling.minTokens)
        while !mayEnd && endTokens.contains(token) { token = (token + 1) % TokenID(vocabulary) }
        return token
    }

    /// What a choice of a request has to be.
    struct Answer: Sendable {
        var tokens: [TokenID]
        /// `nil`: the next token would be drawn from what is not a number.
        var finish: FinishReason?
    }

    /// The plain loop that all the machinery must equal.
    func generate(_ request: GenerationRequest, choice: UInt32) -> Answer {
        let (prompt, sampling) = (request.prompt.count, request.sampling)
        var (tokens, memories) = (request.prompt, [[UInt64]](repeating: [], count: layerCount))
        for position in 0..<contextTokens {
            var value = embed(tokens[position])
            for layer in 0..<layerCount {
                memories[layer].append(memory(layer: layer, input: value))
                let attention = memories[layer].enumerated().reduce(0) { $0 &+ Self.term($1.element, at: $1.offset) }
                let isPoisoned = memories[layer].contains(Self.poison)
                value = output(layer: layer, position: position, input: value, attention: attention, isPoisoned: isPoisoned)
            }
            guard position + 1 == tokens.count else { continue }
            if value == Self.poison { return Answer(tokens: Array(tokens[prompt...]), finish: nil) }
            tokens.append(
                sample(
                    value, position: position + 1, choice: choice, promptLength: prompt, sampling: sampling,
                    endTokens: endTokens + sampling.stopTokens))
            if let finish = finish(tokens, prompt, sampling) { return Answer(tokens: Array(tokens[prompt...]), finish: finish) }
        }
        preconditionFailure("a full context ends a choice")
    }

    private func finish(_ tokens: [TokenID], _ prompt: Int, _ sampling: SamplingParameters) -> FinishReason? {
        let (last, made) = (tokens[tokens.count - 1], tokens.count - prompt)
        let isEnd = (!sampling.ignoreEndTokens && endTokens.contains(last)) || sampling.stopTokens.contains(last)
        if isEnd && made > Int(sampling.minTokens) { return .stop }
        return made >= Int(sampling.maxTokens) || tokens.count >= contextTokens ? .length : nil
    }
}
