import Testing

@testable import ClusterCore

/// Tenants share the cluster by their weights, nobody waits behind another's queue, and every sequence ends.
@Suite struct FairSharesTests {
    private static let many = Tenant(1)
    private static let single = Tenant(2)

    private static func tokens(_ seed: UInt64, _ count: Int) -> [TokenID] { (0..<count).map { TokenID(mixed(seed, UInt64($0)) % 1_000) } }

    /// With places or blocks or both taken by one tenant's long generations, another's request is not even held up until one of them ends.
    @Test func aSingleRequestDoesNotWaitForAnothersFiveHundred() {
        for seed in UInt64(0)..<40 {
            var numbers = SeededNumbers(seed: seed)
            let places = Int.random(in: 2...12, using: &numbers)
            let blocks = numbers.oneIn(2) ? Int.random(in: 20...40, using: &numbers) : 1_000
            var run = ScheduledRun(
                blocks: blocks, stages: Int.random(in: 1...3, using: &numbers), running: places, sharesPrefixes: numbers.oneIn(2), context: 400)
            for id in 1...500 {
                let prompt = Self.tokens(numbers.next(), Int.random(in: 1...100, using: &numbers))
                run.add(id: UInt64(id), prompt: prompt, maxTokens: 200, tenant: Self.many)
            }
            for _ in 0..<Int.random(in: 20...150, using: &numbers) { run.step() }
            let ended = run.ends.count
            run.add(id: 999, prompt: Self.tokens(7, Int.random(in: 1...100, using: &numbers)), maxTokens: 5, tenant: Self.single)
            // Rows of a sequence that gives way may be in flight; a wait for an end would be 200 steps.
            for _ in 0..<8 { run.step() }
            #expect(run.scheduler.running.contains(SequenceID(999)) || run.ends.contains(999), "seed \(seed)")
            for _ in 0..<60 where !run.ends.contains(999) { run.step() }
            #expect(run.ends.contains(999) && run.ends.count - ended <= places, "seed \(seed): \(run.ends.count - ended) ended before it")
            #expect(run.findings == [], "seed \(seed)")
        }
    }

    /// While all have work waiting, tokens served over weight differ by no more than what one full running set is charged for.
    @Test func servedTokensFollowTheWeights() {
        for seed in UInt64(0)..<4 {
            var numbers = SeededNumbers(seed: seed)
            let weights = [1, 2, Int.random(in: 1...4, using: &numbers)]
            let places = Int.random(in: 4...10, using: &numbers)
            var run = ScheduledRun(blocks: 1_000, stages: 2, prefillRows: 128, running: places, sharesPrefixes: false)
            var costs: [UInt64: (tenant: Int, tokens: Int)] = [:]
            for id in UInt64(0)..<600 {
                let tenant = Int(id % 3)
                let (prompt, answer) = (Int.random(in: 1...60, using: &numbers), Int.random(in: 1...60, using: &numbers))
                costs[id + 1] = (tenant, prompt + answer)
                run.add(
                    id: id + 1, prompt: Self.tokens(numbers.next(), prompt), maxTokens: Int32(answer), tenant: Tenant(UInt64(tenant + 1)),
                    weight: weights[tenant])
            }
            while run.scheduler.waiting.status.count(where: { $0.waiting > 0 }) == 3 { run.step() }
            var served = [0.0, 0.0, 0.0]
            for id in run.ends { served[costs[id]!.tenant] += Double(costs[id]!.tokens) / Double(weights[costs[id]!.tenant]) }
            let bound = Double(places * 120)
            #expect(served.max()! - served.min()! <= bound, "seed \(seed), weights \(weights): \(served)")
            // The one with the largest part ran out first, and much was served before.
            #expect(served.min()! > bound, "seed \(seed): the comparison is of much more than its bound")
            #expect(run.findings == [], "seed \(seed)")
        }
    }

    /// New tenants without end, each with one request that goes before the last of an old one: that ends all the same.
    @Test(arguments: [4, 8, 1_000]) func newTenantsDoNotStarveAnOldOne(blocks: Int) {
        var run = ScheduledRun(blocks: blocks, stages: 1, running: 3, sharesPrefixes: false, context: 128)
        for id in 1...4 { run.add(id: UInt64(id), prompt: Self.tokens(UInt64(id), 40), maxTokens: 60, tenant: Self.many) }
        var next: UInt64 = 100
        while !Set(1...4).isSubset(of: run.ends), next < 3_000 {
            while run.scheduler.openCount < 9 {
                run.add(id: next, prompt: Self.tokens(next, 30), maxTokens: 12, tenant: Tenant(next))
                next += 1
            }
            run.step()
        }
        #expect(Set(1...4).isSubset(of: run.ends), "\(next) newcomers")
        #expect(next > 110 && run.findings == [])
    }

