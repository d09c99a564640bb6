/// What the coordinator remembers of a step until its result comes.
package struct StepInFlight: Hashable, Sendable {
    package struct Rows: Hashable, Sendable {
        package var sequence: SequenceID
        /// Position of the token that its last row samples; `nil` for a prefill chunk that is not the prompt's last.
        package var sampledPosition: Int?
        /// Guesses whose rows come after that one.
        package var drafts: [TokenID] = []
        /// The position behind its last known row.
        package var end: Int
    }

    package var number: StepNumber
    package var rowCount: Int
    package var rows: [Rows]
    /// Rows that decode; all others are of prompts (or of what a preempted sequence had generated before).
    package var decodeRows: Int
    /// What it asks of the stages.
    package var load: StepLoad
    package var sentAt: Instant
    /// No other step was in flight at any time since it was sent.
    package var isAlone = true
    package var rebuild: Rebuild?
    /// As in `Step`, and whether it is one itself.
    package var followUps: Int
    package var isFollowUp = false

    package init(_ step: Step, sentAt: Instant) {
        number = step.number
        rowCount = step.rowCount
        rows = step.segments.map {
            let known = $0.tokens.count - $0.drafts
            return Rows(
                sequence: $0.sequence, sampledPosition: $0.samples ? $0.start + known : nil, drafts: Array($0.tokens[known...]),
                end: $0.start + known)
        }
        rebuild = step.rebuild
        followUps = step.followUps
        decodeRows = step.segments.reduce(0) { $0 + ($1.samples && $1.tokens.count == 1 + $1.drafts ? $1.tokens.count : 0) }
        load = StepLoad(step)
        self.sentAt = sentAt
    }

    package var isRebuild: Bool { rebuild != nil }

    /// Rows whose logits the last stage computes.
    package var sampledRowCount: Int { rows.reduce(0) { $0 + ($1.sampledPosition == nil ? 0 : 1 + $1.drafts.count) } }

    /// What is wrong with a result of this step, or `nil`: for each sampling segment that is not poisoned, in order, tokens from its position
    /// on, each but the last of them the guess that stood there.
    package func fault(in result: StepResult, vocabulary: Int) -> String? {
        var poisoned: [SequenceID] = []
        for entry in result.poisoned {
            guard rows.contains(where: { $0.sequence == entry.sequence }) else { return "poisoned a sequence that has no rows in the step" }
            poisoned.append(entry.sequence)
        }
        let wanted = rows.filter { $0.sampledPosition != nil && !poisoned.contains($0.sequence) }
        var left = result.tokens[...]
        for rows in wanted {
            guard let first = left.first, let position = rows.sampledPosition else {
                return "sampled \(result.tokens.count) tokens where \(wanted.count) or more were asked for"
            }
            guard first.sequence == rows.sequence else { return "sampled another row than asked for" }
            let mine = left.prefix { $0.sequence == rows.sequence }
            left = left.dropFirst(mine.count)
            if let fault = fault(in: mine, from: position, drafts: rows.drafts, vocabulary: vocabulary) { return fault }
        }
        guard left.isEmpty else { return "sampled rows that were not asked for" }
        let mayFollow = followUps > 0 && poisoned.isEmpty && wanted.count == rows.count
        guard mayFollow || !result.isFollowed else { return "went on by itself where it may not" }
        return nil
    }

    private func fault(in sampled: ArraySlice<SampledToken>, from position: Int, drafts: [TokenID], vocabulary: Int) -> String? {
        guard sampled.count <= 1 + drafts.count else { return "sampled \(sampled.count) tokens where at most \(1 + drafts.count) were asked for" }
        for (index, entry) in sampled.enumerated() {
            guard entry.position == position + index else { return "sampled another row than asked for" }
            guard 0 <= entry.emitted.token, Int(entry.emitted.token) < vocabulary else { return "sampled a token outside the vocabulary" }
            guard index == sampled.count - 1 || entry.emitted.token == drafts[index] else { return "went on behind a guess that was wrong" }
        }
        return nil
    }
}
