import ClusterCore

/// A whole cluster in one thread: the real machines of coordinator, workers and gateways, whose effects are performed with a seeded agenda, a
/// faulty network, stage threads of a toy model and clients who know what they should get.
///
/// Parties are numbered: the coordinator is 0, then come workers, then gateways. A party's machine, its clock and its key outlive its process.
final class Cluster {
    let seed: UInt64
    let scenario: Scenario
    var numbers: SeededNumbers
    var agenda = Agenda()
    var now: Agenda.Time = 1_000_000
    /// All hosts, the coordinator's first.
    var hosts: [Host]
    var coordinator: CoordinatorProcess?
    var workers: [WorkerProcess?]
    var gateways: [GatewayProcess?]
    var links: [RowsLink] = []
    var clients = Clients()
    var sessions: UInt64 = 0
    var ports = 9_000
    var faultsLeft: Int
    var blockLossesLeft: Int
    var requestsLeft: Int
    /// The next fault was put off until there is work.
    var isMeetingWork = false
    /// No more faults; whatever ends comes back well.
    var isSettling = false
    var failuresInARow: FailuresInARow?
    /// Who stays away in the end.
    var absent: Int?
    /// Who holds which layers, by epoch and coordinator.
    var owners = Owners()

    var coverage = Coverage()
    /// Events that machines handled.
    var events: UInt64 = 0
    /// Of all that happened, in order: equal in every run of the seed.
    private(set) var digest: UInt64
    private(set) var violation: String?
    let trace: ((String) -> Void)?

    init(seed: UInt64, allowing faults: [Fault], trace: ((String) -> Void)? = nil) {
        self.seed = seed
        self.trace = trace
        scenario = Scenario(seed: seed, allowing: faults)
        numbers = SeededNumbers(seed: mixed(seed, 0xC1C5))
        digest = seed
        hosts = []
        workers = [WorkerProcess?](repeating: nil, count: scenario.workers)
        gateways = [GatewayProcess?](repeating: nil, count: scenario.gateways)
        faultsLeft = scenario.faultCount
        blockLossesLeft = scenario.blockLosses
        requestsLeft = scenario.requestCount
        for party in 0...scenario.workers + scenario.gateways {
            let clock = LocalClock(origin: numbers.octaves(1_000_000_000...1 << 50), at: now)
            hosts.append(Host(party: party, clock: clock))
            if party > 0 { hosts[party].slowness = isWorker(party) ? scenario.slowness[party - 1] : 1 }
        }
    }

    // MARK: - Names

    func isWorker(_ party: Int) -> Bool { party >= 1 && party <= scenario.workers }
    func isGateway(_ party: Int) -> Bool { party > scenario.workers }
    var workerParties: ClosedRange<Int> { 1...scenario.workers }
    var gatewayParties: ClosedRange<Int> { scenario.workers + 1...scenario.workers + scenario.gateways }
    func gatewayIndex(_ party: Int) -> Int { party - scenario.workers - 1 }

    func name(_ party: Int) -> String {
        party == 0 ? "coordinator" : isWorker(party) ? "worker-\(party)" : "gateway-\(gatewayIndex(party) + 1)"
    }

    private static let keys = (0...Scenario.workersMax + Scenario.gatewaysMax).map { party in
        PeerKey(bytes: [UInt8(party)] + [UInt8](repeating: 0, count: 31))!
    }

    /// Of a person with an order.
    static let consoleKey = PeerKey(bytes: [UInt8](repeating: 250, count: 32))!
    static func key(_ party: Int) -> PeerKey { keys[party] }
    static func party(_ key: PeerKey) -> Int { Int(key.words.0 >> 56) }

    func isAlive(_ party: Int) -> Bool {
        if party == 0 { return coordinator != nil }
        return isWorker(party) ? workers[party - 1] != nil : gateways[gatewayIndex(party)] != nil
    }

    // MARK: - What is noted

    /// The first violation ends the run.
    func fail(_ finding: String) {
        guard violation == nil else { return }
        violation = finding
        note("VIOLATION: \(finding)")
    }

    func note(_ line: @autoclosure () -> String) {
        guard let trace else { return }
        let digits = String(now / 1_000)
        let padded = String(repeating: "0", count: max(0, 7 - digits.count)) + digits
        trace("\(padded.dropLast(6)).\(padded.suffix(6)) \(line())")
    }

    func mix(_ value: UInt64) { digest = mixed(digest ^ value, now) }

    // MARK: - Running

    /// Runs until `isDone` or `end`, or until something is wrong.
    func run(until end: Agenda.Time, _ isDone: () -> Bool = { false }) {
        while violation == nil, !isDone(), let next = agenda.nextTime, next <= end {
            let (time, occurrence) = agenda.removeFirst()
            now = time
            happen(occurrence)
        }
        if violation == nil, !isDone() { now = max(now, end) }
    }

