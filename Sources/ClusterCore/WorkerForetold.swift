// What the last stage expects to draw, told the first before it is drawn, so that this begins while the last logits and a hop are still under way.
//
// Nothing depends on it: what was foretold is no step. The step comes as ever, from the last stage or from the coordinator, and is checked as
// ever, and the first stage has begun with it or not. So neither side's machine changes by it; both are only asked.

extension Worker {
    /// On the last stage, of a stream that runs alone: the step after the one that is being computed, if `token` is what that draws at `position` of
    /// its one sequence. `nil` where none would come, or where the first stage would not know what to do with it.
    package func foretold(_ sequence: SequenceID, _ position: Int, _ token: TokenID) -> Step? {
        guard let stage, stage.state == .serving, stage.assignment.isLast, stage.assignment.foretells, stage.computing.count == 1,
            let frame = stage.computing.first?.frame, frame.poisoned.isEmpty, frame.step.segments.count == 1,
            frame.step.segments[0].sequence == sequence, frame.step.followUps > 0 || frame.step.number == stage.lastFollowUp,
            !stage.ledger.mayEnd(sequence, with: token)
        else { return nil }
        return Step(
            epoch: frame.step.epoch, number: StepNumber(frame.step.number.value + 1),
            segments: [Segment(sequence: sequence, start: position, tokens: [token], newBlocks: [], samples: true)])
    }

    /// On the first stage: whether `step` may be the next one, and there is nothing else to compute.
    package func canBegin(_ step: Step, from peer: PeerKey) -> Bool {
        guard let stage, stage.state == .serving, stage.assignment.isFirst, !stage.assignment.isLast, stage.assignment.upstream == peer,
            step.epoch == stage.assignment.epoch, step.number.value == stage.lastArrived.value + 1, step.canBeFollowUp, step.segments.count == 1
        else { return false }
        return stage.computing.isEmpty && stage.queue.isEmpty && stage.early.isEmpty
    }
}
