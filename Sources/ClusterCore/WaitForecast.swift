/// How long work takes, learned from the steps that came back: all streams together, so what is open divided by what is done in a second.
package struct WaitForecast: Hashable, Sendable {
    /// Work to do.
    package struct Work: Hashable, Sendable {
        /// Positions of prompts to compute.
        package var promptRows = 0
        /// Tokens to generate.
        package var tokens = 0

        package init(promptRows: Int = 0, tokens: Int = 0) {
            self.promptRows = promptRows
            self.tokens = tokens
        }

        package static func += (a: inout Work, b: Work) {
            a.promptRows += b.promptRows
            a.tokens += b.tokens
        }
    }

    /// A new measurement counts for a sixteenth.
    private static let weight = 1.0 / 16
    /// Before anything was measured: ten tokens and a hundred prompt positions a second, a large model on a small machine.
    private static let unmeasuredTokenNanoseconds = 1e8
    private static let unmeasuredPromptRowNanoseconds = 1e7
    /// Tokens of an answer, before one has ended.
    private static let unmeasuredAnswerTokens = 128.0

    private var tokenNanoseconds: Double?
    private var promptRowNanoseconds: Double?
    private var answerTokens: Double?
    private var lastResult = Instant(nanoseconds: 0)

    package init() {}

    // MARK: - Learning

    /// A step came back with `tokens` tokens. Its time counts from when the pipeline could begin to give its result.
    package mutating func note(_ step: StepInFlight, tokens: Int, at now: Instant) {
        let taken = Double(now.nanoseconds(since: max(step.sentAt, lastResult)))
        lastResult = now
        let promptRows = step.rowCount - step.rows.count { $0.sampledPosition != nil }
        if promptRows <= 0 {
            if tokens > 0 { Self.learn(&tokenNanoseconds, taken / Double(tokens)) }
        } else {
            let rest = taken - (tokenNanoseconds ?? 0) * Double(tokens)
            Self.learn(&promptRowNanoseconds, max(0, rest) / Double(promptRows))
        }
    }

    /// An answer ended by itself after so many tokens.
    package mutating func noteAnswer(tokens: Int) { Self.learn(&answerTokens, Double(tokens)) }

    private static func learn(_ known: inout Double?, _ value: Double) {
        known = known.map { $0 + weight * (value - $0) } ?? value
    }

    // MARK: - Foretelling

    /// Tokens that the sequence will still generate: as many as answers had so far, within what it may and must.
    package func expectedTokens(of sequence: GeneratedSequence, contextTokens: Int) -> Int {
        let room = max(1, min(Int(sequence.sampling.maxTokens) - sequence.generatedCount, contextTokens - sequence.tokens.count))
        if sequence.sampling.ignoreEndTokens && sequence.sampling.stopTokens.isEmpty { return room }
        let usual = Int((answerTokens ?? Self.unmeasuredAnswerTokens).rounded(.up)) - sequence.generatedCount
        let least = Int(sequence.sampling.minTokens) - sequence.generatedCount
        return min(room, max(1, usual, least))
    }

    /// What is left to do for a sequence.
    package func work(left sequence: GeneratedSequence, contextTokens: Int) -> Work {
        Work(
            promptRows: sequence.isDecoding ? 0 : sequence.pending,
            tokens: expectedTokens(of: sequence, contextTokens: contextTokens))
    }

    package func milliseconds(for work: Work) -> UInt64 {
        let nanoseconds =
            Double(work.promptRows) * (promptRowNanoseconds ?? Self.unmeasuredPromptRowNanoseconds)
            + Double(work.tokens) * (tokenNanoseconds ?? Self.unmeasuredTokenNanoseconds)
        return UInt64(min(Double(Limits.expectedWaitMsMax), nanoseconds / 1e6))
    }

    /// Whole seconds for `Retry-After`: never none, never more than clients obey.
    package static func retryAfterSeconds(waitMs: UInt64) -> Int {
        min(Limits.retryAfterSecondsMax, Swift.max(1, Int((min(waitMs, Limits.expectedWaitMsMax) + 999) / 1_000)))
    }
}
