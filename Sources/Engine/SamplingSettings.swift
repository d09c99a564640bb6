/// How the next token is drawn; what each number does, and in which order, stands at `Sampler`.
package struct SamplingSettings: Hashable, Sendable {
    /// 0 is greedy. In 0...100.
    package var temperature: Float
    /// 0 keeps all candidates.
    package var topK: Int
    /// In (0, 1]; 1 keeps all candidates.
    package var topP: Float
    /// In 0...1; 0 keeps all candidates.
    package var minP: Float
    /// In (0, 10]; 1 changes nothing.
    package var repetitionPenalty: Float
    /// In -2...2; 0 changes nothing.
    package var presencePenalty: Float
    /// In -2...2; 0 changes nothing.
    package var frequencyPenalty: Float
    /// In -100...100 each; at most one entry a token.
    package var logitBias: [LogitBias]
    /// Key of the random numbers.
    package var seed: UInt64
    /// End tokens are not candidates before so many tokens were generated.
    package var minTokens: Int

    package struct LogitBias: Hashable, Sendable {
        package var token: Int32
        package var bias: Float

        package init(token: Int32, bias: Float) {
            self.token = token
            self.bias = bias
        }
    }

    package init(
        temperature: Float = 1, topK: Int = 0, topP: Float = 1, minP: Float = 0, repetitionPenalty: Float = 1,
        presencePenalty: Float = 0, frequencyPenalty: Float = 0, logitBias: [LogitBias] = [], seed: UInt64 = 0, minTokens: Int = 0
    ) {
        self.temperature = temperature
        self.topK = topK
        self.topP = topP
        self.minP = minP
        self.repetitionPenalty = repetitionPenalty
        self.presencePenalty = presencePenalty
        self.frequencyPenalty = frequencyPenalty
        self.logitBias = logitBias
        self.seed = seed
        self.minTokens = minTokens
    }

    package static let greedy = SamplingSettings(temperature: 0)

    /// Whether seen tokens must be counted.
    var countsTokens: Bool { repetitionPenalty != 1 || presencePenalty != 0 || frequencyPenalty != 0 }

    /// Throws `badSampling` where a number is out of its range or a token out of the vocabulary.
    package func check(vocabulary: Int) throws(EngineError) {
        try check("temperature", temperature, temperature >= 0 && temperature <= 100, "0 to 100")
        try check("top-p", topP, topP > 0 && topP <= 1, "above 0, at most 1")
        try check("min-p", minP, minP >= 0 && minP <= 1, "0 to 1")
        try check("repetition penalty", repetitionPenalty, repetitionPenalty > 0 && repetitionPenalty <= 10, "above 0, at most 10")
        try check("presence penalty", presencePenalty, abs(presencePenalty) <= 2, "-2 to 2")
        try check("frequency penalty", frequencyPenalty, abs(frequencyPenalty) <= 2, "-2 to 2")
        try check("top-k", Float(topK), topK >= 0, "0 or more")
        try check("minimum of tokens", Float(minTokens), minTokens >= 0, "0 or more")
        for entry in logitBias {
            try check("logit bias", entry.bias, abs(entry.bias) <= 100, "-100 to 100")
            guard (0..<Int32(vocabulary)).contains(entry.token) else {
                throw EngineError(.badSampling, "The logit bias names token \(entry.token) of a vocabulary of \(vocabulary).")
            }
        }
        guard Set(logitBias.map(\.token)).count == logitBias.count else {
            throw EngineError(.badSampling, "The logit bias names a token twice; give each token one bias.")
        }
    }

    private func check(_ what: String, _ value: Float, _ holds: Bool, _ range: String) throws(EngineError) {
        guard holds else { throw EngineError(.badSampling, "The \(what) is \(value); possible is \(range).") }
    }
}
