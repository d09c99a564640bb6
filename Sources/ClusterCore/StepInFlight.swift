/// What the coordinator remembers of a step until its result comes.
package struct StepInFlight: Hashable, Sendable {
    package struct Rows: Hashable, Sendable {
        package var sequence: SequenceID
        /// Position of the token that its last row samples; `nil` for a prefill chunk that is not the prompt's last.
        package var sampledPosition: Int?
    }

    package var number: StepNumber
    package var rowCount: Int
    package var rows: [Rows]
    /// What it asks of the stages.
    package var load: StepLoad
    package var sentAt: Instant

    package init(_ step: Step, sentAt: Instant) {
        number = step.number
        rowCount = step.rowCount
        rows = step.segments.map { Rows(sequence: $0.sequence, sampledPosition: $0.samples ? $0.start + $0.tokens.count : nil) }
        load = StepLoad(step)
        self.sentAt = sentAt
    }

    /// What is wrong with a result of this step, or `nil`: one token for each sampling segment that is not poisoned, in order, at its position.
    package func fault(in result: StepResult, vocabulary: Int) -> String? {
        var poisoned: [SequenceID] = []
        for entry in result.poisoned {
            guard rows.contains(where: { $0.sequence == entry.sequence }) else { return "poisoned a sequence that has no rows in the step" }
            poisoned.append(entry.sequence)
        }
        let wanted = rows.filter { $0.sampledPosition != nil && !poisoned.contains($0.sequence) }
        guard wanted.count == result.tokens.count else { return "sampled \(result.tokens.count) tokens where \(wanted.count) were asked for" }
        for (rows, sampled) in zip(wanted, result.tokens) {
            guard rows.sequence == sampled.sequence, rows.sampledPosition == sampled.position else { return "sampled another row than asked for" }
            guard 0 <= sampled.emitted.token, Int(sampled.emitted.token) < vocabulary else { return "sampled a token outside the vocabulary" }
        }
        return nil
    }
}
