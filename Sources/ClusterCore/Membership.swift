import OrderedCollections

/// Who takes part, as far as the coordinator knows. In order of joining; a peer that says hello again keeps its place.
package struct Membership: Hashable, Sendable {
    package var workers: OrderedDictionary<PeerKey, WorkerMember> = [:]
    package var gateways: OrderedDictionary<PeerKey, GatewayMember> = [:]
    /// Outlives a worker's membership, or a hung stage could shed its strikes by saying hello again.
    package var strikes: OrderedDictionary<PeerKey, Strikes> = [:]
    /// Workers whose stage thread did nothing in the middle of a step, until it does something or their process is another one.
    var stuck: OrderedDictionary<PeerKey, Stuck> = [:]
    /// Workers to whom this coordinator gave a stage at any time. Only ever asked by key.
    var assigned: Set<PeerKey> = []

    struct Stuck: Hashable, Sendable {
        var session: UInt64
        /// What its heartbeats said by then.
        var said: Heartbeat

        /// Its stage thread did something since, be it only the end of its step. That its epoch is another one now is its socket thread's word.
        func hasMoved(_ heartbeat: Heartbeat) -> Bool {
            heartbeat.work != nil && heartbeat.work != said.work || heartbeat.epoch == said.epoch && heartbeat.lastStep > said.lastStep
        }
    }

    package init() {}

    /// Workers that a plan may use now, in order of their keys.
    package func candidates(at now: Instant) -> [WorkerMember] {
        workers.values.filter { worker in
            worker.drain == nil && stuck[worker.key] == nil && (strikes[worker.key].map { $0.suspendedUntil <= now } ?? true)
        }.sorted { $0.key < $1.key }
    }

    /// When the next suspension of a present worker ends.
    package func nextCandidate(after now: Instant) -> Instant? {
        workers.keys.compactMap { strikes[$0]?.suspendedUntil }.filter { $0 > now }.min()
    }
}

package struct WorkerMember: Hashable, Sendable {
    package let key: PeerKey
    package var hello: WorkerHello
    package var lastHeard: Instant
    /// When it was last asked for a sign of life; counts while it is later than `lastHeard`.
    package var lastAsked = Instant(nanoseconds: 0)
    /// As of its last heartbeat.
    package var progress: Heartbeat
    /// When that came.
    var toldAt = Instant(nanoseconds: 0)
    /// When it was last found to take far longer than usual for a step that it got on with; when the log said so.
    var slowAt: Instant?
    var slowToldAt: Instant?
    /// Whether it has, or was told to have, a slice in memory.
    package var holdsSlice: Bool
    /// What it serves or served by an earlier coordinator's plan; `nil` once it got a stage of this one's.
    var heldBefore: HeldSlice?
    /// Where it is to have layers no more.
    package var drain: Drain?
    /// The stage that it was told to load ahead.
    package var ahead: Range<Int>?
}

package struct GatewayMember: Hashable, Sendable {
    package let key: PeerKey
    package var session: UInt64
    package var name: String
    package var lastHeard: Instant
    /// Since when its connection is known to be gone; its requests run on for a grace.
    package var lostSince: Instant?
}

/// How often a worker failed a stage lately, and until when no plan uses it: 1 s, doubled with each strike, at most 60 s. An hour without
/// a strike, or a new process, clears it.
package struct Strikes: Hashable, Sendable {
    package static let suspensionMinMs: UInt64 = 1_000
    package static let suspensionMaxMs: UInt64 = 60_000
    package static let memoryMs: UInt64 = 3_600_000

    package private(set) var count = 0
    /// Not only while it prepared a slice beside what served, where a failure costs nobody anything.
    package private(set) var hasFailedServing = false
    package private(set) var suspendedUntil = Instant(nanoseconds: 0)

    package mutating func strike(at now: Instant, isPreparing: Bool = false) {
        if now > suspendedUntil.advanced(milliseconds: Self.memoryMs) { (count, hasFailedServing) = (0, false) }
        if !isPreparing { hasFailedServing = true }
        let suspension = min(Self.suspensionMinMs << UInt64(min(count, 10)), Self.suspensionMaxMs)
        count += 1
        suspendedUntil = now.advanced(milliseconds: suspension)
    }
}
