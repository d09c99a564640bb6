import Testing

@testable import ClusterCore

@Suite struct SchedulerTests {
    private static func scheduler(blocks: Int = 100, inFlight: Int = 2, prefillRows: Int = 64, running: Int = 16, context: Int = 512) -> Scheduler {
        var scheduler = Scheduler(
            settings: .init(
                stepRowsMax: 128, prefillRowsPerStep: prefillRows, sequencesRunningMax: running, contextTokens: context, vocabulary: 1_000,
                endTokens: [0]),
            clock: StepClock(floorMs: 10_000, unmeasuredMs: 60_000, factor: 8))
        scheduler.begin(epoch: Epoch(1), kvBlocks: blocks, stages: inFlight, stepsInFlightMax: inFlight)
        return scheduler
    }

    private static func sequence(_ id: UInt64, prompt: Int, maxTokens: Int32 = 100, priority: Int32 = 0) -> GeneratedSequence {
        var sampling = SamplingParameters()
        sampling.maxTokens = maxTokens
        let request = GenerationRequest(
            id: RequestID(high: 0, low: id), prompt: [TokenID](repeating: 5, count: prompt), sampling: sampling, priority: priority)
        return GeneratedSequence(id: SequenceID(id), request: request, choice: 0, arrival: id)
    }

    private let now = Instant(nanoseconds: 0)

    private func next(_ scheduler: inout Scheduler) throws -> Step {
        let step = scheduler.nextStep(at: now)
        return try #require(step)
    }

    private func take(_ scheduler: inout Scheduler, _ result: StepResult) -> Scheduler.Taken { scheduler.take(result, at: now) }

    private func hasNext(_ scheduler: inout Scheduler) -> Bool { scheduler.nextStep(at: now) != nil }

    /// The result that the stages would give: token 9 everywhere.
    private func result(_ step: Step, token: TokenID = 9) -> StepResult {
        StepResult(
            epoch: step.epoch, number: step.number,
            tokens: step.segments.filter(\.samples).map {
                SampledToken(sequence: $0.sequence, position: $0.start + $0.tokens.count, emitted: EmittedToken(token: token))
            }, poisoned: [], timings: [])
    }

    @Test func chunksOfAPromptFollowEachOther() throws {
        var scheduler = Self.scheduler()
        scheduler.add(Self.sequence(1, prompt: 100))
        let first = try next(&scheduler)
        let second = try next(&scheduler)
        #expect(!hasNext(&scheduler))
        #expect(first.opens.count == 1 && second.opens.isEmpty)
        #expect(first.segments.map(\.start) == [0] && first.rowCount == 64 && !first.segments[0].samples)
        #expect(second.segments.map(\.start) == [64] && second.rowCount == 36 && second.segments[0].samples)
        #expect(first.segments[0].newBlocks.count == 2 && second.segments[0].newBlocks.count == 2)
    }

    /// Two stages that slow each other down: two groups were in flight, and become one.
    @Test func groupsBecomeFewerWhereThatIsFaster() throws {
        var scheduler = Self.scheduler()
        var inFlight: [Step] = []
        var rows: [Int] = []
        func round() throws {
            while let step = scheduler.nextStep(at: now) { inFlight.append(step) }
            let timing = StageTiming(queueNanoseconds: 0, computeNanoseconds: inFlight.count > 1 ? 100_000_000 : 50_000_000)
            var answer = result(inFlight.removeFirst())
            answer.timings = [timing, timing]
            rows.append(answer.tokens.count)
            guard case .done = take(&scheduler, answer) else { throw ToyFailure() }
        }
        scheduler.add(Self.sequence(1, prompt: 2))
        for _ in 0..<4 { try round() }
        for id in 2...4 { scheduler.add(Self.sequence(UInt64(id), prompt: 2)) }
        for _ in 0..<20 { try round() }
        #expect(rows.contains(2), "two groups at first")
        #expect(rows.suffix(5) == [4, 4, 4, 4, 4])
    }

    private struct ToyFailure: Error {}

