// Beyond the number of workers for which every order can be considered: a time that no plan can be below, and a search that starts from it.

extension Planner {
    /// Orders tried one by one.
    package static let ordersTriedMax = 400
    /// Places between two workers that are exchanged.
    private static let exchangeDistanceMax = 12

    /// What each worker can do within a limit at most, wherever its layers lie.
    private struct Capacity {
        /// In the middle of the pipeline: the most consecutive layers.
        var most: Int
        /// From the first layer on, with the embedding.
        var fromFirst: Int
        /// Up to the last one, with the head; 0: it can't be the last.
        var toLast: Int
    }

    /// A time that no plan over these workers is below, in whatever order, to within 1 part in 10¹²; 0 when nothing fits.
    ///
    /// Within a limit no worker has more layers than its longest run, the first no more than its run from layer 0, the last no more than its run
    /// before the head. Where those cannot add up to all layers, there is no plan; the bound is the smallest limit for which they can. With
    /// layers of one size runs are the same everywhere, so the bound is reached.
    func boundSeconds() -> Double {
        Self.shortest { limit in self.ends(within: limit).map { _ in limit.isFinite ? limit : self.allAlone } } ?? 0
    }

    /// Longer than any plan's longest stage: somewhere to begin.
    private var allAlone: Double {
        let slowest = workers.map { time($0, 0..<layerCount) }.max() ?? 0
        return max(slowest, hopSeconds)
    }

    /// Who begins and who ends the pipeline that covers the most layers within the limit, where that is all of them. Equal for one worker alone.
    private func ends(within limit: Double) -> (first: Int, last: Int)? {
        if let alone = workers.indices.first(where: { fits(workers[$0], 0..<layerCount, limit: limit) }) { return (alone, alone) }
        guard hopSeconds <= limit else { return nil }
        let capacities = workers.map { capacity($0, limit: limit) }
        let sum = capacities.reduce(0) { $0 + $1.most }
        // What is lost against the middle when a worker stands at an end.
        let firsts = capacities.indices.filter { capacities[$0].fromFirst > 0 }.sorted { lossAsFirst(capacities[$0]) < lossAsFirst(capacities[$1]) }
        let lasts = capacities.indices.filter { capacities[$0].toLast > 0 }.sorted { lossAsLast(capacities[$0]) < lossAsLast(capacities[$1]) }
        // If both lists begin with the same worker, one of them has its second.
        for first in firsts.prefix(2) {
            for last in lasts.prefix(2) where first != last {
                if sum - lossAsFirst(capacities[first]) - lossAsLast(capacities[last]) >= layerCount { return (first, last) }
            }
        }
        return nil
    }

    private func lossAsFirst(_ capacity: Capacity) -> Int { capacity.most - capacity.fromFirst }
    private func lossAsLast(_ capacity: Capacity) -> Int { capacity.most - capacity.toLast }

    private func capacity(_ worker: Candidate, limit: Double) -> Capacity {
        let reaches = reaches(worker, limit: limit)
        let start = (1..<max(1, layerCount)).first { fits(worker, $0..<layerCount, limit: limit) } ?? layerCount
        let most = reaches.indices.map { reaches[$0] - $0 }.max() ?? 0
        return Capacity(most: most, fromFirst: reaches[0], toLast: layerCount - start)
    }

    // MARK: - By trying

    /// The order that the bound suggests, then others: every worker as the last, then as the first, then pairs exchanged while that helps.
    func bestOfTriedOrders() -> (time: Double, order: [Int])? {
        var search = OrderSearch(planner: self, left: ordersTriedMax)
        let bound = boundSeconds()
        if bound > 0, let ends = ends(within: bound * (1 + 1e-9)) { search.attempt(order(first: ends.first, last: ends.last)) }
        if let best = search.best, best.time <= bound * (1 + 1e-9) { return best }
        for last in workers.indices { search.attempt(order(first: nil, last: last)) }
        if let last = search.best?.order.last {
            for first in workers.indices where first != last { search.attempt(order(first: first, last: last)) }
        }
        search.exchange(within: Self.exchangeDistanceMax)
        return search.best
    }

    private func order(first: Int?, last: Int) -> [Int] {
        let middle = workers.indices.filter { $0 != first && $0 != last }
        return (first == last ? [] : first.map { [$0] } ?? []) + middle + [last]
    }
}

/// Remembers the best order of those tried, and how many more may be.
private struct OrderSearch {
    let planner: Planner
    var left: Int
    private(set) var best: (time: Double, order: [Int])?

    init(planner: Planner, left: Int) {
        self.planner = planner
        self.left = left
    }

    /// Whether it is better than all before. One look tells most that are not.
    @discardableResult
    mutating func attempt(_ order: [Int]) -> Bool {
        guard left > 0 else { return false }
        left -= 1
        let ordered = planner.with(order)
        if let best, ordered.longestTime(within: best.time * (1 - 1e-9)) == nil { return false }
        guard let time = ordered.shortestLongestTime() else { return false }
        if let best, best.time <= time { return false }
        best = (time, order)
        return true
    }

    /// Exchanges two workers at most `distance` places apart, again from the start after each gain.
    mutating func exchange(within distance: Int) {
        var improved = best != nil
        while improved, left > 0 {
            improved = false
            guard let order = best?.order else { return }
            for place in order.indices {
                for other in place + 1..<max(place + 1, min(order.count, place + distance)) where left > 0 {
                    var changed = order
                    changed.swapAt(place, other)
                    if attempt(changed) { improved = true }
                }
            }
        }
    }
}
