// Workers that are to end on purpose: their layers go to others first.

/// A worker that is not to have layers any more.
package struct Drain: Hashable, Sendable {
    /// Whether it asked for it itself, because it ends, and so waits for an answer.
    package var isOwnWish: Bool
    /// It still has layers, as far as is known, and nobody said that it must keep them.
    package var isWanted = true
    /// It was told, or whoever asks will be, that it has none.
    package var isDone = false

    package init(isOwnWish: Bool) { self.isOwnWish = isOwnWish }
}

extension Coordinator {
    /// A person's question and order in one.
    mutating func drain(_ request: DrainRequest, from console: PeerKey, _ now: Instant, _ effects: inout [Effect]) {
        let found = membership.workers.values.filter { $0.hello.name == request.worker || "\($0.key)" == request.worker }
        guard let worker = found.first, found.count == 1 else {
            let names = membership.workers.values.map { "\($0.hello.name) (\($0.key))" }.joined(separator: ", ")
            let what = found.isEmpty ? "no worker is called" : "\(found.count) workers are called"
            return answer(console, .unknown, "\(what) \(request.worker); there are: \(names.isEmpty ? "none" : names)", &effects)
        }
        if request.isUndone {
            if worker.drain != nil { log(.notice, "draining was undone", [.init("peer", worker.key), .init("name", worker.hello.name)], &effects) }
            membership.workers[worker.key]!.drain = nil
            giveUpHandovers(with: worker.key, because: "the draining of \(worker.hello.name) was undone", now, &effects)
            fleet.grownInVain = nil
            fleet.triedInVain = nil
            return answer(console, .serving, "\(worker.hello.name) may have layers again", &effects)
        }
        if worker.drain == nil { beginDrain(of: worker.key, isOwnWish: false, now, &effects) }
        considerHandovers(now, &effects)
        let (state, detail) = drainState(of: membership.workers[worker.key]!)
        answer(console, state, detail, &effects)
        // Refused once is refused until somebody asks again.
        if state == .refused { membership.workers[worker.key]!.drain = nil }
    }

    private func answer(_ peer: PeerKey, _ state: DrainStatus.State, _ detail: String, _ effects: inout [Effect]) {
        effects.append(.send(.drainStatus(DrainStatus(state, detail)), to: peer))
    }

    mutating func wishedToLeave(_ worker: PeerKey, _ now: Instant, _ effects: inout [Effect]) {
        if let known = membership.workers[worker]!.drain {
            membership.workers[worker]!.drain!.isOwnWish = true
            if known.isDone || !known.isWanted { membership.workers[worker]!.drain = nil }
        }
        if membership.workers[worker]!.drain == nil { beginDrain(of: worker, isOwnWish: true, now, &effects) }
        // While slices are loaded there is nothing to hand over yet.
        if let replica = fleet.replica(of: worker), !fleet[replica].deployment.isServing { recover(replica, "a worker leaves", now, &effects) }
    }

    private mutating func beginDrain(of worker: PeerKey, isOwnWish: Bool, _ now: Instant, _ effects: inout [Effect]) {
        membership.workers[worker]!.drain = Drain(isOwnWish: isOwnWish)
        // It may just be getting layers. Once workers change over, that is done first.
        for replica in fleet.replicas.indices {
            guard let handover = fleet[replica].handover, handover.phase != .adopting else { continue }
            guard handover.plan.stages.contains(where: { $0.worker == worker }) else { continue }
            giveUpHandover(of: replica, because: "a worker that was to have layers is to leave", now, &effects)
            fleet[replica].handoverRetryAt = now
        }
        log(.notice, "draining a worker", [.init("peer", worker), .init("name", membership.workers[worker]!.hello.name)], &effects)
    }

    /// Nobody can take its layers over.
    mutating func refuseDrain(of worker: PeerKey, _ effects: inout [Effect]) {
        guard let member = membership.workers[worker], member.drain?.isWanted == true else { return }
        membership.workers[worker]!.drain!.isWanted = false
        let detail = "the other workers can't take over the layers of \(member.hello.name): they lack memory, or speak an older protocol"
        log(.warning, "a worker can't be drained", [.init("peer", worker), .init("name", member.hello.name)], &effects)
        if member.drain!.isOwnWish { answer(worker, .refused, detail, &effects) }
    }

    private func drainState(of worker: WorkerMember) -> (DrainStatus.State, String) {
        guard let drain = worker.drain else { return (.serving, "\(worker.hello.name) is in service") }
        if !drain.isWanted { return (.refused, "nobody can take over the layers of \(worker.hello.name): start another worker first") }
        guard let replica = fleet.replica(of: worker.key) else {
            return (.drained, "\(worker.hello.name) has no layers and gets none; end it, or take it back with --undo")
        }
        return (.moving, fleet[replica].handover.map { "\(worker.hello.name): \($0.words)" } ?? "\(worker.hello.name): waiting for the next try")
    }

    /// Tells workers that wait for it that they have no layers any more.
    mutating func finishDrains(_ effects: inout [Effect]) {
        for worker in membership.workers.values where worker.drain.map({ $0.isWanted && !$0.isDone }) == true {
            guard fleet.replica(of: worker.key) == nil, fleet.replica(handingOverWith: worker.key) == nil else { continue }
            membership.workers[worker.key]!.drain!.isDone = true
            log(.notice, "a worker is drained", [.init("peer", worker.key), .init("name", worker.hello.name)], &effects)
            if worker.drain!.isOwnWish { answer(worker.key, .drained, "no layers are left with this worker", &effects) }
        }
    }
}

extension Handover {
    /// For a person.
    package var words: String {
        let layers = "\(moves.reduce(0) { $0 + $1.layers.count }) layers move"
        switch phase {
        case .preparing: return layers + "; their new owners load them"
        case .copying: return layers + "; keys and values are copied, round \(round), \(ByteCount(bytesSent)) so far"
        case .closing, .finishing, .adopting: return layers + "; changing over"
        }
    }
}
