// In which order the workers stand in the pipeline.

extension Planner {
    /// Up to so many workers every order is considered, through their subsets.
    package static let exactWorkersMax = 12
    /// An order is changed for no less.
    private static let gainMin = 1e-9

    /// An order of the workers whose longest time is the shortest of all, or of those tried, if it is shorter than `time`.
    func betterOrder(than time: Double) -> [Int]? {
        guard workers.count > 1 else { return nil }
        let found = workers.count <= Self.exactWorkersMax ? bestOfAllOrders() : bestOfTriedOrders()
        guard let found, found.time < time * (1 - Self.gainMin) else { return nil }
        return found.order
    }

    // MARK: - Exactly

    /// For each set of workers, the most layers that they cover from the first on, in any order, none taking longer than a limit. More layers are
    /// never worse, because whoever follows then has a subset to do; so one number for each set is enough, and the sets grow one by one.
    private struct Coverage {
        var covered: [Int]
        /// By set: who comes last in it.
        var last: [Int]
    }

    private func bestOfAllOrders() -> (time: Double, order: [Int])? {
        guard let time = Self.shortest({ limit in ending(self.coverage(within: limit), within: limit)?.time }) else { return nil }
        let coverage = self.coverage(within: time)
        guard let end = ending(coverage, within: time) else { preconditionFailure("the time was reached before") }
        var order = [end.worker]
        var set = end.set
        while set != 0 {
            order.append(coverage.last[set])
            set &= ~(1 << coverage.last[set])
        }
        let used = Array(order.reversed())
        // Who has no layers stands before the last: where it could take some, if the even plan finds it useful.
        let spare = workers.indices.filter { !used.contains($0) }
        return (time, used.dropLast() + spare + used.suffix(1))
    }

    private func coverage(within limit: Double) -> Coverage {
        let sets = 1 << workers.count
        var coverage = Coverage(covered: [Int](repeating: 0, count: sets), last: [Int](repeating: 0, count: sets))
        guard hopSeconds <= limit else { return coverage }
        let reaches = workers.map { self.reaches($0, limit: limit) }
        for set in 1..<sets {
            var best = -1
            for worker in workers.indices where set & (1 << worker) != 0 {
                let before = coverage.covered[set & ~(1 << worker)]
                let reached = before >= layerCount - 1 ? before : reaches[worker][before]
                if reached > best { (best, coverage.last[set]) = (reached, worker) }
            }
            coverage.covered[set] = best
        }
        return coverage
    }

    /// The set of workers and the one after it that takes the rest and the head, with the smallest such set; and the longest time on the way.
    private func ending(_ coverage: Coverage, within limit: Double) -> (set: Int, worker: Int, time: Double)? {
        // Who can end a pipeline at one layer can at every later one. One worker for everything is another matter: it may hold a tied head once.
        let ends = workers.map { worker in (1..<max(1, layerCount)).first { fits(worker, $0..<layerCount, limit: limit) } ?? layerCount }
        if let alone = workers.indices.first(where: { fits(workers[$0], 0..<layerCount, limit: limit) }) {
            return (0, alone, time(workers[alone], 0..<layerCount))
        }
        var best: (set: Int, worker: Int, time: Double)?
        for set in coverage.covered.indices.dropFirst() where best.map({ set.nonzeroBitCount < $0.set.nonzeroBitCount }) ?? true {
            let start = min(coverage.covered[set], layerCount - 1)
            guard let worker = workers.indices.first(where: { set & (1 << $0) == 0 && ends[$0] <= start }) else { continue }
            best = (set, worker, max(time(workers[worker], start..<layerCount), longestTime(of: set, in: coverage, upTo: start), hopSeconds))
        }
        return best
    }

    /// Of the stages of `set`, whose last one ends at layer `end`.
    private func longestTime(of set: Int, in coverage: Coverage, upTo end: Int) -> Double {
        var (set, end, longest) = (set, end, 0.0)
        while set != 0 {
            let worker = coverage.last[set]
            set &= ~(1 << worker)
            let start = min(coverage.covered[set], end)
            if start < end { longest = max(longest, time(workers[worker], start..<end, last: false)) }
            end = start
        }
        return longest
    }
}
