// Guesses that decoding sequences take along, and what came of them.

extension Scheduler {
    /// Only where nobody else could use the time: nobody waits, here or in the common line, and no prompt is left to compute. Who shares the
    /// stages is delayed by `Speculation.othersDelayMax` at most, so a batch in which rows cost time carries none.
    mutating func addGuesses(to draft: inout StepDraft, groups: Int) {
        guard speculation.isOn, !draft.isEmpty, waiting.isEmpty, !othersWait, running.allSatisfy({ sequences[$0]!.isDecoding }) else { return }
        let rows = draft.parts.count
        // Nobody's time but its own is tried out on.
        let isAlone = running.count == 1
        let delayMax = isAlone ? .infinity : 1 + Speculation.othersDelayMax
        var guessed = 0
        for (index, part) in draft.parts.enumerated() where draft.rowsLeft > 0 {
            let shape = shape
            let room = min(draft.rowsLeft, roomForGuesses(part.sequence))
            let guesses = speculation.drafts(for: sequences[part.sequence]!, room: room) { more in
                guard let all = shape.stretch(rows: rows, more: guessed + more, groups: groups, isHoped: isAlone), all <= delayMax,
                    let before = shape.stretch(rows: rows, more: guessed, groups: groups, isHoped: isAlone)
                else { return nil }
                return all / before
            }
            let taken = withBlocks(guesses, for: part.sequence)
            draft.add(guesses: taken, to: index)
            guessed += taken.count
        }
    }

    /// As many as can be right without going beyond what plain decoding would do: its last token, at the latest, is drawn from a guess's row.
    private func roomForGuesses(_ id: SequenceID) -> Int {
        let sequence = sequences[id]!
        return min(Int(sequence.sampling.maxTokens) - sequence.generatedCount, settings.contextTokens - sequence.tokens.count) - 1
    }

    /// Those of `guesses` that can be sent: none that ends the sequence, for nothing follows it; and only so many as there are blocks for. Another
    /// block is taken where all who run could have one more besides; nobody is preempted for a guess.
    private mutating func withBlocks(_ guesses: [TokenID], for id: SequenceID) -> [TokenID] {
        let endTokens = settings.endTokens
        let sequence = sequences[id]!
        let guesses = guesses.prefix { !sequence.mayEnd(with: $0, endTokens: endTokens) }
        if sequence.blocksMissing(forRows: 1 + guesses.count) > 0, allocator.freeCount > running.count, let blocks = allocator.allocate(1) {
            sequences[id]!.give(blocks)
        }
        let positions = sequences[id]!.blocks.count * Limits.positionsPerBlock
        return Array(guesses.prefix(max(0, positions - sequence.sent - 1)))
    }

    /// A step came back whose sequences had guesses, or might have had.
    mutating func noteGuesses(of step: StepInFlight, in result: StepResult) {
        guard speculation.isOn else { return }
        let guessed = step.rows.reduce(0) { $0 + $1.drafts.count }
        for rows in step.rows where rows.sampledPosition != nil && rows.drafts.isEmpty { speculation.advancedPlainly(rows.sequence) }
        guard guessed > 0 else { return }
        let groups = max(1, inFlight.count + 1)
        let stretch = shape.stretch(rows: step.rowCount - guessed, more: guessed, groups: groups, isHoped: true) ?? 1
        for rows in step.rows where !rows.drafts.isEmpty {
            let count = rows.drafts.count
            let accepted = max(0, result.tokens.count { $0.sequence == rows.sequence } - 1)
            speculation.returned(rows.sequence, count: count, accepted: accepted, stretch: 1 + (stretch - 1) * Double(count) / Double(guessed))
        }
    }

    /// The sequence's last token was a guess of the same step, and its row is in place: blocks that it filled serve others from now on.
    mutating func confirmGuess(of id: SequenceID) {
        // One that was preempted since has no rows any more.
        guard sequences[id]?.isOpen == true else { return }
        sequences[id]!.confirmDraft()
        noteWritten(by: id)
    }
}
