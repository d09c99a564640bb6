/// Looks for the best way to divide workers into a number of groups, each with a plan of its own.
struct DivisionSearch {
    private let planner: ReplicaPlanner
    /// Workers that stay together, mostly each for itself; in order of their keys.
    private let units: [[ReplicaPlanner.Candidate]]
    /// By set of units: its pipeline, or `nil` where the model does not fit. Only ever asked by set.
    private var pipelines: [UInt64: ReplicaPlanner.Pipeline?] = [:]

    init(planner: ReplicaPlanner, units: [[ReplicaPlanner.Candidate]]) {
        self.planner = planner
        self.units = units
    }

    private var isExact: Bool { units.count <= ReplicaPlanner.exactWorkersMax }

    /// Numbers of groups to try, ascending: none more than there are units, or than their memory could do at all.
    func counts(upTo most: Int) -> [Int] {
        let memory = units.joined().reduce(UInt64(0)) { sum, worker in
            let (next, overflowed) = sum.addingReportingOverflow(worker.memoryBytes)
            return overflowed ? .max : next
        }
        let possible = min(most, units.count, Int(clamping: memory / max(1, planner.bytesMin)))
        guard possible >= 1 else { return [] }
        return isExact ? Array(1...possible) : ReplicaPlanner.countsTried.filter { $0 < possible } + [possible]
    }

    /// The best division into exactly `count` groups that was found.
    mutating func best(_ count: Int) -> ReplicaPlanner.Division? { isExact ? bestOfAll(count) : bestDealt(count) }

    // MARK: - Exactly

    private mutating func bestOfAll(_ count: Int) -> ReplicaPlanner.Division? {
        var best: ReplicaPlanner.Division?
        var groups: [UInt64] = []
        divide(from: 0, into: count, &groups, &best)
        return best
    }

    /// Each unit joins one of the groups so far or opens the next: every division once, in one order.
    private mutating func divide(from unit: Int, into count: Int, _ groups: inout [UInt64], _ best: inout ReplicaPlanner.Division?) {
        guard units.count - unit >= count - groups.count else { return }
        guard unit < units.count else {
            let found = groups.compactMap { pipeline(of: $0) }
            guard found.count == count else { return }
            let division = planner.division(found)
            if best.map({ division.isBetter(than: $0) }) ?? true { best = division }
            return
        }
        for group in groups.indices {
            groups[group] |= 1 << UInt64(unit)
            divide(from: unit + 1, into: count, &groups, &best)
            groups[group] &= ~(1 << UInt64(unit))
        }
        guard groups.count < count else { return }
        groups.append(1 << UInt64(unit))
        divide(from: unit + 1, into: count, &groups, &best)
        groups.removeLast()
    }

    private mutating func pipeline(of set: UInt64) -> ReplicaPlanner.Pipeline? {
        if let known = pipelines[set] { return known }
        let pipeline = pipeline(of: units.indices.filter { set & (1 << UInt64($0)) != 0 }.flatMap { units[$0] })
        pipelines[set] = .some(pipeline)
        return pipeline
    }

    private func pipeline(of group: [ReplicaPlanner.Candidate]) -> ReplicaPlanner.Pipeline? {
        guard case .success(let plan) = planner.plan(over: group) else { return nil }
        return planner.pipeline(plan, of: group)
    }

    // MARK: - By dealing out

    private func bestDealt(_ count: Int) -> ReplicaPlanner.Division? {
        let bySpeed = dealt(into: count) { $0.readBytesPerSecond / $0.correction }
        let byMemory = dealt(into: count) { Double($0.memoryBytes) }
        return [bySpeed, byMemory].reduce(nil) { best, groups in
            // Memory has the last word: the second way only counts where the first does not fit.
            guard best == nil else { return best }
            let found = groups.compactMap { pipeline(of: $0) }
            return found.count == count ? planner.division(found) : nil
        }
    }

    /// The strongest first, each to the group that is weakest so far.
    private func dealt(into count: Int, by strength: (ReplicaPlanner.Candidate) -> Double) -> [[ReplicaPlanner.Candidate]] {
        var groups = [(members: [ReplicaPlanner.Candidate], strength: Double)](repeating: ([], 0), count: count)
        let strengths = units.map { $0.reduce(0.0) { $0 + strength($1) } }
        let strongestFirst = units.indices.sorted { (strengths[$1], $0) < (strengths[$0], $1) }
        for unit in strongestFirst {
            var weakest = 0
            for index in groups.indices
            where (groups[index].strength, groups[index].members.count) < (groups[weakest].strength, groups[weakest].members.count) {
                weakest = index
            }
            groups[weakest].members += units[unit]
            groups[weakest].strength += strengths[unit]
        }
        return groups.map { $0.members.sorted { $0.key < $1.key } }.sorted { ($0.first?.key ?? units[0][0].key) < ($1.first?.key ?? units[0][0].key) }
    }
}