    private func happen(_ occurrence: Agenda.Occurrence) {
        switch occurrence {
        case .arrival(let link): arrive(link)
        case .timer(let party, let incarnation): timerFired(party, incarnation)
        case .stage(let worker, let incarnation, let job): goOn(worker, incarnation, job)
        case .preparer(let worker, let incarnation, let job): goOnPreparing(worker, incarnation, job)
        case .connect(let party, let attempt): connect(party, attempt)
        case .closed(let party, let generation): closed(party, generation)
        case .handshake(let link): greet(link)
        case .start(let party): start(party)
        case .fault: breakSomething()
        case .request: submitSomething()
        case .ends(let trouble): end(trouble)
        }
    }

    func after(_ nanoseconds: UInt64) -> Agenda.Time { now + nanoseconds }

    // MARK: - Processes

    func start(_ party: Int) {
        guard !isAlive(party) else { return }
        // A restart that was planned before the host was frozen again waits as well.
        guard hosts[party].frozenUntil <= now else { return agenda.add(.start(party: party), at: hosts[party].frozenUntil) }
        note("\(name(party)) starts")
        hosts[party].incarnation += 1
        hosts[party].timerAt = .max
        sessions += 1
        switch party {
        case 0: startCoordinator()
        case _ where isWorker(party): startWorker(party)
        default: startGateway(party)
        }
    }

    /// The process is gone. What it had sent may arrive, from some point on it does not.
    ///
    /// - Parameter isNoticed: whether its machine lives and closes its connections.
    func kill(_ party: Int, isNoticed: Bool = true, losesTail: Bool = true) {
        guard isAlive(party) else { return }
        note("\(name(party)) is gone")
        hosts[party].incarnation += 1
        hosts[party].timerAt = .max
        switch party {
        case 0: coordinator = nil
        case _ where isWorker(party): workers[party - 1] = nil
        default:
            clients.lose(gateway: party, in: self)
            gateways[gatewayIndex(party)] = nil
        }
        disconnectAll(of: party, isNoticed: isNoticed, losesTail: losesTail)
    }

    // MARK: - Time

    /// Plans the machine's next deadline.
    func planTimer(of party: Int, at deadline: Instant?) {
        guard let deadline else { return }
        let host = hosts[party]
        // A poll wakes up to a millisecond late.
        let time = host.clock.time(of: deadline, notBefore: now)
        guard time < host.timerAt, time < .max - 2_000_000 else { return }
        host.timerAt = time
        agenda.add(.timer(party: party, incarnation: host.incarnation), at: max(now + 1, time) + UInt64(numbers.below(1_000_000)))
    }

    private func timerFired(_ party: Int, _ incarnation: Int) {
        let host = hosts[party]
        guard host.incarnation == incarnation, isAlive(party) else { return }
        guard host.frozenUntil <= now else {
            return agenda.add(.timer(party: party, incarnation: incarnation), at: host.frozenUntil)
        }
        host.timerAt = .max
        mix(UInt64(party))
        let local = host.clock.now(now)
        let deadline = nextDeadline(of: party)
        guard let deadline, deadline <= local else { return planTimer(of: party, at: deadline) }
        switch party {
        case 0: tellCoordinator(.deadline)
        case _ where isWorker(party): tell(worker: party, .deadline)
        default: tell(gateway: party, .deadline)
        }
        if let next = nextDeadline(of: party), next <= local { fail("the deadline of \(name(party)) does not move on") }
    }

    private func nextDeadline(of party: Int) -> Instant? {
        if party == 0 { return coordinator?.machine.nextDeadline }
        return isWorker(party) ? workers[party - 1]?.machine.nextDeadline : gateways[gatewayIndex(party)]?.machine.nextDeadline
    }
}

/// Who was given which layers: no two workers may have the same layer in one epoch of one coordinator.
struct Owners {
    private struct Place: Hashable {
        var session: UInt64
        var epoch: Epoch
        var layer: Int
    }

    private var owners: [Place: Int] = [:]

    /// What is wrong with giving `worker` this stage.
    mutating func assign(_ assignment: StageAssignment, to worker: Int, by session: UInt64) -> String? {
        for layer in assignment.layers {
            let place = Place(session: session, epoch: assignment.epoch, layer: layer)
            if let owner = owners[place], owner != worker { return "layer \(layer) has two owners in epoch \(assignment.epoch.value)" }
            owners[place] = worker
        }
        return nil
    }

    /// The plan's other stages were told already.
    func knows(_ assignment: StageAssignment, of worker: Int, by session: UInt64) -> Bool {
        owners[Place(session: session, epoch: assignment.epoch, layer: assignment.layers.lowerBound)] == worker
    }
}
