/// How the next token is drawn. A value of this type is in range: `init` is the only door.
///
/// The order in which these apply is fixed by the arithmetic contract, rule 9, and stands at `Engine.Sampler`.
package struct SamplingParameters: Hashable, Sendable {
    /// 0 is greedy; otherwise logits are divided by it. In 0...100.
    package var temperature: Float = 1
    /// Keep the k most likely candidates; 0 keeps all.
    package var topK: Int32 = 0
    /// Keep the smallest prefix of candidates whose probability reaches this. In (0, 1].
    package var topP: Float = 1
    /// Keep candidates at least this share as likely as the likeliest. In 0...1.
    package var minP: Float = 0
    /// Divides positive and multiplies negative logits of tokens seen in prompt or output. In (0, 10].
    package var repetitionPenalty: Float = 1
    /// Subtracted from the logits of tokens seen in the output. In -2...2.
    package var presencePenalty: Float = 0
    /// Subtracted once for each time a token was seen in the output. In -2...2.
    package var frequencyPenalty: Float = 0
    /// Added to logits, ascending by token id, one entry a token.
    package var logitBias: [LogitBias] = []
    /// Key of the random numbers; a token depends on it, on the choice's index and on its position, and on nothing else.
    package var seed: UInt64 = 0
    /// End tokens are not candidates before so many tokens were generated.
    package var minTokens: Int32 = 0
    /// The sequence ends with reason `length` after so many tokens. At least 1.
    package var maxTokens: Int32 = 16
    /// The model's end tokens don't end the sequence.
    package var ignoreEndTokens: Bool = false
    /// Tokens that end the sequence beside the model's own end tokens.
    package var stopTokens: [TokenID] = []

    package init() {}
}

package struct LogitBias: Hashable, Sendable {
    package var token: TokenID
    /// In -100...100.
    package var bias: Float

    package init(token: TokenID, bias: Float) {
        self.token = token
        self.bias = bias
    }
}
