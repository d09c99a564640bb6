import Testing

@testable import ClusterCore

/// A tenant with many streams beside one with few: steps have their times here, 4 + r milliseconds for r rows.
@Suite struct TurnsTests {
    private static let many = Tenant(1)
    private static let single = Tenant(2)

    private static func milliseconds(_ rows: Int) -> Int { 4 + rows }

    private static func run(stretch: Double, stages: Int = 1, blocks: Int = 4_000, running: Int = 64) -> ScheduledRun {
        ScheduledRun(
            blocks: blocks, stages: stages, prefillRows: 256, running: running, sharesPrefixes: false, stretch: stretch,
            timing: { UInt64(1_000_000 * milliseconds($0)) })
    }

    private static func prompt(_ seed: UInt64, _ count: Int = 20) -> [TokenID] { (0..<count).map { TokenID(mixed(seed, UInt64($0)) % 1_000) } }

    /// With one stage each call forms a step and takes it. Milliseconds until the request has its first token, and until it is over.
    private static func taken(by id: UInt64, in run: inout ScheduledRun) -> (first: Int, end: Int) {
        var (now, first) = (0, 0)
        let length = run.answers[id]!.count
        while !run.ends.contains(id), now < 1_000_000 {
            now += milliseconds(run.step())
            if first == 0, run.answers[id]!.count > length { first = now }
        }
        return (first, now)
    }

    private static func crowded(stretch: Double) -> (idle: (first: Int, end: Int), beside: (first: Int, end: Int), run: ScheduledRun) {
        var run = run(stretch: stretch)
        run.add(id: 1_000, prompt: prompt(1_000), maxTokens: 20, tenant: single)
        let idle = taken(by: 1_000, in: &run)
        for id in 1...120 { run.add(id: UInt64(id), prompt: prompt(UInt64(id)), maxTokens: 200, tenant: many) }
        for _ in 0..<100 { run.step() }
        run.add(id: 1_001, prompt: prompt(1_001), maxTokens: 20, tenant: single)
        return (idle, taken(by: 1_001, in: &run), run)
    }

    @Test func aSingleStreamIsSlowedDownByItsShareOnly() {
        let fair = Self.crowded(stretch: 4)
        #expect(fair.beside.first <= 5 * fair.idle.first && fair.beside.end <= 5 * fair.idle.end, "\(fair.beside) beside, \(fair.idle) alone")
        let greedy = Self.crowded(stretch: 1_000)
        #expect(2 * greedy.beside.end > 3 * fair.beside.end, "the comparison is worth something: \(greedy.beside)")
        #expect(fair.run.findings == [] && greedy.run.findings == [])
    }

    /// While the single stream runs, the others lose no more than the curve says of smaller steps.
    @Test func theOthersGoOn() {
        var fair = Self.crowded(stretch: 4).run
        func rate(_ run: inout ScheduledRun, _ steps: Int) -> Double {
            var (rows, time) = (0, 0)
            for _ in 0..<steps {
                let sent = run.step()
                rows += sent
                time += Self.milliseconds(sent)
            }
            return Double(rows) / Double(time)
        }
        let before = rate(&fair, 60)
        fair.add(id: 1_002, prompt: Self.prompt(7), maxTokens: 150, tenant: Self.single)
        let during = rate(&fair, 60)
        #expect(!fair.ends.contains(1_002), "it ran all the time")
        #expect(before > 0.8 && during > 0.75 * before, "\(before) and \(during) rows a millisecond")
        #expect(fair.findings == [])
    }

    /// Tenants of all kinds, prompts of all lengths, weights and priorities, shortage of blocks: everybody ends.
    @Test func everybodyEnds() {
        for seed in UInt64(0)..<25 {
            var numbers = SeededNumbers(seed: seed)
            var run = Self.run(
                stretch: Double(Int.random(in: 1...8, using: &numbers)), stages: Int.random(in: 1...3, using: &numbers),
                blocks: numbers.oneIn(3) ? 70 : 4_000, running: Int.random(in: 3...40, using: &numbers))
            for id in UInt64(1)...60 {
                let tenant = numbers.oneIn(3) ? Int.random(in: 2...6, using: &numbers) : 1
                run.add(
                    id: id, prompt: Self.prompt(id, Int.random(in: 1...300, using: &numbers)), maxTokens: Int32.random(in: 1...60, using: &numbers),
                    priority: Int32.random(in: 0...2, using: &numbers), tenant: Tenant(UInt64(tenant)), weight: 1 + tenant % 3)
                for _ in 0..<Int.random(in: 0...6, using: &numbers) { run.step() }
            }
            run.finish()
            #expect(run.findings == [] && run.open.isEmpty, "seed \(seed)")
        }
    }

    @Test func aTurnHasRoomForEveryTenant() {
        let turn = Scheduler.Turn(rowsMax: 20, newcomerRows: 8, tenantsDecoding: 2, hasOtherPrompts: false)
        #expect(turn.decodeRows(100) == 12 && turn.decodeRows(5) == 5)
        #expect(turn.promptRows(256, beside: 12) == 8 && turn.promptRows(4, beside: 12) == 4)
        let mixed = Scheduler.Turn(rowsMax: 20, newcomerRows: 0, tenantsDecoding: 2, hasOtherPrompts: true)
        #expect(mixed.decodeRows(100) == 10 && mixed.promptRows(256, beside: 10) == 10)
        let narrow = Scheduler.Turn(rowsMax: 3, newcomerRows: 30, tenantsDecoding: 3, hasOtherPrompts: true)
        #expect(narrow.decodeRows(100) == 3 && narrow.promptRows(256, beside: 3) == 30)
        let full = Scheduler.Turn(rowsMax: 3, newcomerRows: 0, tenantsDecoding: 3, hasOtherPrompts: true)
        #expect(full.promptRows(256, beside: 3) == 1, "a prompt goes on where no row fits")
    }
}
