// In which order the workers stand in the pipeline.

extension Planner {
    /// Up to so many workers every order is considered, through their subsets.
    package static let exactWorkersMax = 12
    /// An order is changed for no less.
    private static let gainMin = 1e-9

    /// The workers in an order whose longest stage time is the shortest of all, if that is shorter than `time`.
    func betterOrder(than time: Double) -> [Candidate]? {
        guard workers.count > 1 else { return nil }
        let found = workers.count <= Self.exactWorkersMax ? bestOfAllOrders() : bestWithEachAsLast()
        guard let found, found.time < time * (1 - Self.gainMin) else { return nil }
        return found.order.map { workers[$0] }
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
        for set in 1..<sets {
            var best = -1
            for worker in workers.indices where set & (1 << worker) != 0 {
                let before = coverage.covered[set & ~(1 << worker)]
                let reached = before >= layerCount - 1 ? before : furthest(workers[worker], from: before, limit: limit)
                if reached > best { (best, coverage.last[set]) = (reached, worker) }
            }
            coverage.covered[set] = best
        }
        return coverage
    }

    /// The set of workers and the one after it that takes the rest and the head, with the smallest such set; and the longest time on the way.
    private func ending(_ coverage: Coverage, within limit: Double) -> (set: Int, worker: Int, time: Double)? {
        var best: (set: Int, worker: Int, time: Double)?
        for set in coverage.covered.indices where best.map({ set.nonzeroBitCount < $0.set.nonzeroBitCount }) ?? true {
            for worker in workers.indices where set & (1 << worker) == 0 {
                let rest = min(coverage.covered[set], layerCount - 1)..<layerCount
                guard fits(workers[worker], rest, limit: limit) else { continue }
                best = (set, worker, max(time(workers[worker], rest), longestTime(of: set, in: coverage, upTo: rest.lowerBound)))
                break
            }
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

    // MARK: - By trying

    /// What an order decides most is who bears the head.
    private func bestWithEachAsLast() -> (time: Double, order: [Int])? {
        var best: (time: Double, order: [Int])?
        for last in workers.indices {
            let order = workers.indices.filter { $0 != last } + [last]
            guard let time = with(order).shortestLongestTime() else { continue }
            if best.map({ time < $0.time }) ?? true { best = (time, order) }
        }
        return best
    }
}
