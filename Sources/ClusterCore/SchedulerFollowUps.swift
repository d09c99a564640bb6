// Steps that the stages add by themselves while nobody else wants them (`Step.followUp`).
//
// A stream that runs alone goes round: its token's way from the last stage over the coordinator to the first is two hops and a turn of the
// coordinator, and for a small model that is a large part of a step. So the coordinator may allow a few steps ahead of which nothing can be decided
// anyway: as long as the same sequences decode, the next step is the tokens of the one before. What it gives up for that time is to send anything
// else, so it is short, by `Limits.followUpsMs`; a large model's steps take longer than that and are sent one by one, which costs them nothing
// that anybody could measure. When a result says that the stages went on, the step enters the accounts as if it had been sent then.

extension Scheduler {
    /// Plain decoding steps in a row before guesses are no longer looked for in each: text that repeats itself gets more from them.
    static let plainStepsMin = 8

    /// How many steps may follow one with these rows: none unless all who run are in it and nobody waits, and only so many that no sequence needs
    /// another block or comes to its end by length.
    func followUps(of draft: StepDraft) -> Int {
        guard allowsFollowUps, let aloneNanoseconds, inFlight.isEmpty, draft.parts.count == running.count, waiting.isEmpty, !othersWait, !isHeld,
            !isRebuilding, probe == nil, !speculation.hasModel, !speculation.isOn || plainSteps >= Self.plainStepsMin
        else { return 0 }
        var count = min(Limits.followUpsMax, Int(Limits.followUpsMs * 1_000_000 / max(1, aloneNanoseconds)))
        for part in draft.parts {
            let sequence = sequences[part.sequence]!
            guard part.drafts.isEmpty, sequence.pending == 0 else { return 0 }
            count = min(count, sequence.rowsWithBlocks, roomForGuesses(sequence.id))
        }
        return max(0, count)
    }

    mutating func noteAlone(_ step: StepInFlight, at now: Instant) {
        guard step.decodeRows > 0, step.decodeRows == step.rowCount else { return }
        plainSteps = step.rows.allSatisfy(\.drafts.isEmpty) ? plainSteps + 1 : 0
        if step.isAlone { aloneNanoseconds = now.nanoseconds(since: step.sentAt) }
    }

    /// The stages went on with the tokens of `step`, which came back.
    mutating func followUp(_ step: StepInFlight, _ tokens: [SampledToken], at now: Instant) {
        var own: [Segment] = []
        var all: [Segment] = []
        for token in tokens {
            if running.contains(token.sequence), let sequence = sequences[token.sequence], sequence.isOpen, sequence.sent == token.position,
                sequence.pending == 1
            {
                own.append(sequences[token.sequence]!.sendRows(1, in: StepNumber(nextNumber)))
                all.append(own[own.count - 1])
                noteWritten(by: token.sequence)
            } else {
                // It was cancelled or preempted, which the stages do not know yet.
                sequences[token.sequence]?.sendStrayRow(in: StepNumber(nextNumber))
                all.append(
                    Segment(sequence: token.sequence, start: token.position, tokens: [token.emitted.token], newBlocks: [], samples: true))
            }
        }
        noteServed(rows: all.count)
        var next = StepInFlight(Step(epoch: epoch, number: StepNumber(nextNumber), segments: all), sentAt: now)
        next.isFollowUp = true
        next.followUps = step.followUps - 1
        enter(next)
        // A stray row changes nothing that anybody has.
        noteChanges(by: Step(epoch: epoch, number: next.number, segments: own))
    }
}
