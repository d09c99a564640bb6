extension Worker {
    /// What it would do if the step after `frame` came now, done on a copy: nothing of this worker changes. For a caller that wants the way of a
    /// lone stream's next step in the processor's caches before that comes. Empty where no such step can be foretold.
    ///
    /// The step is taken to need no new block of keys and values, as all but one of 32 don't.
    package func rehearsal(after frame: StepFrame, at now: Instant) -> [Effect] {
        guard let assignment = stage?.assignment, var segment = frame.step.segments.first, frame.step.segments.count == 1,
            let token = segment.tokens.last
        else { return [] }
        segment.start += segment.tokens.count
        segment.tokens = [token]
        segment.newBlocks = []
        segment.drafts = 0
        var step = Step(epoch: frame.step.epoch, number: StepNumber(frame.step.number.value + 1), segments: [segment])
        step.followUps = max(0, frame.step.followUps - 1)
        var copy = self
        var effects: [Effect] = []
        if !assignment.isFirst, let upstream = assignment.upstream {
            let next = StepFrame(step: step, timings: frame.timings)
            copy.handle(.activation(next, payload: PayloadHandle(0), from: upstream), at: now, into: &effects)
        } else if frame.step.followUps > 0, let last = assignment.upstream {
            copy.handle(.followUp(step, from: last), at: now, into: &effects)
        } else {
            copy.handle(.received(.step(step)), at: now, into: &effects)
        }
        return effects
    }
}