    @Test func decodeRowsAreSplitOverTheStages() throws {
        var scheduler = Self.scheduler(inFlight: 3)
        for id in 1...9 { scheduler.add(Self.sequence(UInt64(id), prompt: 2)) }
        let prefill = try next(&scheduler)
        #expect(prefill.segments.count == 9)
        guard case .done = scheduler.take(result(prefill), at: now) else { Issue.record("the result answers its step"); return }
        var sizes: [Int] = []
        var seen: Set<SequenceID> = []
        while let step = scheduler.nextStep(at: now) {
            sizes.append(step.rowCount)
            seen.formUnion(step.segments.map(\.sequence))
        }
        #expect(sizes == [3, 3, 3] && seen.count == 9)
    }

    @Test func aLongPromptDoesNotStopDecoding() throws {
        var scheduler = Self.scheduler(inFlight: 1)
        scheduler.add(Self.sequence(1, prompt: 2))
        _ = scheduler.take(result(try next(&scheduler)), at: now)
        scheduler.add(Self.sequence(2, prompt: 500))
        for _ in 0..<8 {
            let step = try next(&scheduler)
            #expect(step.segments.first?.sequence == SequenceID(1) && step.segments.count == 2)
            _ = scheduler.take(result(step), at: now)
        }
        #expect(scheduler[SequenceID(1)]?.generatedCount == 9 && scheduler[SequenceID(2)]?.generatedCount == 1)
    }

    /// As in vLLM.
    @Test func lowerPriorityValueGoesFirst() throws {
        var scheduler = Self.scheduler(running: 1)
        scheduler.add(Self.sequence(1, prompt: 2))
        scheduler.add(Self.sequence(2, prompt: 2))
        scheduler.add(Self.sequence(3, prompt: 2, priority: -5))
        #expect(scheduler.waiting.inOrder.map(\.value) == [3, 1, 2])
        let step = try next(&scheduler)
        #expect(step.segments.map(\.sequence.value) == [3])
    }

    @Test func theYoungestGivesItsBlocksUp() throws {
        var scheduler = Self.scheduler(blocks: 4, inFlight: 1, context: 128)
        scheduler.add(Self.sequence(1, prompt: 60))
        scheduler.add(Self.sequence(2, prompt: 30))
        var closes: [SequenceID] = []
        var opens: [SequenceID] = []
        for _ in 0..<60 {
            guard let step = scheduler.nextStep(at: now) else { break }
            closes += step.closes
            opens += step.opens.map(\.sequence)
            _ = scheduler.take(result(step), at: now)
        }
        #expect(scheduler.preemptions == 1)
        #expect(closes.first == SequenceID(2) && opens.prefix(2) == [SequenceID(1), SequenceID(2)])
        #expect(scheduler[SequenceID(1)]!.generatedCount > scheduler[SequenceID(2)]!.generatedCount)
    }

    @Test func aRemovedSequenceFreesItsBlocksAndIsClosed() throws {
        var scheduler = Self.scheduler()
        scheduler.add(Self.sequence(1, prompt: 40))
        scheduler.add(Self.sequence(2, prompt: 2))
        let step = try next(&scheduler)
        scheduler.remove(SequenceID(1))
        #expect(scheduler.allocator.freeCount == 99)
        guard case .done(_, let advances, _) = scheduler.take(result(step), at: now) else { Issue.record("the result answers its step"); return }
        #expect(advances.map(\.sequence.value) == [2])
        let following = try next(&scheduler)
        #expect(following.closes == [SequenceID(1)])
    }

    @Test func resultsThatDoNotAnswerAreToldApart() throws {
        var scheduler = Self.scheduler()
        scheduler.add(Self.sequence(1, prompt: 100))
        let first = try next(&scheduler)
        let second = try next(&scheduler)
        var other = result(first)
        other.epoch = Epoch(7)
        #expect(take(&scheduler, other) == .unknown)
        #expect(take(&scheduler, result(second)) == .gap)
        var wrong = result(first)
        wrong.tokens = [SampledToken(sequence: SequenceID(1), position: 64, emitted: EmittedToken(token: 3))]
        guard case .faulty = scheduler.take(wrong, at: now) else { Issue.record("no token was asked for"); return }
        guard case .done = scheduler.take(result(first), at: now) else { Issue.record("the result answers its step"); return }
        #expect(take(&scheduler, result(first)) == .unknown)
        for token in [TokenID(-1), 1_000, .max, .min] {
            guard case .faulty = scheduler.take(result(second, token: token), at: now) else { Issue.record("outside the vocabulary"); return }
        }
        guard case .done(_, let advances, _) = scheduler.take(result(second), at: now) else { Issue.record("the result answers its step"); return }
        #expect(advances.count == 1)
    }

