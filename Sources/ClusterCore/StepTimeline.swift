/// One step's way through the stages on the coordinator's clock, put together from durations that each stage measured with its own.
///
/// No two machines' clocks are compared. The coordinator knows when it sent the step and when the result came; each stage says how long the step
/// waited there (queue), was computed, and waited to be sent on (hand-over). The rest was spent between machines, on one hop more than there
/// are stages: packing, encryption, the kernels, the network, and the receiver's poll until its socket thread looked.
///
///     wire = (result − sent) − Σ (queue + compute − begun + hand-over)
///
/// What a stage computed before the step came (begun) lies before the step was sent, as far as anybody can tell, and took none of this time.
///
/// Of `wire` only the sum is known, so every hop is given the same share. A stage's instants are therefore off by at most `wire`; all durations
/// but those of single hops are as measured.
package struct StepTimeline: Hashable, Sendable {
    package struct Stage: Hashable, Sendable {
        package var arrivedAt: Instant
        /// Before `startedAt` where the stage began before the step came.
        package var begunAt: Instant
        package var startedAt: Instant
        package var endedAt: Instant
        package var handedOverAt: Instant
    }

    package var sentAt: Instant
    package var returnedAt: Instant
    /// One for each timing, in the pipeline's order.
    package var stages: [Stage]
    /// All hops together.
    package var wireNanoseconds: UInt64
    /// What the step would have taken less if nothing cost time but computing: the round trip less the stages' compute, and less the time that
    /// the step stood behind others while a stage computed those, which is the work of a full pipeline and no cost of it. Computing that was begun
    /// before counts like any other: what hops it hides cost nothing.
    package var overheadNanoseconds: UInt64

    /// What a peer says may be absurd: durations beyond the round trip are cut where it ends.
    package init(sentAt: Instant, returnedAt: Instant, timings: [StageTiming]) {
        self.sentAt = sentAt
        self.returnedAt = returnedAt
        var left = returnedAt.nanoseconds(since: sentAt)
        func take(_ nanoseconds: UInt64) -> UInt64 {
            let taken = min(nanoseconds, left)
            left -= taken
            return taken
        }
        var overhead: UInt64 = 0
        var begun: UInt64 = 0
        var parts: [(queue: UInt64, begun: UInt64, compute: UInt64, handOver: UInt64)] = []
        parts.reserveCapacity(timings.count)
        for timing in timings {
            let before = min(timing.begunNanoseconds, timing.computeNanoseconds)
            let part = (
                queue: take(timing.queueNanoseconds), begun: before, compute: take(timing.computeNanoseconds - before),
                handOver: take(timing.handOverNanoseconds)
            )
            parts.append(part)
            begun = saturatingSum(begun, before)
            // While the stage thread was idle the step waited for nobody's computing but for being unpacked and the thread to wake.
            overhead += min(part.queue, timing.idleNanoseconds) + part.handOver
        }
        wireNanoseconds = left
        overheadNanoseconds = overhead + left - min(overhead + left, begun)
        stages = []
        stages.reserveCapacity(parts.count)
        let hops = UInt64(parts.count + 1)
        var before: UInt64 = 0
        for (index, part) in parts.enumerated() {
            let wire = left / hops * UInt64(index + 1)
            let arrived = sentAt.nanoseconds + before + wire
            let started = arrived + part.queue
            let ended = started + part.compute
            stages.append(
                Stage(
                    arrivedAt: Instant(nanoseconds: arrived), begunAt: Instant(nanoseconds: started - min(started, part.begun)),
                    startedAt: Instant(nanoseconds: started), endedAt: Instant(nanoseconds: ended),
                    handedOverAt: Instant(nanoseconds: ended + part.handOver)))
            before += part.queue + part.compute + part.handOver
        }
    }
}