    /// Within a tenant, priority decides; but who came first is overtaken a bounded number of times.
    @Test func lowPriorityIsNotOvertakenForEver() {
        var run = ScheduledRun(blocks: 100, stages: 1, running: 1)
        run.add(id: 1, prompt: [1], maxTokens: 1, priority: 0)
        run.add(id: 2, prompt: [2], maxTokens: 1, priority: 9)
        run.add(id: 3, prompt: [3], maxTokens: 1, priority: 5)
        run.add(id: 4, prompt: [4], maxTokens: 1, priority: -5)
        var next: UInt64 = 10
        while !run.ends.contains(3), next < 200 {
            run.add(id: next, prompt: [TokenID(next)], maxTokens: 1, priority: 1)
            next += 1
            run.step()
        }
        #expect(run.ends.prefix(2) == [4, 1])
        // The second came before the third, so it is the one that is let through first.
        let second = run.ends.firstIndex(of: 2)!
        #expect(second <= 2 + Limits.overtakesMax && run.ends.firstIndex(of: 3)! <= second + 1 + Limits.overtakesMax)
        #expect(run.findings == [])
    }

    /// What is computed again for the sake of places stays within its part of the work, however often a tenant comes back.
    @Test func displacingCostsABoundedPart() {
        var run = ScheduledRun(blocks: 60, stages: 1, running: 4, sharesPrefixes: false, context: 300)
        for id in 1...40 { run.add(id: UInt64(id), prompt: Self.tokens(UInt64(id), 100), maxTokens: 150, tenant: Self.many) }
        var next: UInt64 = 100
        var rows = 0
        for _ in 0..<1_500 {
            if !run.open.contains(where: { $0 >= 100 }) {
                run.add(id: next, prompt: [5, 6], maxTokens: 2, tenant: Self.single)
                next += 1
            }
            rows += run.step()
        }
        #expect(run.scheduler.displacements > 3 && next > 120, "\(run.scheduler.displacements) displacements for \(next - 100) requests")
        #expect(Double(run.rowsRepeated) <= Limits.displacedShare * Double(rows) + 300, "\(run.rowsRepeated) of \(rows)")
        #expect(run.ends.contains { $0 <= 40 } && run.findings == [])
    }

    /// Two tenants that do not fit beside each other: neither takes the other's blocks back and forth.
    @Test func shortageIsNoPingPong() {
        for seed in UInt64(0)..<60 {
            var numbers = SeededNumbers(seed: seed)
            var run = ScheduledRun(blocks: Int.random(in: 10...13, using: &numbers), stages: 2, running: 6, sharesPrefixes: false, context: 300)
            var needed = 0
            for id in UInt64(1)...24 {
                let (prompt, answer) = (Int.random(in: 1...150, using: &numbers), Int.random(in: 1...140, using: &numbers))
                needed += prompt + answer
                run.add(
                    id: id, prompt: Self.tokens(id, prompt), maxTokens: Int32(answer), tenant: Tenant(id % 4), weight: Int(id % 4) + 1)
            }
            var rows = 0
            for _ in 0..<20_000 where !run.open.isEmpty { rows += run.step() }
            #expect(run.open.isEmpty && run.findings == [], "seed \(seed)")
            #expect(rows < 3 * needed, "seed \(seed): \(rows) rows for \(needed)")
        }
    }

    // MARK: - Doors and forecasts

    @Test func theLastPlacesAreKeptForOthers() {
        func admits(_ asked: Int, open: Int, ofTenant: Int, max: Int = 64) -> Bool {
            SharedPlaces(max: max).admits(asked, open: open, ofTenant: ofTenant)
        }
        #expect(admits(56, open: 0, ofTenant: 0))
        #expect(!admits(1, open: 56, ofTenant: 56))
        #expect(admits(1, open: 56, ofTenant: 0))
        #expect(admits(8, open: 56, ofTenant: 0))
        #expect(!admits(9, open: 56, ofTenant: 0))
        #expect(!admits(1, open: 57, ofTenant: 1))
        #expect(!admits(1, open: 64, ofTenant: 0))
        #expect(admits(2, open: 0, ofTenant: 0, max: 2))
        #expect(!admits(1, open: 2, ofTenant: 1, max: 2))
    }

    private static func sequence(_ change: (inout SamplingParameters) -> Void) -> GeneratedSequence {
        var sampling = SamplingParameters()
        sampling.maxTokens = 1_000
        change(&sampling)
        let request = GenerationRequest(id: RequestID(high: 0, low: 1), prompt: [1, 2, 3], sampling: sampling)
        return GeneratedSequence(id: SequenceID(1), request: request, choice: 0, arrival: 1)
    }

