import ClusterCore

/// Workers that die one after another, each in a moment of the recovery from the one before it.
struct FailuresInARow {
    enum Moment: CaseIterable { case atOnce, loading, proving, rebuilding, serving }

    /// How many are still to die.
    var left: Int
    var moment: Moment
    /// The last one's layers end there: the stage behind it is the next to go, at times.
    var end: Int
    /// Plans that had served when it died.
    var served: Int
    /// Its moment may never come.
    var givenUpAt: Agenda.Time
    /// The next one is chosen, and dies very soon.
    var isDue = false

    var branch: Branch {
        switch moment {
        case .atOnce: .diedAtOnce
        case .loading: .diedWhileLoading
        case .proving: .diedWhileProving
        case .rebuilding: .diedWhileRebuilding
        case .serving: .diedAfterwards
        }
    }
}

extension Cluster {
    private static let patienceNanoseconds: UInt64 = 10_000_000_000

    func beginFailuresInARow() -> Bool {
        guard coordinator != nil, failuresInARow == nil, let party = holder(behind: nil) else { return false }
        let layers = workers[party - 1]?.stage?.assignment.layers
        dieForAWhile(party)
        planNextFailure(left: numbers.among(1...3), end: layers?.upperBound ?? 0)
        return true
    }

    /// Looked at after each of the coordinator's events: whether the next one's moment has come.
    func goOnWithFailures() {
        guard let row = failuresInARow, !row.isDue, let process = coordinator else { return }
        guard now < row.givenUpAt, !isSettling else { return failuresInARow = nil }
        let phase = process.machine.recoveryPhase
        let isThen =
            switch row.moment {
            case .atOnce: true
            case .loading: phase == .loading
            case .proving: phase == .proving
            case .rebuilding: phase == .rebuilding
            case .serving: phase == .serving && process.servingEpochs.count > row.served
            }
        guard isThen, let party = holder(behind: numbers.oneIn(3) ? nil : row.end) else { return }
        failuresInARow!.isDue = true
        agenda.add(.ends(.doomed(party)), at: after(numbers.octaves(1...2 * scenario.stepNanoseconds)))
    }

    func endDoomed(_ party: Int) {
        guard let row = failuresInARow, !isSettling, isAlive(party) else { return failuresInARow = nil }
        coverage.count(row.branch)
        note("fault: another worker dies, \(row.moment)")
        let end = workers[party - 1]?.stage?.assignment.layers.upperBound ?? row.end
        dieForAWhile(party)
        failuresInARow = nil
        if row.left > 1 { planNextFailure(left: row.left - 1, end: end) }
    }

    private func planNextFailure(left: Int, end: Int) {
        failuresInARow = FailuresInARow(
            left: left, moment: numbers.pick(FailuresInARow.Moment.allCases), end: end, served: coordinator?.servingEpochs.count ?? 0,
            givenUpAt: after(Self.patienceNanoseconds))
    }

    /// A worker with a stage, if possible the one whose layers begin at `end`.
    private func holder(behind end: Int?) -> Int? {
        let live = workerParties.filter { isAlive($0) && hosts[$0].frozenUntil <= now }
        let holders = live.filter { workers[$0 - 1]!.stage != nil }
        if let end, let next = holders.first(where: { workers[$0 - 1]!.stage!.assignment.layers.lowerBound == end }) { return next }
        return holders.isEmpty ? live.isEmpty ? nil : numbers.pick(live) : numbers.pick(holders)
    }

    private func dieForAWhile(_ party: Int) {
        kill(party)
        if !numbers.oneIn(4) { agenda.add(.start(party: party), at: after(numbers.octaves(20_000_000...30_000_000_000))) }
    }
}
