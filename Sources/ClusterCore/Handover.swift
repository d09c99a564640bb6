/// Layers on their way from one plan to the next while requests run.
///
/// States: preparing (workers load what they get, beside what serves) → copying (keys and values of the layers that move, in rounds) → closing (no
/// further step is sent, those in flight come back) → finishing (the last changed blocks) → adopting (every worker changes over) → done. In
/// every state before adopting it can be given up, and the old plan goes on as if nothing had been; from adopting on the loss of a worker ends
/// the epoch as any loss does. Wrong calls: a report of another epoch, of somebody who was not asked, or twice, changes nothing and is told apart.
package struct Handover: Hashable, Sendable {
    package enum Phase: Hashable, Sendable {
        case preparing, copying, closing, finishing, adopting
    }

    /// One worker's layers that another one gets.
    package struct Move: Hashable, Sendable {
        package var layers: Range<Int>
        package var from: PeerKey
        package var to: PeerKey
    }

    package enum Taken: Hashable, Sendable {
        /// Not asked for now; nothing changed.
        case unexpected
        /// Others are still waited for.
        case waiting
        /// All have answered: the phase is over.
        case complete
    }

    /// Of the plan that comes.
    package let epoch: Epoch
    package let plan: Plan
    package let moves: [Move]
    /// For people.
    package let reason: String
    package let startedAt: Instant
    package private(set) var phase = Phase.preparing
    /// Who has not answered yet.
    package private(set) var awaited: [PeerKey]
    package private(set) var round = 0
    /// Since when `phase` or, while nothing is held, since the last sign of progress.
    package private(set) var lastProgress: Instant
    /// Since when no step is sent.
    package private(set) var heldSince: Instant?
    /// When the last blocks were asked for, and what had been sent by then.
    package private(set) var lastRoundAt: Instant?
    private var bytesBeforeLast: UInt64 = 0
    package private(set) var adoptingAt: Instant?
    private var bytesLoaded: [PeerKey: UInt64] = [:]
    private var bytesSentBy: [PeerKey: UInt64] = [:]

    package init(from old: Plan, to new: Plan, epoch: Epoch, reason: String, at now: Instant) {
        self.epoch = epoch
        self.reason = reason
        plan = new
        moves = Self.moves(from: old, to: new)
        awaited = new.stages.map(\.worker)
        startedAt = now
        lastProgress = now
    }

    /// Where the layers of `old` and `new` lie with different workers: in the order of the layers.
    package static func moves(from old: Plan, to new: Plan) -> [Move] {
        new.stages.flatMap { after in
            old.stages.compactMap { before in
                let layers = before.layers.clamped(to: after.layers)
                return layers.isEmpty || before.worker == after.worker ? nil : Move(layers: layers, from: before.worker, to: after.worker)
            }
        }
    }

    // MARK: - Who

    /// Everybody who was or will be told something, each once.
    package var participants: [PeerKey] {
        (plan.stages.map(\.worker) + moves.map(\.from)).reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
    }

    /// In the order of the moves, each once.
    package var senders: [PeerKey] { moves.map(\.from).reduce(into: []) { if !$0.contains($1) { $0.append($1) } } }

    package func senders(to worker: PeerKey) -> [PeerKey] {
        moves.filter { $0.to == worker }.map(\.from).reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
    }

    package var bytesSent: UInt64 { senders.reduce(0) { saturatingSum($0, bytesSentBy[$1] ?? 0) } }

    /// How long steps waited for which reason, once it is done: for those in flight, for the last blocks, for all to change over. Microseconds.
    package func pauseParts(at now: Instant) -> (steps: UInt64, lastBlocks: UInt64, change: UInt64) {
        guard let heldSince, let adoptingAt else { return (0, 0, 0) }
        let sent = lastRoundAt ?? adoptingAt
        return (
            sent.nanoseconds(since: heldSince) / 1_000, adoptingAt.nanoseconds(since: sent) / 1_000, now.nanoseconds(since: adoptingAt) / 1_000
        )
    }

    /// Of the last blocks.
    package var bytesLast: UInt64 { lastRoundAt == nil ? 0 : bytesSent - min(bytesSent, bytesBeforeLast) }

    // MARK: - Progress

    /// A worker loads: only more bytes count as life.
    package mutating func loadProgressed(_ worker: PeerKey, bytesDone: UInt64, at now: Instant) {
        guard phase == .preparing, awaited.contains(worker), bytesDone > bytesLoaded[worker] ?? 0 else { return }
        bytesLoaded[worker] = bytesDone
        lastProgress = now
    }

    package mutating func sent(_ worker: PeerKey, bytes: UInt64, at now: Instant) {
        guard senders.contains(worker), bytes > bytesSentBy[worker] ?? 0 else { return }
        bytesSentBy[worker] = bytes
        lastProgress = now
    }

    /// What was asked of all in this phase is done by one of them.
    package mutating func answered(_ worker: PeerKey, _ answer: Phase, round: Int? = nil, at now: Instant) -> Taken {
        let isAsked = answer == phase || answer == .copying && phase == .finishing
        guard isAsked, round ?? self.round == self.round, let index = awaited.firstIndex(of: worker) else { return .unexpected }
        awaited.remove(at: index)
        if heldSince == nil { lastProgress = now }
        return awaited.isEmpty ? .complete : .waiting
    }

    // MARK: - The next phase

    /// Blocks are to be sent once more by all senders; `isLast`: steps wait for it.
    package mutating func beginRound(isLast: Bool, at now: Instant) {
        phase = isLast ? .finishing : .copying
        if isLast { (lastRoundAt, bytesBeforeLast) = (now, bytesSent) }
        awaited = senders
        round += 1
        lastProgress = now
    }

    package mutating func close(at now: Instant) {
        phase = .closing
        awaited = []
        heldSince = now
        lastProgress = now
    }

    package mutating func adopt(at now: Instant) {
        phase = .adopting
        adoptingAt = now
        awaited = plan.stages.map(\.worker)
        lastProgress = now
    }

    /// When it is given up unless something happens.
    package func deadline(silenceMs: UInt64, loadSilenceMs: UInt64, pauseMs: UInt64, changeMs: UInt64) -> Instant? {
        switch phase {
        case .preparing: lastProgress.advanced(milliseconds: loadSilenceMs)
        case .copying: lastProgress.advanced(milliseconds: silenceMs)
        // The steps in flight have deadlines of their own.
        case .closing: nil
        case .finishing: heldSince.map { $0.advanced(milliseconds: pauseMs) } ?? lastProgress
        case .adopting: lastProgress.advanced(milliseconds: changeMs)
        }
    }
}
