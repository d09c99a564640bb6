/// A drawn token with what was asked for beside it.
package struct SampledToken: Hashable, Sendable {
    package var token: Int32
    /// Under the model's own distribution, before penalties and temperature; nil unless asked for.
    package var logprob: Float?
    /// Likeliest first; empty unless asked for.
    package var top: [TokenLogprob]

    package struct TokenLogprob: Hashable, Sendable {
        package var token: Int32
        package var logprob: Float
    }
}
