/// Looks for the best way to divide workers into a number of groups, each with a plan of its own.
struct DivisionSearch {
    private let planner: ReplicaPlanner
    /// In order of their keys.
    private let workers: [ReplicaPlanner.Candidate]
    /// By set of workers: its pipeline, or `nil` where the model does not fit. Only ever asked by set.
    private var pipelines: [UInt64: ReplicaPlanner.Pipeline?] = [:]

    init(planner: ReplicaPlanner, workers: [ReplicaPlanner.Candidate]) {
        self.planner = planner
        self.workers = workers
    }

    private var isExact: Bool { workers.count <= ReplicaPlanner.exactWorkersMax }

    /// Numbers of groups to try, ascending: none more than there are workers, or than their memory could do at all.
    func counts(upTo most: Int) -> [Int] {
        let memory = workers.reduce(UInt64(0)) { sum, worker in
            let (next, overflowed) = sum.addingReportingOverflow(worker.memoryBytes)
            return overflowed ? .max : next
        }
        let possible = min(most, workers.count, Int(clamping: memory / max(1, planner.bytesMin)))
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

    /// Each worker joins one of the groups so far or opens the next: every division once, in one order.
    private mutating func divide(from worker: Int, into count: Int, _ groups: inout [UInt64], _ best: inout ReplicaPlanner.Division?) {
        guard workers.count - worker >= count - groups.count else { return }
        guard worker < workers.count else {
            let found = groups.compactMap { pipeline(of: $0) }
            guard found.count == count else { return }
            let division = planner.division(found)
            if best.map({ division.isBetter(than: $0) }) ?? true { best = division }
            return
        }
        for group in groups.indices {
            groups[group] |= 1 << UInt64(worker)
            divide(from: worker + 1, into: count, &groups, &best)
            groups[group] &= ~(1 << UInt64(worker))
        }
        guard groups.count < count else { return }
        groups.append(1 << UInt64(worker))
        divide(from: worker + 1, into: count, &groups, &best)
        groups.removeLast()
    }

    private mutating func pipeline(of set: UInt64) -> ReplicaPlanner.Pipeline? {
        if let known = pipelines[set] { return known }
        let pipeline = pipeline(of: workers.indices.filter { set & (1 << UInt64($0)) != 0 }.map { workers[$0] })
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
        let strongestFirst = workers.sorted { (strength($1), $0.key) < (strength($0), $1.key) }
        for worker in strongestFirst {
            var weakest = 0
            for index in groups.indices
            where (groups[index].strength, groups[index].members.count) < (groups[weakest].strength, groups[weakest].members.count) {
                weakest = index
            }
            groups[weakest].members.append(worker)
            groups[weakest].strength += strength(worker)
        }
        return groups.map { $0.members.sorted { $0.key < $1.key } }.sorted { ($0.first?.key ?? workers[0].key) < ($1.first?.key ?? workers[0].key) }
    }
}