    @Test func theForecastIsWorkOverThroughput() {
        var forecast = WaitForecast()
        let work = WaitForecast.Work(promptRows: 10, tokens: 3)
        #expect(forecast.milliseconds(for: work) == 400)
        func step(rows: Int, sampling: Bool, sentMs: UInt64) -> StepInFlight {
            let segment = Segment(sequence: SequenceID(1), start: 0, tokens: [TokenID](repeating: 1, count: rows), newBlocks: [], samples: sampling)
            return StepInFlight(
                Step(epoch: Epoch(1), number: StepNumber(1), segments: [segment]), sentAt: Instant(nanoseconds: sentMs * 1_000_000))
        }
        forecast.note(step(rows: 1, sampling: true, sentMs: 0), tokens: 1, at: Instant(nanoseconds: 40_000_000))
        // Sent while the first was computed: counts from its result.
        forecast.note(step(rows: 50, sampling: false, sentMs: 10), tokens: 0, at: Instant(nanoseconds: 140_000_000))
        #expect(forecast.milliseconds(for: work) == 140)
        #expect(forecast.milliseconds(for: WaitForecast.Work(promptRows: .max, tokens: .max)) == Limits.expectedWaitMsMax)

        #expect(forecast.expectedTokens(of: Self.sequence { _ in }, contextTokens: 4_096) == 128)
        #expect(forecast.expectedTokens(of: Self.sequence { $0.ignoreEndTokens = true }, contextTokens: 4_096) == 1_000)
        #expect(forecast.expectedTokens(of: Self.sequence { $0.maxTokens = 9 }, contextTokens: 4_096) == 9)
        #expect(forecast.expectedTokens(of: Self.sequence { $0.minTokens = 300 }, contextTokens: 4_096) == 300)
        #expect(forecast.expectedTokens(of: Self.sequence { _ in }, contextTokens: 10) == 7)
        forecast.noteAnswer(tokens: 20)
        #expect(forecast.expectedTokens(of: Self.sequence { _ in }, contextTokens: 4_096) == 20)
        for (wait, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (119_001, 120), (120_001, 120), (UInt64.max, 120)] as [(UInt64, Int)] {
            #expect(WaitForecast.retryAfterSeconds(waitMs: wait) == seconds)
        }
    }

    @Test func aNewTenantIsToldAShorterWait() {
        var run = ScheduledRun(blocks: 1_000, stages: 1, running: 2)
        #expect(run.scheduler.expectedWaitMs() == 0)
        for id in 1...10 { run.add(id: UInt64(id), prompt: [1], maxTokens: 10, tenant: Self.many) }
        let all = run.scheduler.expectedWaitMs()
        #expect(all == 10_100)
        #expect(run.scheduler.expectedWaitMs(of: Self.many) == all)
        #expect(run.scheduler.expectedWaitMs(of: Self.single) == 0)
        run.add(id: 20, prompt: [1], maxTokens: 10, tenant: Self.single, weight: 4)
        let own = run.scheduler.expectedWaitMs(of: Self.single)
        #expect(own == 1_262)
        #expect(
            run.scheduler.waiting.status == [
                TenantStatus(tenant: Self.many, weight: 1, waiting: 10, running: 0),
                TenantStatus(tenant: Self.single, weight: 4, waiting: 1, running: 0),
            ])
    }

    /// The coordinator says with its refusal when to come back.
    @Test func aFullQueueSaysWhenToComeBack() throws {
        var configuration = CoordinatorConfiguration(session: 1, model: ToyModel().profile, modelPath: "/m", expectedWorkers: 1)
        configuration.requestsWaitingMax = 2
        configuration.sequencesRunningMax = 2
        var coordinator = Coordinator(configuration: configuration, at: Instant(nanoseconds: 0))
        let gateway = PeerKey(bytes: [UInt8](repeating: 9, count: 32))!
        var effects: [Coordinator.Effect] = []
        func hear(_ message: ToCoordinator) {
            effects = []
            coordinator.handle(.received(message, from: gateway, role: .gateway), at: Instant(nanoseconds: 1), into: &effects)
        }
        hear(.gatewayHello(GatewayHello(version: .current, session: 1, name: "g")))
        var failures: [Failure] = []
        for id in UInt64(1)...6 {
            var sampling = SamplingParameters()
            sampling.maxTokens = 5
            hear(.submit(GenerationRequest(id: RequestID(high: 0, low: id), prompt: [1, 2], sampling: sampling, tenant: Tenant(1))))
            for case .send(.failed(_, let failure), _) in effects { failures.append(failure) }
        }
        // Four of two positions and five tokens each, before anything was measured.
        #expect(failures.map(\.code) == [.queueFull, .queueFull] && failures[0].retryAfterSeconds == 3)
        hear(.heartbeat(Heartbeat(epoch: Epoch(0), lastStep: StepNumber(0), stepsQueued: 0)))
        let reply = effects.compactMap { effect in if case .send(.heartbeatReply(let reply), _) = effect { reply } else { nil } }
        #expect(reply.map(\.expectedWaitMs) == [2_080])
    }
}
