/// Where the oldest step in flight is, since when nothing there has moved, and when it is given up if nothing does: stuck and slow told apart.
///
/// Looked up with every heartbeat, so `since` is late by one interval of heartbeats at most. A worker that is slow says more work each time, and its
/// place is a new one; one whose stage thread is stuck says the same again, and so does one that waits for what a broken link does not bring.
package struct StepPlace: Hashable, Sendable {
    package let step: StepNumber
    package let suspect: StepSuspect
    /// What the suspected worker said of its stage thread; `nil` where it is a link's matter, or the worker does not say (an earlier release).
    package let work: UInt64?
    package let since: Instant
    /// May lie in the past: then it is given up as soon as `witness` has spoken again.
    package let giveUpAt: Instant
    /// Whose word it takes: without a heartbeat of late nothing is known of the step, and silence is judged elsewhere.
    package let witness: PeerKey?
    /// What comes at that time is that nothing moved, not that a worker which gets on has taken too long for a single step.
    package let isForStanding: Bool

    init(
        _ suspect: StepSuspect, of step: StepInFlight, work: UInt64?, after before: StepPlace?, clock: StepClock, patience: StepPatience,
        _ configuration: CoordinatorConfiguration, at now: Instant
    ) {
        self.step = step.number
        let isFirst = step.number == StepNumber(1)
        self.suspect = suspect
        self.work = work
        let hasMoved = before.map { $0.step != step.number || $0.suspect != suspect || $0.work != work } ?? true
        let since = hasMoved ? now : before!.since
        self.since = since
        switch suspect {
        case .worker(let worker):
            witness = work == nil ? nil : worker
            // A layer that is streamed from disk may take as long as all of a stage did that was not.
            let stuckMs = max(patience.stuckMs(rows: step.rowCount, isFirst: isFirst, configuration), clock.predictedMs)
            let stuck = since.advanced(milliseconds: stuckMs)
            let end = clock.deadline(of: step, isGettingOn: work != nil)
            isForStanding = work != nil && stuck <= end
            giveUpAt = isForStanding ? stuck : end
        case .link(_, let worker), .sending(let worker):
            witness = worker
            isForStanding = true
            giveUpAt = since.advanced(milliseconds: patience.lostMs(rows: step.rowCount, isFirst: isFirst, configuration))
        case .result:
            witness = nil
            isForStanding = true
            giveUpAt = since.advanced(milliseconds: patience.lostMs(rows: step.rowCount, isFirst: isFirst, configuration))
        }
    }
}