    @Test func whatWasInFlightAtAnEpochsEndIsSentAgain() throws {
        var scheduler = Self.scheduler()
        scheduler.add(Self.sequence(1, prompt: 3))
        _ = scheduler.take(result(try next(&scheduler)), at: now)
        let lost = try next(&scheduler)
        scheduler.halt()
        #expect(!hasNext(&scheduler))
        #expect(take(&scheduler, result(lost)) == .unknown)
        scheduler.begin(epoch: Epoch(2), kvBlocks: 10, stages: 1, stepsInFlightMax: 1)
        let again = try next(&scheduler)
        #expect(again.number == StepNumber(1) && again.epoch == Epoch(2))
        #expect(again.opens.first?.tokens == [5, 5, 5, 9] && again.segments[0].tokens == [5, 5, 5, 9] && again.segments[0].samples)
    }

    @Test func finishRules() {
        func finish(_ generated: [TokenID], end: [TokenID] = [0], _ change: (inout SamplingParameters) -> Void = { _ in }) -> FinishReason? {
            var sampling = SamplingParameters()
            sampling.maxTokens = 4
            change(&sampling)
            let request = GenerationRequest(id: RequestID(high: 0, low: 1), prompt: [1, 0], sampling: sampling, resumed: [generated])
            return GeneratedSequence(id: SequenceID(1), request: request, choice: 0, arrival: 0).finishReason(endTokens: end, contextTokens: 10)
        }
        #expect(finish([]) == nil && finish([3]) == nil)
        #expect(finish([3, 0]) == .stop)
        #expect(finish([3, 0]) { $0.ignoreEndTokens = true } == nil)
        #expect(finish([3, 0]) { $0.minTokens = 2 } == nil && finish([3, 0]) { $0.minTokens = 1 } == .stop)
        #expect(finish([3, 8]) { $0.stopTokens = [8] } == .stop)
        #expect(finish([3, 0]) { $0.ignoreEndTokens = true; $0.stopTokens = [0] } == .stop)
        #expect(finish([1, 2, 3, 4]) == .length && finish([1, 2, 3, 0]) == .stop)
        #expect(finish([1, 2, 3, 4, 5, 6, 7, 8]) { $0.maxTokens = 100 } == .length)
    }

    @Test func stepsAreOverdueByTheirKind() {
        var clock = StepClock(floorMs: 100, unmeasuredMs: 5_000, factor: 8)
        func step(rows: Int, sentMs: UInt64) -> StepInFlight {
            let segment = Segment(sequence: SequenceID(1), start: 0, tokens: [TokenID](repeating: 1, count: rows), newBlocks: [], samples: true)
            return StepInFlight(
                Step(epoch: Epoch(1), number: StepNumber(1), segments: [segment]), sentAt: Instant(nanoseconds: sentMs * 1_000_000))
        }
        #expect(clock.deadline(of: step(rows: 1, sentMs: 0)) == Instant(nanoseconds: 5_000_000_000))
        clock.finished(step(rows: 1, sentMs: 0), at: Instant(nanoseconds: 20_000_000))
        #expect(clock.deadline(of: step(rows: 1, sentMs: 20)) == Instant(nanoseconds: 180_000_000))
        // Never measured: as long as 256 single rows.
        #expect(clock.deadline(of: step(rows: 256, sentMs: 20)) == Instant(nanoseconds: (20 + 8 * 256 * 20) * 1_000_000))
        clock.finished(step(rows: 256, sentMs: 20), at: Instant(nanoseconds: 120_000_000))
        #expect(clock.deadline(of: step(rows: 300, sentMs: 120)) == Instant(nanoseconds: (120 + 800) * 1_000_000))
        #expect(clock.deadline(of: step(rows: 1, sentMs: 20)) == Instant(nanoseconds: (120 + 160) * 1_000_000))
        // Stages that are to stream their weights from now on: what was measured of others says nothing of them.
        clock.expect(seconds: 2)
        #expect(clock.deadline(of: step(rows: 1, sentMs: 20)) == Instant(nanoseconds: (120 + 16_000) * 1_000_000))
        var unmeasured = StepClock(floorMs: 100, unmeasuredMs: 5_000, factor: 8)
        unmeasured.expect(seconds: 0.1)
        #expect(unmeasured.deadline(of: step(rows: 1, sentMs: 0)) == Instant(nanoseconds: 5_000_000_000))
        unmeasured.expect(seconds: 1)
        #expect(unmeasured.deadline(of: step(rows: 1, sentMs: 0)) == Instant(nanoseconds: 8_000_000_000))
    }

