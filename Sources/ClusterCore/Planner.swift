/// Cuts a model's layers into stages: a pure function of the model, the workers and the load that the deployment is meant for.
///
/// The plan has the smallest possible longest time of all cuts in all orders of the workers; times are those of a decode step (`StageCost`)
/// and of a hop between stages, which overlaps computing. Among those, it uses the most workers, because spare workers give room for KV;
/// among those, its times are the most even (smallest sum of squares).
///
/// Stages follow the workers' keys in ascending order wherever that costs nothing: unlike the order of joining, it is the same after the
/// coordinator's restart, so a restarted cluster gets the cuts whose weights its workers still hold. Where it does cost (who is last bears the
/// head, who is first the embedding), the order is chosen too: exactly up to `exactWorkersMax` (`PlannerOrder.swift`), beyond by a search whose
/// answer is held against a bound that no plan can be below (`PlannerBound.swift`).
package struct Planner: Sendable {
    /// What counts of a worker.
    package struct Candidate: Hashable, Sendable {
        package var key: PeerKey
        package var memoryBytes: UInt64
        package var readBytesPerSecond: Double
        package var opsPerSecond: Double
        package var floatOpsPerSecond: Double
        /// What its stages take over what was predicted; 1 when nothing was measured.
        package var correction: Double
        /// The same by the rows of a step, beside that.
        package var rowCosts = RowCosts()
        /// Workers of the same machine share its memory's bandwidth; 0: unknown, a machine of its own.
        package var machine: UInt64 = 0
        /// What weights may take of the memory, and how fast the rest is read from disk with every step; 0 where nothing is streamed.
        package private(set) var weightsMemoryBytes: UInt64 = 0
        package private(set) var diskBytesPerSecond = 0.0

        /// Its stages may be larger than their memory.
        package mutating func streams(beyond bytes: UInt64, bytesPerSecond: Double) {
            guard bytes > 0 else { return }
            (weightsMemoryBytes, diskBytesPerSecond) = (bytes, Self.usable(bytesPerSecond))
        }

        /// What a prediction for a step of so many rows is multiplied by.
        package func factor(rows: Int) -> Double { correction * rowCosts.factor(rows: rows) }

        /// A worker's measurements are a peer's word: what is not a usable rate becomes one.
        ///
        /// - Parameter floatOpsPerSecond: 0 when the worker doesn't say.
        package init(
            key: PeerKey, memoryBytes: UInt64, readBytesPerSecond: Double, opsPerSecond: Double = 1e15, floatOpsPerSecond: Double = 0,
            correction: Double = 1
        ) {
            self.key = key
            self.memoryBytes = memoryBytes
            self.readBytesPerSecond = Self.usable(readBytesPerSecond)
            self.opsPerSecond = Self.usable(opsPerSecond)
            self.floatOpsPerSecond = floatOpsPerSecond > 0 ? Self.usable(floatOpsPerSecond) : self.opsPerSecond * Self.floatRatePerInt8Rate
            self.correction = correction.isFinite ? min(max(correction, SpeedCorrection.least), SpeedCorrection.most) : 1
        }

        /// AVX-512 has a peak of 118 GFLOP/s a core where products of 4-bit weights reach 352 Gop/s.
        private static let floatRatePerInt8Rate = 0.33

        private static func usable(_ rate: Double) -> Double { rate.isFinite ? min(max(rate, 1), 1e15) : 1 }
    }

    /// A plan and how good it is.
    package struct Solution: Hashable, Sendable {
        package var plan: Plan
        /// Of all stages and hops, the one that takes longest.
        package var longestSeconds: Double
        /// No plan over these workers can have a shorter longest time; equal to that of this plan when it is known to be the best.
        package var boundSeconds: Double

        /// By how much a better plan could be faster at most: 0 when there is none.
        package var gapMax: Double { boundSeconds > 0 ? max(0, longestSeconds / boundSeconds - 1) : 0 }
    }

    let cost: StageCost
    /// In the order of their stages.
    let workers: [Candidate]
    private let kvBlocksMin: Int
    private let kvBlocksMax: Int
    /// A plan of more than one stage is never faster than its hops.
    let hopSeconds: Double
    /// How many orders are looked at where not all can be.
    let ordersTriedMax: Int

    var layerCount: Int { cost.model.layerBytes.count }

    /// - Parameters:
    ///   - contextTokens: the KV memory must hold at least one sequence of so many positions.
    ///   - kvBlocksMax: KV memory beyond so many blocks stays free.
    ///   - demand: the steps that the deployment is meant for.
    /// - Returns: a plan over some of `workers`, or `noCapacity` with what is missing.
    package static func plan(
        model: ModelProfile, workers: [Candidate], contextTokens: Int, kvBlocksMax: Int, demand: PlanDemand = PlanDemand()
    ) -> Result<Plan, Failure> {
        solve(model: model, workers: workers, contextTokens: contextTokens, kvBlocksMax: kvBlocksMax, demand: demand).map(\.plan)
    }

    /// The same, with what is known of the answer. It takes some milliseconds for the most workers that are planned exactly; with more, fewer
    /// orders make a quicker and maybe worse answer.
    package static func solve(
        model: ModelProfile, workers: [Candidate], contextTokens: Int, kvBlocksMax: Int, demand: PlanDemand = PlanDemand(),
        ordersTriedMax: Int = Planner.ordersTriedMax
    ) -> Result<Solution, Failure> {
        precondition(!model.layerBytes.isEmpty && contextTokens > 0, "a model has layers and a context")
        let byKey = workers.sorted { $0.key < $1.key }
        let planner = Planner(
            cost: StageCost(model: model, demand: demand), workers: byKey, contextTokens: contextTokens, kvBlocksMax: kvBlocksMax,
            ordersTriedMax: ordersTriedMax)
        let inOrderOfKeys = planner.shortestLongestTime()
        let ordered = planner.betterOrder(than: inOrderOfKeys ?? .infinity).map(planner.with) ?? planner
        guard let longest = ordered.shortestLongestTime() else { return .failure(planner.shortfall()) }
        let bound = workers.count > exactWorkersMax ? min(planner.boundSeconds(), longest) : longest
        return .success(Solution(plan: ordered.evenPlan(within: longest), longestSeconds: longest, boundSeconds: bound))
    }

    /// For questions about the search itself.
    init(_ workers: [Candidate], of model: ModelProfile, _ contextTokens: Int, _ demand: PlanDemand) {
        self.init(
            cost: StageCost(model: model, demand: demand), workers: workers.sorted { $0.key < $1.key }, contextTokens: contextTokens,
            kvBlocksMax: 0, ordersTriedMax: Self.ordersTriedMax)
    }

    init(cost: StageCost, workers: [Candidate], contextTokens: Int, kvBlocksMax: Int, ordersTriedMax: Int) {
        self.cost = cost
        self.workers = workers
        kvBlocksMin = (contextTokens + Limits.positionsPerBlock - 1) / Limits.positionsPerBlock
        self.kvBlocksMax = max(kvBlocksMax, kvBlocksMin)
        self.ordersTriedMax = ordersTriedMax
        hopSeconds = cost.wireSeconds
    }

    /// The same problem with the workers in another order.
    func with(_ order: [Int]) -> Planner {
        Planner(
            cost: cost, workers: order.map { workers[$0] }, contextTokens: kvBlocksMin * Limits.positionsPerBlock, kvBlocksMax: kvBlocksMax,
            ordersTriedMax: ordersTriedMax)
    }

    // MARK: - The shortest longest time

    /// `nil` when no cut fits the workers' memory.
    func shortestLongestTime() -> Double? { Self.shortest { longestTime(within: $0) } }

    /// The smallest time for which `reached` finds a plan; it tells the time of the plan that it finds within a limit.
    static func shortest(_ longestTime: (_ limit: Double) -> Double?) -> Double? {
        guard var reached = longestTime(.infinity) else { return nil }
        var missed = 0.0
        while reached - missed > reached * 1e-12 {
            let middle = missed + (reached - missed) / 2
            guard middle > missed, middle < reached else { break }
            if let better = longestTime(middle) { reached = better } else { missed = middle }
        }
        return reached
    }

    /// The longest stage time of some plan in which none is longer than `limit`.
    ///
    /// Each worker in turn takes as many layers as it can. That is never wrong: a worker that starts later has a subset of the layers left,
    /// and an embedding only ever weighs on the first that takes any.
    func longestTime(within limit: Double) -> Double? {
        guard hopSeconds <= limit else { return shortestAlone(within: limit) }
        var longest = 0.0
        var covered = 0
        for worker in workers {
            let lastStart = min(covered, layerCount - 1)
            if fits(worker, lastStart..<layerCount, limit: limit) {
                // Earlier stages only shrink when the last one takes a layer back from them.
                return max(longest, time(worker, lastStart..<layerCount), lastStart > 0 ? hopSeconds : 0)
            }
            let end = furthest(worker, from: covered, limit: limit)
            if end > covered { longest = max(longest, time(worker, covered..<end, last: false)) }
            covered = end
        }
        return nil
    }

    /// Where the hops take too long, one worker does it all.
    private func shortestAlone(within limit: Double) -> Double? {
        workers.filter { fits($0, 0..<layerCount, limit: limit) }.map { time($0, 0..<layerCount) }.min()
    }

    /// The largest `end` such that `worker` can have `start..<end` as a stage that is not the last. `start` when there is none.
    func furthest(_ worker: Candidate, from start: Int, limit: Double) -> Int {
        var (fitting, tooFar) = (start, layerCount + 1)
        while tooFar - fitting > 1 {
            let middle = (fitting + tooFar) / 2
            if fits(worker, start..<middle, limit: limit, last: false) { fitting = middle } else { tooFar = middle }
        }
        return fitting
    }

    /// `furthest` from every layer on: the ends only grow, so one walk finds them all.
    func reaches(_ worker: Candidate, limit: Double) -> [Int] {
        var end = 0
        return (0...layerCount).map { start in
            end = max(end, start)
            while end < layerCount, fits(worker, start..<end + 1, limit: limit, last: false) { end += 1 }
            return end
        }
    }

    // MARK: - The most even plan

    private struct Choice {
        var used: Int
        var sumOfSquares: Double
        /// Where this worker's layers start; equal to the state's own count of layers when it has none.
        var start: Int

        func isBetter(than other: Choice?) -> Bool {
            guard let other else { return true }
            return used != other.used ? used > other.used : sumOfSquares < other.sumOfSquares
        }
    }

    private func evenPlan(within limit: Double) -> Plan {
        let mayHop = hopSeconds <= limit
        // best[i][j]: the first i workers have layers 0..<j between them.
        var best: [[Choice?]] = [[Choice?](repeating: nil, count: layerCount + 1)]
        best[0][0] = Choice(used: 0, sumOfSquares: 0, start: 0)
        var final: (worker: Int, choice: Choice)?
        for (index, worker) in workers.enumerated() {
            var row = best[index]
            for end in row.indices { row[end]?.start = end }
            for start in 0..<layerCount {
                guard let before = best[index][start] else { continue }
                for end in start + 1..<layerCount where mayHop {
                    guard fits(worker, start..<end, limit: limit, last: false) else { break }
                    let choice = extended(before, by: time(worker, start..<end, last: false), start: start)
                    if choice.isBetter(than: row[end]) { row[end] = choice }
                }
                guard fits(worker, start..<layerCount, limit: limit) else { continue }
                let choice = extended(before, by: time(worker, start..<layerCount), start: start)
                if choice.isBetter(than: final?.choice) { final = (index, choice) }
            }
            best.append(row)
        }
        guard let final else { preconditionFailure("a plan within the limit was found before") }
        return traced(from: final.worker, start: final.choice.start, through: best)
    }

    private func extended(_ before: Choice, by time: Double, start: Int) -> Choice {
        Choice(used: before.used + 1, sumOfSquares: before.sumOfSquares + time * time, start: start)
    }

    private func traced(from last: Int, start: Int, through best: [[Choice?]]) -> Plan {
        var stages = [StagePlan(worker: workers[last].key, layers: start..<layerCount)]
        var end = start
        for index in (0..<last).reversed() {
            guard let choice = best[index + 1][end] else { preconditionFailure("every state has a way to it") }
            if choice.start < end { stages.append(StagePlan(worker: workers[index].key, layers: choice.start..<end)) }
            end = choice.start
        }
        stages.reverse()
        return Plan(stages: stages, kvBlocks: kvBlocks(stages))
    }

    func kvBlocks(_ stages: [StagePlan]) -> Int {
        stages.reduce(kvBlocksMax) { blocks, stage in
            guard let worker = workers.first(where: { $0.key == stage.worker }) else { preconditionFailure("stages come from workers") }
            let room = worker.memoryBytes - cost.fixedBytes(worker, stage.layers, hasHead: stage.layers.upperBound == layerCount)
            let bytesPerBlock = cost.kvBytes(blocks: 1, layers: stage.layers.count)
            return bytesPerBlock == 0 ? blocks : min(blocks, Int(clamping: room / bytesPerBlock))
        }
    }

    // MARK: - Costs

    func fits(_ worker: Candidate, _ layers: Range<Int>, limit: Double, last: Bool? = nil) -> Bool {
        let last = last ?? (layers.upperBound == layerCount)
        guard layers.upperBound <= layerCount else { return false }
        return cost.fixedBytes(worker, layers, hasHead: last) + kvBytesMin(layers) <= worker.memoryBytes && time(worker, layers, last: last) <= limit
    }

    func time(_ worker: Candidate, _ layers: Range<Int>, last: Bool? = nil) -> Double {
        cost.decodeSeconds(worker, layers, hasHead: last ?? (layers.upperBound == layerCount))
    }

    private func kvBytesMin(_ layers: Range<Int>) -> UInt64 { cost.kvBytes(blocks: kvBlocksMin, layers: layers.count) }

    // MARK: - What is missing

    private func shortfall() -> Failure {
        let needed = cost.fixedBytes(0..<layerCount, hasHead: true) + kvBytesMin(0..<layerCount)
        let offered = workers.reduce(UInt64(0)) { sum, worker in
            let (next, overflowed) = sum.addingReportingOverflow(worker.memoryBytes)
            return overflowed ? .max : next
        }
        let what = "the model needs \(ByteCount(needed)) (weights, and KV for \(kvBlocksMin * Limits.positionsPerBlock) tokens), "
            + "\(workers.count) workers offer \(ByteCount(offered))"
        if workers.isEmpty { return Failure(.noCapacity, "the model needs \(ByteCount(needed)) and there is no worker: start one") }
        if offered < needed {
            return Failure(.noCapacity, what + ": \(ByteCount(needed - offered)) are missing; add workers, memory, or lower the context")
        }
        // Together they would do; the cut is what fails. Add up what the workers cannot hold when each takes all it can.
        let covered = workers.reduce(0) { furthest($1, from: $0, limit: .infinity) }
        let start = min(covered, layerCount - 1)
        let rest = cost.fixedBytes(start..<layerCount, hasHead: true) + kvBytesMin(start..<layerCount)
        return Failure(
            .noCapacity,
            what + ", but layers cannot be split: the last piece (layers \(start)..<\(layerCount) and the head) needs \(ByteCount(rest)) "
                + "on one worker; give a worker more memory or lower the context")
    }
}
