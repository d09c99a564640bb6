/// Why a step did not come back in time, as far as the workers' last heartbeats tell: which step each received, and which it computed.
///
/// A worker that received the step and did not compute it is hung (or so slow that it makes no difference: deadlines are many times what steps
/// were measured to take). One that did not receive what the stage before it computed has lost its link to that one, or was never sent it.
/// A slow worker that still answers within the deadline is none of this: its pace shows in `PlanWatch` and weighs in the next cut.
package enum StepSuspect: Hashable, Sendable {
    /// Its stage thread does not get on, or its heartbeats say nothing of this epoch.
    case worker(PeerKey)
    /// What the first computed did not reach the second.
    case link(from: PeerKey, to: PeerKey)
    /// The step did not reach the first stage.
    case sending(PeerKey)
    /// All have computed it: its result was lost.
    case result

    /// - Parameter isFollowUp: the last stage sent it, and not the coordinator.
    package init(step: StepNumber, isFollowUp: Bool = false, epoch: Epoch, stages: [PeerKey], progress: (PeerKey) -> Heartbeat?) {
        for (index, worker) in stages.enumerated() {
            guard let heartbeat = progress(worker), heartbeat.epoch == epoch else {
                self = .worker(worker)
                return
            }
            if heartbeat.lastStep >= step { continue }
            // A worker of an earlier release does not say what it received.
            guard let received = heartbeat.lastReceived, received < step else {
                self = .worker(worker)
                return
            }
            let isSending = index == 0 && !isFollowUp
            self = isSending ? .sending(worker) : .link(from: stages[(index + stages.count - 1) % stages.count], to: worker)
            return
        }
        self = .result
    }
}

/// Links between workers that failed lately: once is an accident, and a new connection mends it; again within `memoryMs`, the receiving worker is
/// left out for a while, since a plan that needs the same link again would only fail again.
package struct LinkFaults: Hashable, Sendable {
    package static let memoryMs: UInt64 = 600_000
    private static let rememberedMax = 64

    private struct Fault: Hashable, Sendable {
        var from: PeerKey
        var to: PeerKey
        var at: Instant
    }

    /// Oldest first.
    private var faults: [Fault] = []

    package init() {}

    /// What is too long ago counts no more.
    package mutating func forget(at now: Instant) { faults.removeAll { $0.at.advanced(milliseconds: Self.memoryMs) <= now } }

    /// Whether there was one that is not forgotten.
    package func have(from: PeerKey, to: PeerKey) -> Bool { faults.contains { $0.from == from && $0.to == to } }

    /// Notes a failure. `true`: it is not the first one of late.
    package mutating func note(from: PeerKey, to: PeerKey, at now: Instant) -> Bool {
        forget(at: now)
        let isAgain = faults.contains { $0.from == from && $0.to == to }
        if faults.count == Self.rememberedMax { faults.removeFirst() }
        faults.append(Fault(from: from, to: to, at: now))
        return isAgain
    }
}
