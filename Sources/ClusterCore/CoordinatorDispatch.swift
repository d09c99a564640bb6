// Which replica runs a sequence.

extension Coordinator {
    /// In all replicas and in line.
    var openCount: Int { fleet.replicas.reduce(backlog.count) { $0 + $1.scheduler.openCount } }

    /// A new sequence waits. With one replica there is nothing to choose: its scheduler's own line is the common one.
    mutating func enter(_ sequence: GeneratedSequence) {
        if fleet.replicas.count == 1 { fleet[0].scheduler.add(sequence) } else { backlog.add(sequence) }
    }

    /// An open sequence ends before its time.
    mutating func leave(_ id: SequenceID) {
        if backlog.remove(id) { return }
        guard let replica = fleet.replicas.firstIndex(where: { $0.scheduler[id] != nil }) else {
            preconditionFailure("an open sequence waits in line or is in a replica")
        }
        fleet[replica].scheduler.remove(id)
    }

    /// Gives out who waits, in order: nobody is overtaken. Who is first in line goes to a replica that can run it at once, and whatever its
    /// preference it goes to any of them sooner than it waits; so a full replica holds nobody up.
    mutating func dispatch() {
        guard fleet.replicas.count > 1 else { return }
        recall()
        let serving = fleet.serving
        while let sequence = backlog.first {
            let rooms = serving.map { Refusal.Room(fleet[$0]) }
            if refusal == Refusal(sequence: sequence.id, rooms: rooms) { return }
            guard place(sequence, in: serving) else {
                refusal = Refusal(sequence: sequence.id, rooms: rooms)
                return
            }
        }
    }

    /// Whoever a replica has no room for waits in the common line: another one may have.
    private mutating func recall() {
        for replica in fleet.replicas.indices {
            for sequence in fleet[replica].scheduler.withdrawWaiting() { backlog.add(sequence) }
        }
    }

    private mutating func place(_ sequence: GeneratedSequence, in serving: [Int]) -> Bool {
        for replica in routes(of: sequence, over: serving.filter { fleet[$0].scheduler.hasRoom }) {
            guard fleet[replica].scheduler.offer(sequence) else { continue }
            backlog.remove(sequence.id)
            return true
        }
        return false
    }

    /// Replicas, best first: where another choice of the request shares its prompt, then by the time until the sequence would be done. A known
    /// beginning shortens that by its prefill, others' work lengthens it; so a beginning is followed as long as it saves more than waiting costs.
    private func routes(of sequence: GeneratedSequence, over replicas: [Int]) -> [Int] {
        guard replicas.count > 1 else { return replicas }
        let costs = replicas.map { replica in
            (apart: !fleet[replica].scheduler.holdsSibling(of: sequence), seconds: fleet[replica].secondsUntilDone(sequence), replica: replica)
        }
        return costs.sorted { a, b in
            a.apart != b.apart ? b.apart : (a.seconds, a.replica) < (b.seconds, b.replica)
        }.map(\.replica)
    }
}

/// Who was refused, and how full the replicas were then: while nothing has changed, asking again is pointless.
struct Refusal: Hashable, Sendable {
    struct Room: Hashable, Sendable {
        private let epoch: Epoch
        private let running: Int
        private let waiting: Int
        private let free: Int

        init(_ replica: Replica) {
            epoch = replica.deployment.epoch
            running = replica.scheduler.running.count
            waiting = replica.scheduler.waiting.count
            free = replica.scheduler.allocator.freeCount
        }
    }

    let sequence: SequenceID
    let rooms: [Room]
}

extension Replica {
    /// Tokens that a sequence is reckoned to make still, unless it may make only fewer.
    static let tokensExpected = 128

    /// Predicted for a sequence that comes now: the prompts before it, its own, and its tokens beside all others.
    func secondsUntilDone(_ sequence: GeneratedSequence) -> Double {
        guard let forecast else { return .infinity }
        let rows = scheduler.pendingPrefillRows + max(0, sequence.tokens.count - scheduler.cachedPositions(of: sequence))
        let tokens = min(Self.tokensExpected, max(1, Int(sequence.sampling.maxTokens) - sequence.generatedCount))
        return forecast.prefillSeconds(rows: rows) + Double(tokens) * forecast.interval(sequences: scheduler.openCount + 1)
    }
}
