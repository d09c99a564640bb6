/// How fast a text is encoded; `lab bench tokenizer` prints it.
package enum TokenizerBenchmark {
    package struct Result: Sendable {
        package let bytesPerSecond: Double
        package let tokensPerSecond: Double
        /// Tokens of one pass over the text.
        package let tokens: Int
        /// Passes that were timed.
        package let passes: Int
    }

    /// Encodes `text` on the calling thread again and again for about `seconds`, after one pass that is not timed.
    package static func run(tokenizer: Tokenizer, text: [UInt8], seconds: Double) -> Result {
        precondition(!text.isEmpty && seconds > 0, "a benchmark needs a text and a time")
        let tokens = tokenizer.encode(text, addSpecial: false, parseSpecial: false).count
        let clock = ContinuousClock()
        let start = clock.now
        var passes = 0
        var elapsed = 0.0
        repeat {
            let again = tokenizer.encode(text, addSpecial: false, parseSpecial: false).count
            precondition(again == tokens, "encoding is a function of the text")
            passes += 1
            elapsed = (clock.now - start) / .seconds(1)
        } while elapsed < seconds
        return Result(
            bytesPerSecond: Double(text.count * passes) / elapsed, tokensPerSecond: Double(tokens * passes) / elapsed,
            tokens: tokens, passes: passes)
    }
}
