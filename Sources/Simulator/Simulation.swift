import ClusterCore

/// One seed's run, from the first process's start to the last block's release.
package struct Simulation {
    /// What came of it.
    package struct Outcome: Sendable {
        package var seed: UInt64
        /// What was wrong; `nil` when nothing was.
        package var violation: String?
        /// Events that the machines handled.
        package var events: UInt64
        /// How long it took in the cluster's own time.
        package var simulatedNanoseconds: UInt64
        package var requests: Int
        package var coverage: Coverage
        /// Of all that happened, in order: equal in every run of the same seed with the same code.
        package var digest: UInt64
    }

    /// From the last fault's end, everything is finished within so long.
    static let livenessMs: UInt64 = 300_000
    /// From the last stream's end, nothing is left of any after so long: a lost gateway's requests run on for a grace, and one whose cancel
    /// was lost is computed to its end.
    static let restMs: UInt64 = 60_000

    /// - Parameters:
    ///   - faults: those that may happen; which of them do is the seed's choice.
    ///   - trace: hears of all that happens, a line each.
    package static func run(seed: UInt64, allowing faults: [Fault] = Fault.allCases, trace: ((String) -> Void)? = nil) -> Outcome {
        let cluster = Cluster(seed: seed, allowing: faults, trace: trace)
        cluster.begin()
        cluster.suffer()
        cluster.recover()
        cluster.rest()
        return Outcome(
            seed: seed, violation: cluster.violation, events: cluster.events, simulatedNanoseconds: cluster.now,
            requests: cluster.clients.streams.count, coverage: cluster.coverage, digest: cluster.digest)
    }
}

extension Cluster {
    func begin() {
        note(scenario.words)
        for party in hosts.indices {
            agenda.add(.start(party: party), at: now + (numbers.oneIn(2) ? 0 : numbers.octaves(1...2_000_000_000)))
        }
        agenda.add(.request, at: now + numbers.octaves(1_000_000...3_000_000_000))
        if faultsLeft > 0 { agenda.add(.fault, at: now + numbers.octaves(1_000_000...8_000_000_000)) }
    }

    func suffer() {
        // Faults come at the latest every eight seconds, requests every second.
        run(until: now + 300_000_000_000) { self.faultsLeft == 0 && self.requestsLeft == 0 }
        run(until: after(numbers.octaves(1_000_000...20_000_000_000)))
    }

    func recover() {
        guard violation == nil else { return }
        settle()
        requestsLeft += 3
        agenda.add(.request, at: after(1_000_000))
        let end = after((Simulation.livenessMs + scenario.configuration.recoveryWaitMs) * 1_000_000)
        while violation == nil, !isWell {
            guard now < end else {
                let why = coordinator?.machine.isServing == true ? "\(clients.open.count) streams never end" : "the cluster serves no more"
                return fail("\(why), though the last fault is long over")
            }
            run(until: after(100_000_000))
        }
    }

    private var isWell: Bool {
        requestsLeft == 0 && clients.comingBack == 0 && clients.areAllServed && coordinator?.machine.isServing == true
    }

    func rest() {
        let end = after(Simulation.restMs * 1_000_000)
        while violation == nil, let leftover {
            guard now < end else { return fail("something is left when all streams have ended: \(leftover)") }
            run(until: after(100_000_000))
        }
        if violation == nil, let coordinator { audit(coordinator) }
    }

    private var leftover: String? {
        if let leftover = coordinator?.machine.leftover { return leftover }
        for gateway in gateways.compactMap(\.self) where gateway.machine.openCount > 0 { return "a gateway has requests open" }
        for worker in workers.compactMap(\.self) where !worker.payloads.isEmpty { return "a worker keeps rows of no step" }
        for party in workerParties where coordinator?.machine.wants(Self.key(party)) == false {
            if workers[party - 1]?.stage != nil { return "\(name(party)) keeps a stage of a plan that is over" }
            if workers[party - 1]?.prepared != nil { return "\(name(party)) keeps what it prepared for a hand-over that is over" }
        }
        return nil
    }
}