    @Test func resultsAnswerTheGuesses() {
        let segment = Segment(sequence: SequenceID(1), start: 4, tokens: [1, 2, 3, 4], newBlocks: [], samples: true, drafts: 2)
        let other = Segment(sequence: SequenceID(2), start: 9, tokens: [1], newBlocks: [], samples: true)
        let step = StepInFlight(Step(epoch: Epoch(1), number: StepNumber(1), segments: [segment, other]), sentAt: now)
        #expect(step.sampledRowCount == 4)
        func fault(_ tokens: [TokenID], from first: Int = 6, gap: Int = 1, poisoned: [UInt64] = []) -> String? {
            var sampled = tokens.enumerated().map {
                SampledToken(sequence: SequenceID(1), position: first + $0.offset * gap, emitted: EmittedToken(token: $0.element))
            }
            sampled.append(SampledToken(sequence: SequenceID(2), position: 10, emitted: EmittedToken(token: 0)))
            let result = StepResult(
                epoch: Epoch(1), number: StepNumber(1), tokens: sampled,
                poisoned: poisoned.map { PoisonedSequence(sequence: SequenceID($0), layers: 0..<1) }, timings: [])
            return step.fault(in: result, vocabulary: 100)
        }
        for right in [[9], [3], [3, 9], [3, 4], [3, 4, 9]] as [[TokenID]] { #expect(fault(right) == nil, "\(right)") }
        #expect(fault([], poisoned: [1]) == nil)
        for wrong in [[], [9, 4], [3, 9, 1], [3, 4, 9, 9], [3, 100], [100], [-1]] as [[TokenID]] { #expect(fault(wrong) != nil, "\(wrong)") }
        #expect(fault([3], from: 5) != nil && fault([3, 4], gap: 2) != nil && fault([3, 4], gap: 0) != nil)
        #expect(fault([3], poisoned: [1]) != nil && fault([3], poisoned: [2]) != nil)
    }

    /// A stream that runs alone goes on by itself for some steps, and nothing else is sent meanwhile.
    @Test func aLoneStreamGoesOnByItself() throws {
        var scheduler = Self.scheduler()
        scheduler.allowsFollowUps = true
        scheduler.add(Self.sequence(1, prompt: 3))
        var step = try next(&scheduler)
        // Nothing was measured yet, and guesses may still be worth more.
        while scheduler.plainSteps < Scheduler.plainStepsMin {
            #expect(step.followUps == 0)
            _ = take(&scheduler, result(step))
            step = try next(&scheduler)
        }
        #expect(step.followUps == Limits.followUpsMax)
        scheduler.add(Self.sequence(2, prompt: 3))
        for left in (0..<Limits.followUpsMax).reversed() {
            #expect(!hasNext(&scheduler))
            var result = result(step)
            result.isFollowed = true
            guard case .done(_, let advances, _) = take(&scheduler, result) else { throw Unexpected() }
            #expect(advances.map(\.sequence) == [SequenceID(1)])
            step = step.followUp(result.tokens)
            #expect(step.followUps == left && scheduler.inFlight.map(\.number) == [step.number] && scheduler.inFlight[0].isFollowUp)
        }
        // The newcomer's prompt goes beside the last of them.
        let prompt = try next(&scheduler)
        #expect(prompt.segments.map(\.sequence) == [SequenceID(2)] && prompt.number.value == step.number.value + 1 && prompt.followUps == 0)
    }

    private struct Unexpected: Error {}

    /// Not beyond a sequence's blocks or its length.
    @Test func stagesGoOnOnlyAsFarAsTheyKnow() throws {
        for (prompt, maxTokens, wanted) in [(3, Int32(100), 4), (3, 12, 2), (3, 10, 0), (20, 100, 3), (22, 100, 1), (23, 100, 0), (24, 100, 4)] {
            var scheduler = Self.scheduler()
            scheduler.allowsFollowUps = true
            scheduler.add(Self.sequence(1, prompt: prompt, maxTokens: maxTokens))
            for _ in 0..<Scheduler.plainStepsMin + 1 { _ = take(&scheduler, result(try next(&scheduler))) }
            let step = try next(&scheduler)
            #expect(step.followUps == wanted, "\(prompt) and \(maxTokens)")
        }
    }

    /// A large model's steps take long, and a newcomer would have to wait.
    @Test func longStepsHaveNoFollowUps() throws {
        var scheduler = Self.scheduler()
        scheduler.allowsFollowUps = true
        scheduler.add(Self.sequence(1, prompt: 3))
        var at = now
        for _ in 0..<20 {
            let sent = scheduler.nextStep(at: at)
            let step = try #require(sent)
            #expect(step.followUps == 0)
            at = at.advanced(milliseconds: Limits.followUpsMs + 1)
            _ = scheduler.take(result(step), at: at)
        }
    }

    @Test func stagesThatGoOnUnaskedAreRefused() throws {
        var scheduler = Self.scheduler()
        scheduler.add(Self.sequence(1, prompt: 3))
        var result = result(try next(&scheduler))
        result.isFollowed = true
        guard case .faulty = take(&scheduler, result) else { throw Unexpected() }
    }

    @Test func blocksAreOwnedOnce() {
        for seed in UInt64(0)..<50 {
            var numbers = SeededNumbers(seed: seed)
            var allocator = BlockAllocator(total: 40)
            var owned: [[BlockID]] = []
            for _ in 0..<300 {
                if numbers.oneIn(2), let blocks = allocator.allocate(Int.random(in: 0...9, using: &numbers)) { owned.append(blocks) }
                if numbers.oneIn(3), let index = owned.indices.randomElement(using: &numbers) { allocator.release(owned.remove(at: index)) }
                let all = owned.flatMap(\.self)
                #expect(Set(all).count == all.count && all.count + allocator.freeCount == 40, "seed \(seed)")
            }
        }
    }

    /// However long it serves, memory grows to what was held at once and the idle blocks that are kept, and no further.
    @Test func blocksThatWereNeverUsedStaySo() {
        for seed in UInt64(0)..<50 {
            var numbers = SeededNumbers(seed: seed)
            let idleKept = Int.random(in: 0...40, using: &numbers)
            var allocator = BlockAllocator(total: 60, idleKept: idleKept)
            var owned: [[BlockID]] = []
            var heldAtOnce = 0
            for turn in 0..<400 {
                if numbers.oneIn(2), let blocks = allocator.allocate(Int.random(in: 1...6, using: &numbers)) {
                    // A chain of its own, all of it written: idle when it is given up.
                    var parent: BlockID?
                    for block in blocks {
                        let isFirst = allocator.promise(block, after: parent, tokens: [TokenID](repeating: TokenID(turn), count: 32)[...])
                        #expect(isFirst, "seed \(seed)")
                        allocator.written(block)
                        parent = block
                    }
                    owned.append(blocks)
                }
                heldAtOnce = max(heldAtOnce, owned.joined().count)
                if numbers.oneIn(2), let index = owned.indices.randomElement(using: &numbers) { allocator.release(owned.remove(at: index)) }
                #expect(allocator.usedCount <= heldAtOnce + idleKept, "seed \(seed)")
                #expect(owned.joined().count + allocator.freeCount == 60, "seed \(seed)")
            }
        }
    }

    @Test func freeBlocksAreTakenBeforeIdleAndIdleOnesAboveTheirShareBeforeUnused() {
        func content(_ number: Int) -> ArraySlice<TokenID> { [TokenID](repeating: TokenID(number), count: 32)[...] }
        var allocator = BlockAllocator(total: 10, idleKept: 2)
        let first = allocator.allocate(4)!
        for (number, block) in first[..<3].enumerated() {
            let isFirst = allocator.promise(block, after: nil, tokens: content(number))
            #expect(isFirst)
            allocator.written(block)
        }
        for block in first { allocator.release([block]) }
        // Three idle, one free: the free one, then the oldest idle one, then two that were never used.
        let second = allocator.allocate(4)
        #expect(second == [3, 0, 4, 5].map { BlockID($0) })
        #expect(allocator.idleCount == 2 && allocator.evictions == 1)
        // All that were never used, then the idle ones.
        let third = allocator.allocate(6)
        #expect(third == [6, 7, 8, 9, 1, 2].map { BlockID($0) })
        #expect(allocator.freeCount == 0)
    }
}
