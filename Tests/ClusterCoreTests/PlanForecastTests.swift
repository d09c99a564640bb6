import Testing

@testable import ClusterCore

@Suite struct PlanForecastTests {
    private static func model(layers: Int = 8, hidden: Int = 16) -> ModelProfile {
        ModelProfile(
            digest: ModelDigest(bytes: [UInt8](repeating: 1, count: 32))!, name: "m", layerBytes: [UInt64](repeating: 900_000_000, count: layers),
            embeddingBytes: 0, headBytes: 0, headIsTied: false, hidden: hidden, vocabulary: 100, contextTokens: 4_096, kvBytesPerTokenPerLayer: 0,
            endTokens: [])
    }

    /// A second for each layer of 900 MB.
    private static func worker(_ index: Int, memory: UInt64 = 1 << 40, times: Double = 1) -> Planner.Candidate {
        Planner.Candidate(key: ToyCluster.key(index), memoryBytes: memory, readBytesPerSecond: 1e9 * times)
    }

    private static func plan(_ ends: [Int]) -> Plan {
        Plan(stages: zip([0] + ends, ends).enumerated().map { .init(worker: ToyCluster.key($0), layers: $1.0..<$1.1) }, kvBlocks: 4)
    }

    private static var demand: PlanDemand {
        var demand = PlanDemand()
        demand.linkLatencySeconds = 0
        return demand
    }

    private static func isClose(_ a: Double, _ b: Double) -> Bool { abs(a - b) <= 1e-3 * max(abs(a), abs(b)) }

    @Test func streamsShareThePipeline() {
        let forecast = PlanForecast(plan: Self.plan([4, 8]), model: Self.model(), workers: [Self.worker(1), Self.worker(0)], demand: Self.demand)
        #expect(Self.isClose(forecast.longestSeconds, 4))
        // One stream is in one stage at a time, 8 s for a token; two take turns.
        #expect(Self.isClose(forecast.throughput(streams: 1).tokensPerSecond, 1 / 8.0))
        let two = forecast.throughput(streams: 2)
        #expect(Self.isClose(two.tokensPerSecond, 2 / 8.0) && two.rows == (two.groups == 2 ? 1 : 2))
        // Bytes only: rows cost nothing.
        #expect(Self.isClose(forecast.throughput(streams: 16).tokensPerSecond, 16 / 8.0))
        #expect(Self.isClose(forecast.intervalSeconds(.decode(rows: 1, context: 1), inFlight: 1), 8))
        #expect(Self.isClose(forecast.intervalSeconds(.decode(rows: 1, context: 1), inFlight: 2), 4))
    }

    @Test func chunksFollowEachOther() {
        let forecast = PlanForecast(plan: Self.plan([4, 8]), model: Self.model(), workers: [Self.worker(0), Self.worker(1)], demand: Self.demand)
        // 16 chunks: the first goes through both stages, the others come out every 4 s.
        #expect(Self.isClose(forecast.firstTokenSeconds(promptTokens: 4_096), 8 + 15 * 4))
        #expect(Self.isClose(forecast.firstTokenSeconds(promptTokens: 1), 8))
        let alone = PlanForecast(plan: Self.plan([8]), model: Self.model(), workers: [Self.worker(0)], demand: Self.demand)
        #expect(Self.isClose(alone.firstTokenSeconds(promptTokens: 4_096), 16 * 8))
    }

    @Test func latencyIsPaidByOneStreamOnly() {
        var demand = Self.demand
        demand.linkLatencySeconds = 1
        let forecast = PlanForecast(plan: Self.plan([4, 8]), model: Self.model(), workers: [Self.worker(0), Self.worker(1)], demand: demand)
        #expect(Self.isClose(forecast.throughput(streams: 1).tokensPerSecond, 1 / 11.0))
        #expect(Self.isClose(forecast.longestSeconds, 4))
    }

    @Test func theBottleneckHasAReason() throws {
        let workers = [Self.worker(0), Self.worker(1, times: 4)]
        let even = PlanForecast(plan: Self.plan([4, 8]), model: Self.model(), workers: workers, demand: Self.demand)
        #expect(even.bottleneck() == .init(stage: 0, cause: .bandwidth, seconds: even.longestSeconds))

        // The fast one has room for four layers only.
        let tight = [Self.worker(0), Self.worker(1, memory: 3_700_000_000, times: 4)]
        let solution = try Planner.solve(model: Self.model(), workers: tight, contextTokens: 64, kvBlocksMax: 4, demand: Self.demand).get()
        let roomy = try Planner.solve(model: Self.model(), workers: workers, contextTokens: 64, kvBlocksMax: 4, demand: Self.demand).get()
        let forecast = PlanForecast(plan: solution.plan, model: Self.model(), workers: tight, demand: Self.demand)
        #expect(forecast.bottleneck(unbounded: roomy.longestSeconds).cause == .memory)
        #expect(Self.isClose(forecast.longestSeconds, solution.longestSeconds))

        var slow = Self.demand
        slow.linkBytesPerSecond = 1e3
        let wired = PlanForecast(plan: Self.plan([4, 8]), model: Self.model(hidden: 1_000), workers: workers, demand: slow)
        #expect(wired.bottleneck() == .init(stage: nil, cause: .wire, seconds: 32))
        // So slow a link is not used.
        let alone = try Planner.solve(model: Self.model(hidden: 1_000), workers: workers, contextTokens: 64, kvBlocksMax: 4, demand: slow).get()
        #expect(alone.plan.stages.map(\.worker) == [ToyCluster.key(1)])
        var short = slow
        short.boundary = .bf16
        #expect(short.wireSeconds(rows: 8, hidden: 1_000) * 2 == slow.wireSeconds(rows: 8, hidden: 1_000))
    }
}
