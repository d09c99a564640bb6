// Guesses that a decoding sequence takes along, and what came of them.

extension Scheduler {
    /// Only for a sequence that is alone with the stages: nobody else runs or waits, here or in the common line. A row that turns out wrong so
    /// costs nobody's time but its own.
    mutating func addGuesses(to draft: inout StepDraft) {
        guard speculation.isOn, running.count == 1, waiting.isEmpty, !othersWait, draft.parts.count == 1 else { return }
        let (shape, sequence) = (shape, sequences[running[0]]!)
        guard sequence.isDecoding else { return }
        let guesses = speculation.drafts(for: sequence, room: min(draft.rowsLeft, roomForGuesses(sequence.id))) { more in
            shape.stretch(rows: 1, more: more, groups: 1, isHoped: true)
        }
        draft.add(guesses: withBlocks(guesses, for: sequence.id), to: 0)
    }

    /// As many as can be right without going beyond what plain decoding would do: its last token, at the latest, is drawn from a guess's row.
    func roomForGuesses(_ id: SequenceID) -> Int {
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

    /// What a draft model should think about while the pipeline works: the only sequence that runs, from its prompt's prefill on. `nil`: nothing new.
    mutating func draftWish() -> DraftWish? {
        guard speculation.hasModel, waiting.isEmpty, !othersWait, running.count == 1, let sequence = sequences[running[0]] else { return nil }
        let underWay = inFlight.last?.rows.last { $0.sequence == sequence.id }?.drafts ?? []
        return speculation.wish(for: sequence, behind: underWay)
    }

    /// The draft model's answer. What is no token is not sent to the stages.
    mutating func drafted(_ id: SequenceID, atLength: Int, tokens: [TokenID]) {
        guard let sequence = sequences[id] else { return }
        speculation.drafted(sequence, atLength: atLength, tokens: Array(tokens.prefix { 0 <= $0 && Int($0) < settings.vocabulary }))
    }

    /// A step came back whose sequences had guesses, or might have had.
    mutating func noteGuesses(of step: StepInFlight, in result: StepResult) {
        guard speculation.isOn else { return }
        for rows in step.rows where rows.sampledPosition != nil {
            let count = rows.drafts.count
            if count == 0 {
                speculation.advancedPlainly(rows.sequence)
            } else {
                let accepted = max(0, result.tokens.count { $0.sequence == rows.sequence } - 1)
                let stretch = shape.stretch(rows: 1, more: count, groups: 1, isHoped: true) ?? 1
                speculation.returned(rows.sequence, count: count, accepted: accepted, stretch: stretch)
            }
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
