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
        if backlog.end(id) { return }
        guard let replica = fleet.replicas.firstIndex(where: { $0.scheduler[id] != nil }) else {
            preconditionFailure("an open sequence waits in line or is in a replica")
        }
        fleet[replica].scheduler.remove(id)
    }

    /// Gives out who waits, in the order of shares (`FairLine`): who comes first goes to a replica that can run it at once, and whatever its
    /// preference it goes to any of them sooner than it waits; so a full replica holds nobody up. Nobody is overtaken, with the exception that a
    /// scheduler makes too: who has others of its tenant running does not hold up a tenant that has nothing running.
    mutating func dispatch() {
        guard fleet.replicas.count > 1 else { return }
        recall()
        defer { for replica in fleet.replicas.indices { fleet[replica].scheduler.othersWait = backlog.count > 0 } }
        let serving = fleet.serving
        var round = FairLine.Round()
        while let sequence = backlog.next(in: round) {
            let isUnserved = backlog.line.running(of: sequence.tenant) == 0
            let rooms = serving.map { Refusal.Room(fleet[$0]) }
            // For who is unserved others may give way a little later, though no room has changed.
            if !isUnserved, refusal == Refusal(sequence: sequence.id, rooms: rooms) {
                round.asksOnlyUnserved = true
            } else if !place(sequence, isUnserved: isUnserved, in: serving) {
                if isUnserved { return }
                refusal = Refusal(sequence: sequence.id, rooms: rooms)
                round.asksOnlyUnserved = true
            }
        }
    }

    /// Whoever a replica has no room for waits in the common line: another one may have.
    private mutating func recall() {
        if !backlog.isInUse {
            for replica in fleet.replicas { replica.scheduler.forEachSequence { backlog.adopt($0) } }
            backlog.isInUse = true
        }
        for replica in fleet.replicas.indices {
            for sequence in fleet[replica].scheduler.withdrawWaiting() { backlog.add(sequence) }
        }
    }

    private mutating func place(_ sequence: GeneratedSequence, isUnserved: Bool, in serving: [Int]) -> Bool {
        // In a full replica others give way only to a tenant that has nothing running anywhere.
        let roomy = serving.filter { fleet[$0].scheduler.hasRoom }
        for replica in routes(of: sequence, over: roomy) + (isUnserved ? serving.filter { !roomy.contains($0) } : []) {
            let rows = sequence.tokens.count - fleet[replica].scheduler.cachedPositions(of: sequence)
            guard withPrecedence(of: replica, { $0.offer(sequence) }) else { continue }
            let tokens = fleet[replica].scheduler.forecast.expectedTokens(of: sequence, contextTokens: configuration.contextTokens)
            backlog.place(sequence.id, rows: rows, tokens: tokens)
            return true
        }
        return false
    }

    /// Precedence is numbered through over all replicas, or a sequence that goes from one to another would find its number taken.
    mutating func withPrecedence<Result>(of replica: Int, _ body: (inout Scheduler) -> Result) -> Result {
        fleet[replica].scheduler.nextPrecedence = lastPrecedence
        defer { lastPrecedence = fleet.replicas[replica].scheduler.nextPrecedence }
        return body(&fleet[replica].scheduler)
    }

    /// Replicas, best first: where another choice of the request shares its prompt, then by the time until the sequence would be done. A known
    /// beginning shortens that by its prefill, others' work lengthens it; so a beginning is followed as long as it saves more than waiting costs.
    private func routes(of sequence: GeneratedSequence, over replicas: [Int]) -> [Int] {
        guard replicas.count > 1 else { return replicas }
        let costs = replicas.map { replica in
            (
                apart: !fleet[replica].scheduler.holdsSibling(of: sequence), seconds: fleet[replica].secondsUntilDone(sequence),
                open: fleet[replica].scheduler.openCount, replica: replica
            )
        }
        return costs.sorted { a, b in
            a.apart != b.apart ? b.apart : (a.seconds, a.open, a.replica) < (b.seconds, b.open, b.replica)
        }.map(\.replica)
    }
}

// What is known of all who are open, in line and in replicas.
extension Coordinator {
    /// The line in which tenants' turns are decided.
    var line: FairLine { fleet.replicas.count == 1 ? fleet[0].scheduler.waiting : backlog.line }

    /// How long a request of `tenant` would wait before it is computed, in milliseconds; of nobody in particular, behind all that is open. Replicas
    /// work side by side, so their speeds add up.
    func expectedWaitMs(of tenant: Tenant? = nil) -> UInt64 {
        if fleet.replicas.count == 1 { return fleet[0].scheduler.expectedWaitMs(of: tenant) }
        let working = fleet.serving.isEmpty ? Array(fleet.replicas.indices) : fleet.serving
        if backlog.count == 0, working.contains(where: { fleet[$0].scheduler.hasPlaceToRun }) { return 0 }
        let all = milliseconds(of: nil, in: working)
        guard let tenant else { return UInt64(all) }
        // As in `Scheduler.expectedWaitMs`.
        let weight = max(1, line.weight(of: tenant))
        let share = Double(line.weightInAll + (line.open(of: tenant) == 0 ? weight : 0)) / Double(weight)
        return UInt64(min(all, milliseconds(of: tenant, in: working) * share))
    }

    private func milliseconds(of tenant: Tenant?, in working: [Int]) -> Double {
        var work = backlog.work(left: fleet[working[0]].scheduler.forecast, contextTokens: configuration.contextTokens, of: tenant)
        for replica in fleet.replicas { work += replica.scheduler.workLeft(of: tenant) }
        let perMillisecond = working.reduce(0.0) { $0 + 1 / Double(max(1, fleet[$1].scheduler.forecast.milliseconds(for: work))) }
        return work.promptRows + work.tokens == 0 ? 0 : min(Double(Limits.expectedWaitMsMax), 1 / perMillisecond)
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
