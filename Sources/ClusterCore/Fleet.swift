/// All replicas, and what the coordinator knows of serving as a whole.
///
/// A worker is in at most one replica. Epochs are numbered through: no two plans ever have the same one, whichever replica they are for, so
/// a frame's epoch says which replica it belongs to, and workers need not know that there are several.
package struct Fleet: Sendable {
    /// Never fewer than one; a place that was made stays, its counters with it.
    package private(set) var replicas: [Replica]
    /// In force or past, under this coordinator or, as workers say, an earlier one. The next epoch lies above it.
    package private(set) var highestEpoch = Epoch(0)
    /// The coordinator's start, or since when no replica has a plan.
    package var idleSince: Instant
    /// Since when nothing serves; `nil` while something does.
    package var unservedSince: Instant?
    package var hasServed = false
    /// Last join or loss of a worker.
    package var lastChange: Instant
    /// Free workers over whom planning failed; pointless to try again with the same.
    package var triedInVain: [PeerKey]?
    /// All workers, when a plan over them would not be wider than what serves.
    package var widenedInVain: [PeerKey]?
    /// Workers over whom a plan would not be wider than the one in force.
    var grownInVain: [PeerKey]?
    /// Standbys that were told what to load ahead, and for which plans.
    var standbyPlaces: StandbyPlaces?
    /// Why nothing serves, as far as known. For people.
    package var lastFailure: Failure?

    package init(first: Replica, at now: Instant) {
        replicas = [first]
        idleSince = now
        unservedSince = now
        lastChange = now
    }

    /// Read as a copy and not lent by `_read`: where nothing is optimised, Swift 6.3.1 reads on from what was lent after it was given back.
    package subscript(index: Int) -> Replica {
        get { replicas[index] }
        _modify { yield &replicas[index] }
    }

    // MARK: - Which

    /// No replica has a plan.
    package var isIdle: Bool { replicas.allSatisfy(\.deployment.isIdle) }
    package var isServing: Bool { replicas.contains(where: \.deployment.isServing) }
    /// Replicas with a plan.
    package var inForce: [Int] { replicas.indices.filter { !replicas[$0].deployment.isIdle } }
    package var serving: [Int] { replicas.indices.filter { replicas[$0].deployment.isServing } }
    /// Workers that have a stage.
    package var workersInUse: Int { replicas.reduce(0) { $0 + ($1.deployment.plan?.stages.count ?? 0) } }

    package func replica(of worker: PeerKey) -> Int? { replicas.firstIndex { $0.deployment.stage(of: worker) != nil } }
    package func replica(in epoch: Epoch) -> Int? { replicas.firstIndex { $0.deployment.epoch == epoch } }

    package func replica(handingOverTo epoch: Epoch) -> Int? { replicas.firstIndex { $0.handover?.epoch == epoch } }
    package func replica(handingOverWith worker: PeerKey) -> Int? {
        replicas.firstIndex { $0.handover?.participants.contains(worker) == true }
    }

    /// Of the newest plan, in force or not: what people see.
    package var highestEpochInForce: Epoch { replicas.map(\.deployment.epoch).max() ?? Epoch(0) }

    // MARK: - Changes

    package mutating func hasSeen(_ epoch: Epoch) { highestEpoch = max(highestEpoch, epoch) }

    package mutating func takeEpoch() -> Epoch {
        highestEpoch = highestEpoch.next
        return highestEpoch
    }

    /// The first idle place, or one more.
    package mutating func takePlace(orMake make: () -> Replica) -> Int {
        if let idle = replicas.firstIndex(where: \.deployment.isIdle) { return idle }
        replicas.append(make())
        return replicas.count - 1
    }
}
