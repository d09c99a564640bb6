import Testing

@testable import ClusterCore

/// A scheduler whose stages are lost one at a time.
@Suite struct SchedulerRebuildTests {
    private let now = Instant(nanoseconds: 0)
    private static let worker = PeerKey(bytes: [UInt8](repeating: 3, count: 32))!

    private func scheduler(inFlight: Int = 2) -> Scheduler {
        var scheduler = Scheduler(
            settings: .init(
                stepRowsMax: 128, prefillRowsPerStep: 64, sequencesRunningMax: 16, contextTokens: 512, vocabulary: 1_000, endTokens: [0],
                speculation: .off),
            clock: StepClock(floorMs: 10_000, unmeasuredMs: 60_000, factor: 8))
        scheduler.begin(epoch: Epoch(1), kvBlocks: 40, stages: inFlight, stepsInFlightMax: inFlight)
        return scheduler
    }

    private func sequence(_ id: UInt64, prompt: [TokenID]) -> GeneratedSequence {
        var sampling = SamplingParameters()
        sampling.maxTokens = 100
        let request = GenerationRequest(id: RequestID(high: 0, low: id), prompt: prompt, sampling: sampling)
        return GeneratedSequence(id: SequenceID(id), request: request, choice: 0, arrival: id)
    }

    private func result(_ step: Step) -> StepResult {
        StepResult(
            epoch: step.epoch, number: step.number,
            tokens: step.segments.filter(\.samples).map {
                SampledToken(sequence: $0.sequence, position: $0.start + $0.tokens.count, emitted: EmittedToken(token: 9))
            }, poisoned: [], timings: [])
    }

    private func next(_ scheduler: inout Scheduler) throws -> Step {
        let step = scheduler.nextStep(at: now)
        return try #require(step)
    }

