/// Cuts a model's layers into stages: a pure function of the model and the workers.
///
/// A stage's time is the bytes it reads for one decode step (its layers, on the last stage the head too) over its worker's measured
/// bandwidth. The plan has the smallest possible longest stage time of all cuts in all orders of the workers; among those, it uses the most
/// workers, because spare workers give room for KV; among those, its times are the most even (smallest sum of squares).
///
/// Stages follow the workers' keys in ascending order wherever that costs nothing: unlike the order of joining, it is the same after the
/// coordinator's restart, so a restarted cluster gets the cuts whose weights its workers still hold. Where it does cost (who is last bears the
/// head, who is first the embedding), the order is chosen too (`PlannerOrder`): exactly up to `exactWorkersMax`, beyond by trying each
/// worker as the last.
package struct Planner: Sendable {
    /// What counts of a worker.
    package struct Candidate: Hashable, Sendable {
        package var key: PeerKey
        package var memoryBytes: UInt64
        package var readBytesPerSecond: Double

        /// A worker's measurements are a peer's word: what is not a usable rate becomes one.
        package init(key: PeerKey, memoryBytes: UInt64, readBytesPerSecond: Double) {
            self.key = key
            self.memoryBytes = memoryBytes
            self.readBytesPerSecond = readBytesPerSecond.isFinite ? min(max(readBytesPerSecond, 1), 1e15) : 1
        }
    }

    private let model: ModelProfile
    /// In the order of their stages.
    let workers: [Candidate]
    private let kvBlocksMin: Int
    private let kvBlocksMax: Int
    /// `layerBytesBefore[i]`: bytes of layers 0..<i.
    private let layerBytesBefore: [UInt64]
    private let kvBlockBytesPerLayer: UInt64

    var layerCount: Int { model.layerBytes.count }

    /// - Parameters:
    ///   - contextTokens: the KV memory must hold at least one sequence of so many positions.
    ///   - kvBlocksMax: KV memory beyond so many blocks stays free.
    /// - Returns: a plan over some of `workers`, or `noCapacity` with what is missing.
    package static func plan(
        model: ModelProfile, workers: [Candidate], contextTokens: Int, kvBlocksMax: Int
    ) -> Result<Plan, Failure> {
        precondition(!model.layerBytes.isEmpty && contextTokens > 0, "a model has layers and a context")
        let byKey = workers.sorted { $0.key < $1.key }
        let planner = Planner(model: model, workers: byKey, contextTokens: contextTokens, kvBlocksMax: kvBlocksMax)
        let inOrderOfKeys = planner.shortestLongestTime()
        if let order = planner.betterOrder(than: inOrderOfKeys ?? .infinity) {
            let ordered = Planner(model: model, workers: order, contextTokens: contextTokens, kvBlocksMax: kvBlocksMax)
            if let longest = ordered.shortestLongestTime() { return .success(ordered.evenPlan(within: longest)) }
        }
        guard let longest = inOrderOfKeys else { return .failure(planner.shortfall()) }
        return .success(planner.evenPlan(within: longest))
    }

    private init(model: ModelProfile, workers: [Candidate], contextTokens: Int, kvBlocksMax: Int) {
        self.model = model
        self.workers = workers
        kvBlocksMin = (contextTokens + Limits.positionsPerBlock - 1) / Limits.positionsPerBlock
        self.kvBlocksMax = max(kvBlocksMax, kvBlocksMin)
        layerBytesBefore = model.layerBytes.reduce(into: [0]) { sums, bytes in sums.append(sums[sums.count - 1] + bytes) }
        kvBlockBytesPerLayer = model.kvBytesPerTokenPerLayer * UInt64(Limits.positionsPerBlock)
    }

    /// The same problem with the workers in another order.
    func with(_ order: [Int]) -> Planner {
        Planner(
            model: model, workers: order.map { workers[$0] }, contextTokens: kvBlocksMin * Limits.positionsPerBlock, kvBlocksMax: kvBlocksMax)
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
    private func longestTime(within limit: Double) -> Double? {
        var longest = 0.0
        var covered = 0
        for worker in workers {
            let lastStart = min(covered, layerCount - 1)
            if fits(worker, lastStart..<layerCount, limit: limit) {
                // Earlier stages only shrink when the last one takes a layer back from them.
                return max(longest, time(worker, lastStart..<layerCount))
            }
            let end = furthest(worker, from: covered, limit: limit)
            if end > covered { longest = max(longest, time(worker, covered..<end, last: false)) }
            covered = end
        }
        return nil
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
        // best[i][j]: the first i workers have layers 0..<j between them.
        var best: [[Choice?]] = [[Choice?](repeating: nil, count: layerCount + 1)]
        best[0][0] = Choice(used: 0, sumOfSquares: 0, start: 0)
        var final: (worker: Int, choice: Choice)?
        for (index, worker) in workers.enumerated() {
            var row = best[index]
            for end in row.indices { row[end]?.start = end }
            for start in 0..<layerCount {
                guard let before = best[index][start] else { continue }
                for end in start + 1..<layerCount {
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

    private func kvBlocks(_ stages: [StagePlan]) -> Int {
        stages.reduce(kvBlocksMax) { blocks, stage in
            guard let worker = workers.first(where: { $0.key == stage.worker }) else { preconditionFailure("stages come from workers") }
            let room = worker.memoryBytes - weightBytes(stage.layers, last: stage.layers.upperBound == layerCount)
            let bytesPerBlock = kvBlockBytesPerLayer * UInt64(stage.layers.count)
            return bytesPerBlock == 0 ? blocks : min(blocks, Int(clamping: room / bytesPerBlock))
        }
    }

    // MARK: - Costs

    func fits(_ worker: Candidate, _ layers: Range<Int>, limit: Double, last: Bool? = nil) -> Bool {
        let last = last ?? (layers.upperBound == layerCount)
        guard layers.upperBound <= layerCount, time(worker, layers, last: last) <= limit else { return false }
        return weightBytes(layers, last: last) + kvBytesMin(layers) <= worker.memoryBytes
    }

    func time(_ worker: Candidate, _ layers: Range<Int>, last: Bool? = nil) -> Double {
        let last = last ?? (layers.upperBound == layerCount)
        return Double(layerBytes(layers) + (last ? model.headBytes : 0)) / worker.readBytesPerSecond
    }

    private func layerBytes(_ layers: Range<Int>) -> UInt64 { layerBytesBefore[layers.upperBound] - layerBytesBefore[layers.lowerBound] }

    private func weightBytes(_ layers: Range<Int>, last: Bool) -> UInt64 {
        let first = layers.lowerBound == 0
        let headIsShared = first && last && model.headIsTied
        return layerBytes(layers) + (first ? model.embeddingBytes : 0) + (last && !headIsShared ? model.headBytes : 0)
    }

    private func kvBytesMin(_ layers: Range<Int>) -> UInt64 { kvBlockBytesPerLayer * UInt64(kvBlocksMin) * UInt64(layers.count) }

    // MARK: - What is missing

    private func shortfall() -> Failure {
        let needed = weightBytes(0..<layerCount, last: true) + kvBytesMin(0..<layerCount)
        let offered = workers.reduce(UInt64(0)) { sum, worker in
            let (next, overflowed) = sum.addingReportingOverflow(worker.memoryBytes)
            return overflowed ? .max : next
        }
        let what = "the model needs \(needed) bytes (weights, and KV for \(kvBlocksMin * Limits.positionsPerBlock) tokens), "
            + "\(workers.count) workers offer \(offered)"
        if workers.isEmpty { return Failure(.noCapacity, "the model needs \(needed) bytes and there is no worker: start one") }
        if offered < needed {
            return Failure(.noCapacity, what + ": \(needed - offered) bytes are missing; add workers, memory, or lower the context")
        }
        // Together they would do; the cut is what fails. Add up what the workers cannot hold when each takes all it can.
        let covered = workers.reduce(0) { furthest($1, from: $0, limit: .infinity) }
        let start = min(covered, layerCount - 1)
        let rest = weightBytes(start..<layerCount, last: true) + kvBytesMin(start..<layerCount)
        return Failure(
            .noCapacity,
            what + ", but layers cannot be split: the last piece (layers \(start)..<\(layerCount) and the head) needs \(rest) bytes "
                + "on one worker; give a worker more memory or lower the context")
    }
}