    private func finish(_ scheduler: inout Scheduler, _ step: Step) {
        guard case .done = scheduler.take(result(step), at: now) else { return #expect(Bool(false), "a step is not known") }
    }

    private func resume(
        _ scheduler: inout Scheduler, epoch: UInt64, lost: Range<Int>?, kvBlocks: Int = 40, stores: [Int: Scheduler.InputStore] = [:]
    ) {
        scheduler.resume(under: Epoch(epoch), kvBlocks: kvBlocks, stages: 2, stepsInFlightMax: 2, layerCount: 8, lost: lost, stores: stores)
    }

    @Test func whatCameBackIsKeptAndTheRestIsSentAgain() throws {
        var scheduler = scheduler()
        scheduler.add(sequence(1, prompt: (0..<100).map { $0 + 1 }))
        finish(&scheduler, try next(&scheduler))
        let lost = try next(&scheduler)
        #expect(lost.segments.map(\.start) == [64])
        let blocks = scheduler[SequenceID(1)]!.blocks
        scheduler.suspend()
        resume(&scheduler, epoch: 2, lost: nil)
        let again = try next(&scheduler)
        #expect(again.rebuild == nil && again.epoch == Epoch(2) && again.number == StepNumber(1))
        #expect(again.segments == [Segment(sequence: SequenceID(1), start: 64, tokens: (64..<100).map { $0 + 1 }, newBlocks: blocks, samples: true)])
        #expect(again.opens.map(\.cached) == [64])
        #expect(scheduler.rebuildCounts.layerPositionsKept == 64 * 8 && scheduler.rebuildCounts.layerPositionsRebuilt == 0)
    }

    @Test func lostLayersAreRebuiltFromInputsWhereTheyAreAtHand() throws {
        var scheduler = scheduler()
        scheduler.add(sequence(1, prompt: (0..<70).map { $0 + 1 }))
        for _ in 0..<2 { finish(&scheduler, try next(&scheduler)) }
        let decode = try next(&scheduler)
        #expect(decode.segments.map(\.start) == [70])
        scheduler.suspend()
        let blocks = scheduler[SequenceID(1)]!.blocks
        // The first two blocks' inputs were kept, the third one's not.
        let store = Scheduler.InputStore(worker: Self.worker, blocks: Int(blocks[1].value) + 1, since: 0)
        resume(&scheduler, epoch: 2, lost: 3..<5, stores: [3: store])
        let first = try next(&scheduler)
        #expect(first.rebuild == Rebuild(layers: 3..<5, hasInputs: true))
        #expect(first.segments.map(\.start) == [0] && first.rowCount == 64 && !first.segments[0].samples && first.opens.map(\.cached) == [0])
        let second = try next(&scheduler)
        #expect(second.rebuild == Rebuild(layers: 3..<5, hasInputs: false) && second.segments.map(\.start) == [64] && second.rowCount == 6)
        finish(&scheduler, first)
        #expect(scheduler.isRebuilding)
        finish(&scheduler, second)
        #expect(!scheduler.isRebuilding)
        let third = try next(&scheduler)
        #expect(third.rebuild == nil && third.segments.map(\.start) == [70] && third.segments[0].samples)
        #expect(scheduler.rebuildCounts.layerPositionsRebuilt == 64 * 2 + 6 * 5 && scheduler.rebuildCounts.positionsFromInputs == 64)
        #expect(scheduler.rebuildCounts.layerPositionsAll == 70 * 8)
    }

    @Test func aSharedBeginningIsRebuiltOnce() throws {
        var scheduler = scheduler()
        let shared = (0..<64).map { TokenID($0 + 1) }
        scheduler.add(sequence(1, prompt: shared + [100, 101]))
        for _ in 0..<2 { finish(&scheduler, try next(&scheduler)) }
        scheduler.add(sequence(2, prompt: shared + [200, 201, 202]))
        var steps = 0
        while scheduler[SequenceID(2)]!.committed == 0, steps < 8 {
            finish(&scheduler, try next(&scheduler))
            steps += 1
        }
        scheduler.suspend()
        resume(&scheduler, epoch: 2, lost: 0..<4)
        var rebuilt: [SequenceID: [Range<Int>]] = [:]
        for _ in 0..<4 where scheduler.isRebuilding {
            let step = try next(&scheduler)
            if step.rebuild != nil {
                for segment in step.segments { rebuilt[segment.sequence, default: []].append(segment.start..<segment.start + segment.tokens.count) }
            }
            finish(&scheduler, step)
        }
        #expect(rebuilt[SequenceID(1)]?.first?.lowerBound == 0)
        #expect(rebuilt[SequenceID(2)]?.first?.lowerBound == 64)
    }

    /// A stage takes 10 and one for each row, in tenths of a millisecond.
    private func timed(_ step: Step) -> StepResult {
        var result = result(step)
        result.timings = (0..<2).map { _ in StageTiming(queueNanoseconds: 0, computeNanoseconds: UInt64(10 + step.rowCount) * 100_000) }
        return result
    }

    @Test func shortTextsAreRebuiltFirstAndDecodeBesideTheRest() throws {
        var scheduler = scheduler()
        scheduler.add(sequence(1, prompt: (0..<400).map { $0 + 1 }))
        scheduler.add(sequence(2, prompt: (0..<40).map { 600 + $0 }))
        var steps = 0
        while (1...2).contains(where: { !scheduler[SequenceID($0)]!.isDecoding || scheduler[SequenceID($0)]!.stepsInFlight > 0 }) || steps < 40 {
            let step = try next(&scheduler)
            guard case .done = scheduler.take(timed(step), at: now) else { return #expect(Bool(false)) }
            steps += 1
            if steps > 60 { return #expect(Bool(false), "nobody decodes") }
        }
        scheduler.suspend()
        resume(&scheduler, epoch: 2, lost: 2..<5)
        let first = try next(&scheduler)
        #expect(first.rebuild != nil && first.segments.first?.sequence == SequenceID(2), "the short one first")
        guard case .done = scheduler.take(timed(first), at: now) else { return #expect(Bool(false)) }
        var between: [[Step]] = [[]]
        for _ in 0..<400 where scheduler.isRebuilding {
            let step = try next(&scheduler)
            let isToken = step.segments.contains { $0.sequence == SequenceID(2) && $0.samples }
            if isToken { between.append([]) } else { between[between.count - 1].append(step) }
            guard case .done = scheduler.take(timed(step), at: now) else { return #expect(Bool(false)) }
        }
        #expect(!scheduler.isRebuilding && between.count > 10, "\(between.count) tokens meanwhile")
        // What comes between two of its tokens takes twice as long as its own step at the most: that has one row, so 11 tenths of a millisecond a
        // stage.
        for others in between.dropFirst(2).dropLast() {
            #expect(others.count <= 1 && others.allSatisfy { $0.rebuild != nil && $0.rowCount <= 12 }, "\(others.map(\.rowCount))")
        }
    }

    @Test func anotherLossBeginsOverWithBothLayers() throws {
        var scheduler = scheduler()
        scheduler.add(sequence(1, prompt: (0..<70).map { $0 + 1 }))
        for _ in 0..<2 { finish(&scheduler, try next(&scheduler)) }
        scheduler.suspend()
        resume(&scheduler, epoch: 2, lost: 1..<2)
        finish(&scheduler, try next(&scheduler))
        scheduler.suspend()
        resume(&scheduler, epoch: 3, lost: 5..<6)
        let step = try next(&scheduler)
        #expect(step.rebuild?.layers == 1..<6 && step.segments.map(\.start) == [0])
        // Nothing more is lost: what was not rebuilt is still to be.
        scheduler.suspend()
        resume(&scheduler, epoch: 4, lost: nil)
        let again = try next(&scheduler)
        #expect(again.rebuild?.layers == 1..<6 && again.segments.map(\.start) == [0])
    }

    @Test func whoHoldsABlockThatThereIsNoRoomForIsComputedAnew() throws {
        var scheduler = scheduler()
        scheduler.add(sequence(1, prompt: (0..<60).map { $0 + 1 }))
        finish(&scheduler, try next(&scheduler))
        scheduler.suspend()
        resume(&scheduler, epoch: 2, lost: nil, kvBlocks: 1)
        #expect(scheduler.running.isEmpty && scheduler.waiting.count == 1 && scheduler.allocator.freeCount == 1)
    }
}

@Suite struct StandbyChoiceTests {
    private static func worker(_ byte: UInt8, memory: UInt64 = 1 << 30) -> Planner.Candidate {
        Planner.Candidate(
            key: PeerKey(bytes: [UInt8](repeating: byte, count: 32))!, memoryBytes: memory, readBytesPerSecond: 1e9, opsPerSecond: 1e12)
    }

    private static let room: StageRoom = {
        let model = ModelProfile(
            digest: ModelDigest(bytes: [UInt8](repeating: 1, count: 32))!, name: "m", layerBytes: [100, 100, 100, 100, 100, 100],
            embeddingBytes: 50, headBytes: 50, headIsTied: true, hidden: 4, vocabulary: 10, contextTokens: 32, kvBytesPerTokenPerLayer: 1,
            endTokens: [])
        return StageRoom(cost: StageCost(model: model, demand: PlanDemand()), contextTokens: 32, kvBlocksMax: 4)
    }()

    @Test func theStageWithMostBytesComesFirstAndEachOnceBeforeAnyTwice() {
        let stages = [0..<1, 1..<4, 4..<6]
        let workers = (1...4).map { (worker: Self.worker($0), ahead: Range<Int>?.none) }
        #expect(Coordinator.choose(for: workers, among: stages, Self.room) == [1, 2, 0, 1])
    }

    @Test func whatIsLoadedStaysAndWhatDoesNotFitIsNotChosen() {
        let stages = [0..<1, 1..<4, 4..<6]
        #expect(Coordinator.choose(for: [(worker: Self.worker(1), ahead: 4..<6)], among: stages, Self.room) == [2])
        #expect(Coordinator.choose(for: [(worker: Self.worker(1, memory: 290), ahead: nil)], among: stages, Self.room) == [0])
        #expect(Coordinator.choose(for: [(worker: Self.worker(1, memory: 20), ahead: nil)], among: stages, Self.room) == [nil])
    }
}
