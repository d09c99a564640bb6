import Testing

@testable import ClusterCore

@Suite struct WorkerTests {
    private static let up = ToyCluster.key(1)
    private static let down = ToyCluster.key(2)

    private static func machine() -> Worker {
        let capabilities = WorkerCapabilities(memoryBytes: 1, threads: 1, isa: "", readBytesPerSecond: 1, opsPerSecond: 1)
        return Worker(configuration: WorkerConfiguration(session: 1, name: "w", capabilities: capabilities, dataEndpoint: "tcp://w:1"))
    }

    private static func assignment(epoch: UInt64 = 1, stage: Int = 1, of count: Int = 3) -> StageAssignment {
        StageAssignment(
            epoch: Epoch(epoch), stage: stage, stageCount: count, layers: 2..<4, kvBlocks: 8, kvType: .f16, boundary: .f32,
            modelDigest: ToyModel().profile.digest, modelPath: "/m", upstream: stage > 0 ? up : nil,
            downstream: stage < count - 1 ? StagePeer(key: down, endpoint: "tcp://d:1") : nil)
    }

    private static func frame(epoch: UInt64 = 1, number: UInt64, timings: Int = 1) -> StepFrame {
        let isFirst = number == 1
        let open = SequenceOpen(
            sequence: SequenceID(1), choice: 0, tokens: [5], promptLength: 1, sampling: SamplingParameters(), endTokens: [], topLogprobs: nil)
        let segment = Segment(
            sequence: SequenceID(1), start: Int(number) - 1, tokens: [5], newBlocks: isFirst ? [BlockID(0)] : [], samples: true)
        let step = Step(epoch: Epoch(epoch), number: StepNumber(number), opens: isFirst ? [open] : [], segments: [segment])
        return StepFrame(step: step, timings: [StageTiming](repeating: StageTiming(queueNanoseconds: 1, computeNanoseconds: 1), count: timings))
    }

    private func handle(_ worker: inout Worker, _ event: Worker.Event, ms: UInt64 = 0) -> [Worker.Effect] {
        var effects: [Worker.Effect] = []
        worker.handle(event, at: Instant(nanoseconds: ms * 1_000_000), into: &effects)
        return effects.filter { if case .log = $0 { false } else { true } }
    }

    private func serving(_ assignment: StageAssignment = assignment()) -> Worker {
        var worker = Self.machine()
        for event in [
            Worker.Event.start, .received(.workerWelcome(WorkerWelcome(version: .current))), .received(.assign(assignment)), .loaded(assignment.epoch)
        ] {
            _ = handle(&worker, event)
        }
        return worker
    }

    private func payload(_ value: UInt64) -> PayloadHandle { PayloadHandle(value) }

    /// The stage thread has one more than it computes: it doesn't wait until its step was passed on.
    @Test func stepsAreComputedInOrderAndPassedOn() {
        var worker = serving()
        for number in UInt64(1)...2 {
            #expect(
                handle(&worker, .activation(Self.frame(number: number), payload: payload(number), from: Self.up)) == [
                    .compute(Self.frame(number: number), payload: payload(number))
                ])
        }
        #expect(handle(&worker, .activation(Self.frame(number: 3), payload: payload(3), from: Self.up), ms: 1) == [])
        #expect(
            handle(&worker, .stepComputed(Epoch(1), StepNumber(2), StepOutcome(computeNanoseconds: 7), payload: payload(12))) == [
                .discard(payload(12))
            ])
        let effects = handle(&worker, .stepComputed(Epoch(1), StepNumber(1), StepOutcome(computeNanoseconds: 7), payload: payload(11)), ms: 3)
        var passed = Self.frame(number: 1)
        passed.timings.append(StageTiming(queueNanoseconds: 0, computeNanoseconds: 7))
        #expect(effects == [.forward(passed, payload: payload(11)), .compute(Self.frame(number: 3), payload: payload(3))])
        #expect(worker.metrics.steps == 1)
    }

    /// By the stage thread's own word: the first step began 2 ms after it came and 4 ms after loading, the second right after the first.
    @Test func aStageSaysWhereItsTimeWent() {
        var worker = Self.machine()
        let assignment = Self.assignment()
        for event in [Worker.Event.start, .received(.workerWelcome(WorkerWelcome(version: .current))), .received(.assign(assignment))] {
            _ = handle(&worker, event)
        }
        _ = handle(&worker, .loaded(assignment.epoch), ms: 1)
        _ = handle(&worker, .activation(Self.frame(number: 1), payload: payload(1), from: Self.up), ms: 3)
        _ = handle(&worker, .activation(Self.frame(number: 2), payload: payload(2), from: Self.up), ms: 4)
        func computed(_ number: UInt64, startedMs: UInt64, tookMs: UInt64, ms: UInt64) -> StageTiming? {
            let outcome = StepOutcome(computeNanoseconds: tookMs * 1_000_000, startedAt: Instant(nanoseconds: startedMs * 1_000_000))
            let effects = handle(&worker, .stepComputed(Epoch(1), StepNumber(number), outcome, payload: payload(10 + number)), ms: ms)
            guard case .forward(let frame, _) = effects.first else { return nil }
            return frame.timings.last
        }
        #expect(
            computed(1, startedMs: 5, tookMs: 10, ms: 16)
                == StageTiming(
                    queueNanoseconds: 2_000_000, computeNanoseconds: 10_000_000, idleNanoseconds: 4_000_000, handOverNanoseconds: 1_000_000))
        #expect(
            computed(2, startedMs: 17, tookMs: 3, ms: 20)
                == StageTiming(queueNanoseconds: 13_000_000, computeNanoseconds: 3_000_000, idleNanoseconds: 2_000_000, handOverNanoseconds: 0))
        #expect(worker.metrics.idleNanoseconds == 6_000_000 && worker.metrics.handOverNanoseconds == 1_000_000)
        #expect(worker.report.isServing && worker.report.assignment == assignment && worker.report.metrics == worker.metrics)
    }

    @Test func theLastStageAnswersTheCoordinator() {
        var worker = serving(Self.assignment(stage: 2))
        _ = handle(&worker, .activation(Self.frame(number: 1, timings: 2), payload: payload(1), from: Self.up))
        let token = SampledToken(sequence: SequenceID(1), position: 1, emitted: EmittedToken(token: 8))
        let effects = handle(&worker, .stepComputed(Epoch(1), StepNumber(1), StepOutcome(tokens: [token], computeNanoseconds: 7), payload: nil))
        guard case .send(.stepResult(let result)) = effects.first else {
            Issue.record("a result is sent")
            return
        }
        #expect(result.tokens == [token] && result.timings.count == 3)
    }

    // MARK: - Follow-ups

    private static func ring(stage: Int) -> StageAssignment {
        var assignment = assignment(stage: stage)
        if stage == 0 { assignment.upstream = up }
        if stage == 2 { assignment.downstream = StagePeer(key: down, endpoint: "tcp://d:1") }
        return assignment
    }

    private static func followUp(_ number: UInt64, followUps: Int) -> Step {
        var step = frame(number: number).step
        step.followUps = followUps
        return step
    }

    /// The last stage sends the next step to the first before it answers, unless the token may be the last.
    @Test func theLastStageGoesOn() throws {
        for (allowed, token, isFollowed) in [(2, TokenID(8), true), (0, 8, false), (2, 7, false)] {
            var worker = serving(Self.ring(stage: 2))
            var frame = Self.frame(number: 1, timings: 2)
            frame.step.opens[0].endTokens = [7]
            frame.step.followUps = allowed
            _ = handle(&worker, .activation(frame, payload: payload(1), from: Self.up))
            let sampled = SampledToken(sequence: SequenceID(1), position: 1, emitted: EmittedToken(token: token))
            var effects = handle(&worker, .stepComputed(Epoch(1), StepNumber(1), StepOutcome(tokens: [sampled], computeNanoseconds: 7), payload: nil))
            if isFollowed {
                guard case .followUp(let step) = effects.removeFirst() else { throw Unexpected() }
                #expect(step.number == StepNumber(2) && step.followUps == 1 && step.canBeFollowUp)
                #expect(step.segments == [Segment(sequence: SequenceID(1), start: 1, tokens: [8], newBlocks: [], samples: true)])
            }
            guard effects.count == 1, case .send(.stepResult(let result)) = effects[0] else { throw Unexpected() }
            #expect(result.isFollowed == isFollowed)
        }
    }

    private struct Unexpected: Error {}

    @Test func theFirstStageTakesWhatTheLastSends() {
        var worker = serving(Self.ring(stage: 0))
        #expect(handle(&worker, .followUp(Self.followUp(1, followUps: 0), from: Self.up)) == [], "nobody allowed it")
        #expect(handle(&worker, .received(.step(Self.followUp(1, followUps: 1)))).count == 1)
        var others = [Step](repeating: Self.followUp(2, followUps: 0), count: 4)
        others[0].epoch = Epoch(2)
        others[1].number = StepNumber(3)
        others[2].followUps = 1
        others[3].segments[0].newBlocks = [BlockID(1)]
        for other in others { #expect(handle(&worker, .followUp(other, from: Self.up)) == []) }
        #expect(handle(&worker, .followUp(Self.followUp(2, followUps: 0), from: Self.down)) == [], "not from a stranger")
        #expect(
            handle(&worker, .followUp(Self.followUp(2, followUps: 0), from: Self.up)) == [
                .compute(StepFrame(step: Self.followUp(2, followUps: 0)), payload: nil)
            ])
        #expect(handle(&worker, .followUp(Self.followUp(2, followUps: 0), from: Self.up)) == [], "not twice")
        #expect(worker.metrics.dropped.total == 7)
    }

    /// The coordinator's next step may overtake the last stage's.
    @Test func aStepWaitsForTheFollowUpBeforeIt() {
        var worker = serving(Self.ring(stage: 0))
        _ = handle(&worker, .received(.step(Self.followUp(1, followUps: 1))))
        _ = handle(&worker, .stepComputed(Epoch(1), StepNumber(1), StepOutcome(computeNanoseconds: 1), payload: payload(1)))
        #expect(handle(&worker, .received(.step(Self.frame(number: 3).step))) == [])
        #expect(
            handle(&worker, .followUp(Self.followUp(2, followUps: 0), from: Self.up)) == [
                .compute(StepFrame(step: Self.followUp(2, followUps: 0)), payload: nil),
                .compute(StepFrame(step: Self.frame(number: 3).step), payload: nil),
            ])
        #expect(worker.metrics.stepsEarly == 1)
        // Behind a step that has none, a gap is a loss.
        let effects = handle(&worker, .received(.step(Self.frame(number: 5).step)))
        guard case .send(.stepFailed(_, StepNumber(4), let failure)) = effects.last else {
            Issue.record("the coordinator is told")
            return
        }
        #expect(failure.code == .frameLost)
    }

    // MARK: - Foretold steps

    @Test func theLastStageForetells() {
        func foretold(
            foretells: Bool = true, followUps: Int = 2, token: TokenID = 8, sequence: UInt64 = 1, _ change: (inout StepFrame) -> Void = { _ in }
        ) -> Step? {
            var assignment = Self.ring(stage: 2)
            assignment.foretells = foretells
            var worker = serving(assignment)
            var frame = Self.frame(number: 1, timings: 2)
            frame.step.opens[0].endTokens = [7]
            frame.step.followUps = followUps
            change(&frame)
            _ = handle(&worker, .activation(frame, payload: payload(1), from: Self.up))
            let before = worker.report
            let step = worker.foretold(SequenceID(sequence), 1, token)
            #expect(worker.report == before)
            return step
        }
        let expected = Step(
            epoch: Epoch(1), number: StepNumber(2),
            segments: [Segment(sequence: SequenceID(1), start: 1, tokens: [8], newBlocks: [], samples: true)])
        #expect(foretold() == expected && expected.canBeFollowUp)
        #expect(foretold(foretells: false) == nil, "the first stage would not know what to do with it")
        #expect(foretold(followUps: 0) == nil, "others may be under way")
        #expect(foretold(token: 7) == nil, "the sequence may end")
        #expect(foretold(sequence: 2) == nil)
        #expect(foretold { $0.poisoned = [PoisonedSequence(sequence: SequenceID(1), layers: 0..<2)] } == nil)
        #expect(Self.machine().foretold(SequenceID(1), 1, 8) == nil, "without a stage")
    }

    /// The last of the steps that the stages add is followed by one of the coordinator's, which is probably the same.
    @Test func theLastFollowUpIsForetoldToo() {
        var assignment = Self.ring(stage: 2)
        assignment.foretells = true
        var worker = serving(assignment)
        var frame = Self.frame(number: 1, timings: 2)
        frame.step.followUps = 1
        _ = handle(&worker, .activation(frame, payload: payload(1), from: Self.up))
        let drawn = SampledToken(sequence: SequenceID(1), position: 1, emitted: EmittedToken(token: 5))
        var outcome = StepOutcome(tokens: [drawn], computeNanoseconds: 7)
        outcome.foretold = 5
        _ = handle(&worker, .stepComputed(Epoch(1), StepNumber(1), outcome, payload: nil))
        #expect(worker.foretold(SequenceID(1), 2, 8) == nil, "nothing is computed")
        for number in UInt64(2)...3 {
            _ = handle(&worker, .activation(Self.frame(number: number, timings: 2), payload: payload(number), from: Self.up))
            #expect((worker.foretold(SequenceID(1), Int(number), 8)?.number == StepNumber(3)) == (number == 2), "step \(number)")
            outcome.foretold = 6
            _ = handle(&worker, .stepComputed(Epoch(1), StepNumber(number), outcome, payload: nil))
        }
        #expect(worker.metrics.foretold == 3 && worker.metrics.foretoldRight == 1)
    }

    @Test func theFirstStageBeginsWithWhatMayComeNext() {
        var worker = serving(Self.ring(stage: 0))
        #expect(worker.canBegin(Self.followUp(2, followUps: 0), from: Self.up) == false, "the step before it has not come")
        _ = handle(&worker, .received(.step(Self.followUp(1, followUps: 1))))
        #expect(!worker.canBegin(Self.followUp(2, followUps: 0), from: Self.up), "there is something to compute")
        _ = handle(&worker, .stepComputed(Epoch(1), StepNumber(1), StepOutcome(computeNanoseconds: 1), payload: payload(1)))
        let before = worker.report
        #expect(worker.canBegin(Self.followUp(2, followUps: 0), from: Self.up))
        #expect(!worker.canBegin(Self.followUp(2, followUps: 0), from: Self.down), "not from a stranger")
        var others = [Step](repeating: Self.followUp(2, followUps: 0), count: 3)
        others[0].epoch = Epoch(2)
        others[1].number = StepNumber(3)
        others[2].segments[0].newBlocks = [BlockID(1)]
        for other in others { #expect(!worker.canBegin(other, from: Self.up)) }
        #expect(worker.report == before)
        // What it computed so is told with the step.
        _ = handle(&worker, .followUp(Self.followUp(2, followUps: 0), from: Self.up), ms: 10)
        var outcome = StepOutcome(computeNanoseconds: 5_000_000, startedAt: Instant(nanoseconds: 11_000_000))
        (outcome.layersBegun, outcome.begunNanoseconds) = (2, 3_000_000)
        let effects = handle(&worker, .stepComputed(Epoch(1), StepNumber(2), outcome, payload: payload(2)), ms: 14)
        guard case .forward(let frame, _) = effects.first, let timing = frame.timings.first else { return #expect(Bool(false), "\(effects)") }
        #expect(timing.begunNanoseconds == 3_000_000 && timing.computeNanoseconds == 5_000_000)
        #expect(timing.queueNanoseconds == 1_000_000 && timing.idleNanoseconds == 8_000_000 && timing.handOverNanoseconds == 1_000_000)
        #expect(worker.metrics.layersBegun == 2)
        for stage in 1...2 { #expect(!serving(Self.ring(stage: stage)).canBegin(Self.followUp(1, followUps: 0), from: Self.up)) }
    }

    // MARK: -

    /// The whole way to the stage thread, and nothing of it stays: the step itself is taken as if there had been none.
    @Test func whatIsRehearsedIsTheNextStep() {
        for (stage, followUps) in [(0, 0), (0, 2), (1, 0), (1, 2), (2, 2)] {
            var worker = serving(Self.ring(stage: stage))
            func come(_ number: UInt64) -> (frame: StepFrame, event: Worker.Event) {
                var frame = Self.frame(number: number, timings: stage)
                frame.step.followUps = followUps - (number == 1 || followUps == 0 ? 0 : 1)
                let isFollowUp = number > 1 && followUps > 0
                if stage > 0 { return (frame, .activation(frame, payload: payload(0), from: Self.up)) }
                return (frame, isFollowUp ? .followUp(frame.step, from: Self.up) : .received(.step(frame.step)))
            }
            let early = worker.rehearsal(after: come(1).frame, at: Instant(nanoseconds: 5))
            #expect(!early.contains { if case .compute = $0 { true } else { false } }, "the step before it has not come")
            _ = handle(&worker, come(1).event)
            let before = worker.report
            let next = [Worker.Effect.compute(come(2).frame, payload: stage > 0 ? payload(0) : nil)]
            for _ in 0..<2 { #expect(worker.rehearsal(after: come(1).frame, at: Instant(nanoseconds: 5)) == next) }
            #expect(worker.report == before)
            #expect(handle(&worker, come(2).event) == next)
        }
        #expect(Self.machine().rehearsal(after: Self.frame(number: 1), at: Instant(nanoseconds: 0)).isEmpty, "without a stage")
    }

    @Test func aMissingStepEndsTheStagesPart() {
        var worker = serving()
        _ = handle(&worker, .activation(Self.frame(number: 1), payload: payload(1), from: Self.up))
        let effects = handle(&worker, .activation(Self.frame(number: 3), payload: payload(3), from: Self.up))
        #expect(effects.first == .discard(payload(3)))
        guard case .send(.stepFailed(Epoch(1), StepNumber(2), let failure)) = effects.last else {
            Issue.record("the coordinator is told")
            return
        }
        #expect(failure.code == .frameLost)
        // What was under way is of no use, and what comes is dropped, until the next epoch.
        #expect(
            handle(&worker, .stepComputed(Epoch(1), StepNumber(1), StepOutcome(computeNanoseconds: 1), payload: payload(9))) == [.discard(payload(9))]
        )
        #expect(handle(&worker, .activation(Self.frame(number: 2), payload: payload(4), from: Self.up)) == [.discard(payload(4))])
        let again = handle(&worker, .received(.assign(Self.assignment(epoch: 2))))
        #expect(again.last == .load(Self.assignment(epoch: 2)))
    }

    /// What a stage makes of a segment of its one sequence after one of two known rows and three guesses, positions 1...5.
    private func afterGuesses(_ segment: Segment) -> Failure? {
        var worker = serving()
        var frames = [Self.frame(number: 1), Self.frame(number: 2), Self.frame(number: 3)]
        frames[1].step.segments[0].tokens = [5, 6, 7, 8, 9]
        frames[1].step.segments[0].drafts = 3
        frames[2].step.segments = [segment]
        var effects: [Worker.Effect] = []
        for (index, frame) in frames.enumerated() {
            effects = handle(&worker, .activation(frame, payload: payload(UInt64(index)), from: Self.up))
        }
        for case .send(.stepFailed(_, StepNumber(3), let failure)) in effects { return failure }
        return nil
    }

    @Test func aSequenceGoesOnBehindAnyGuessAndNowhereElse() {
        func segment(_ start: Int, rows: Int = 1, drafts: Int = 0, samples: Bool = true) -> Segment {
            Segment(
                sequence: SequenceID(1), start: start, tokens: [TokenID](repeating: 5, count: rows), newBlocks: [], samples: samples, drafts: drafts)
        }
        for start in 3...6 { #expect(afterGuesses(segment(start)) == nil) }
        for start in [-1, 0, 1, 2, 7, .max, .min] { #expect(afterGuesses(segment(start))?.code == .internalError, "from \(start)") }
        #expect(afterGuesses(segment(4, rows: 5, drafts: 4)) == nil)
        for drafts in [-1, 5, 6, .max, .min] {
            #expect(afterGuesses(segment(4, rows: 5, drafts: drafts))?.code == .internalError, "\(drafts) guesses")
        }
        #expect(afterGuesses(segment(4, rows: 5, drafts: 1, samples: false))?.code == .internalError)
        #expect(afterGuesses(segment(4, rows: 29, drafts: 28))?.code == .internalError, "rows beyond the only block")
    }

    @Test func framesThatAreNotOursAreDropped() {
        var worker = serving()
        #expect(handle(&worker, .activation(Self.frame(number: 1), payload: payload(1), from: Self.down)) == [.discard(payload(1))])
        #expect(handle(&worker, .activation(Self.frame(epoch: 9, number: 1), payload: payload(2), from: Self.up)) == [.discard(payload(2))])
        #expect(handle(&worker, .activation(Self.frame(number: 1, timings: 2), payload: payload(3), from: Self.up)) == [.discard(payload(3))])
        #expect(handle(&worker, .received(.step(Self.frame(number: 1).step))) == [])
        #expect(worker.metrics.dropped[.wrongUpstream] == 1 && worker.metrics.dropped[.oldEpoch] == 1)
        #expect(worker.metrics.dropped[.invalid] == 1 && worker.metrics.dropped[.wrongState] == 1)
    }

    @Test func aRepeatedAssignmentIsAnsweredAndAnOldOneDropped() {
        var worker = serving()
        #expect(handle(&worker, .received(.assign(Self.assignment()))) == [.send(.loaded(Epoch(1)))])
        _ = handle(&worker, .received(.assign(Self.assignment(epoch: 5))))
        #expect(handle(&worker, .received(.assign(Self.assignment(epoch: 3)))) == [])
        #expect(handle(&worker, .loaded(Epoch(1))) == [])
        #expect(handle(&worker, .loaded(Epoch(5))) == [.send(.loaded(Epoch(5)))])
    }

    /// It came back while it loaded for a plan that ended without it: its hello has no slice to name, its heartbeats have, and what it is told
    /// then ends the load.
    @Test func whatIsLoadedForAPastPlanIsTold() {
        var worker = Self.machine()
        _ = handle(&worker, .start)
        _ = handle(&worker, .received(.workerWelcome(WorkerWelcome(version: .current))))
        _ = handle(&worker, .received(.assign(Self.assignment(epoch: 3))))
        let answer = handle(&worker, .received(.refused(Failure(.helloExpected, "who are you?"))), ms: 10)
        guard case .send(.workerHello(let hello)) = answer.first else { return #expect(Bool(false), "\(answer)") }
        #expect(hello.holding == nil && hello.lastEpoch == Epoch(3))
        _ = handle(&worker, .received(.workerWelcome(WorkerWelcome(version: .current))), ms: 20)
        guard case .send(.heartbeat(let heartbeat)) = handle(&worker, .deadline, ms: 1_000).first else { return #expect(Bool(false)) }
        #expect(heartbeat.epoch == Epoch(3))
        #expect(handle(&worker, .received(.release(Epoch(4))), ms: 1_010) == [.admitUpstream(nil), .connectDownstream(nil), .unload])
        #expect(handle(&worker, .received(.release(Epoch(5))), ms: 1_020) == [])
        #expect(handle(&worker, .loaded(Epoch(3)), ms: 1_030) == [])
    }

    /// The coordinator lost it in the middle of a hand-over, which went on or was given up without it.
    @Test func whatIsPreparedIsForgottenWithTheNextWelcome() {
        var worker = Self.machine()
        let welcome = Worker.Event.received(.workerWelcome(WorkerWelcome(version: .current)))
        _ = handle(&worker, .start)
        _ = handle(&worker, welcome)
        _ = handle(&worker, .received(.handover(.prepare(Self.assignment(epoch: 3), sources: [StagePeer(key: Self.down, endpoint: "tcp://d:1")]))))
        #expect(handle(&worker, .prepared(Epoch(3))) == [.send(.handoverReport(.prepared(Epoch(3))))])
        _ = handle(&worker, .received(.refused(Failure(.helloExpected, "who are you?"))), ms: 10)
        #expect(handle(&worker, welcome, ms: 20) == [.dropPrepared, .closeTransfers, .admitPeers([])])
        let ahead = Self.assignment(epoch: 4)
        #expect(handle(&worker, .received(.loadAhead(ahead)), ms: 30) == [.loadAhead(ahead)])
    }

    @Test func releaseFreesAndStandsBy() {
        var worker = serving()
        _ = handle(&worker, .activation(Self.frame(number: 1), payload: payload(1), from: Self.up))
        _ = handle(&worker, .activation(Self.frame(number: 2), payload: payload(2), from: Self.up))
        _ = handle(&worker, .activation(Self.frame(number: 3), payload: payload(3), from: Self.up))
        #expect(handle(&worker, .received(.release(Epoch(2)))) == [.discard(payload(3)), .admitUpstream(nil), .connectDownstream(nil), .unload])
        #expect(
            handle(&worker, .stepComputed(Epoch(1), StepNumber(1), StepOutcome(computeNanoseconds: 1), payload: payload(7))) == [.discard(payload(7))]
        )
    }

    @Test func aSilentCoordinatorIsCalledAgainWithWhatIsHeld() {
        var worker = serving()
        var hellos: [UInt64] = []
        var reconnects: [UInt64] = []
        while let due = worker.nextDeadline, due.nanoseconds < 40_000_000_000 {
            let ms = (due.nanoseconds + 999_999) / 1_000_000
            for effect in handle(&worker, .deadline, ms: ms) {
                if case .reconnect = effect { reconnects.append(ms) }
                if case .send(.workerHello(let hello)) = effect {
                    hellos.append(ms)
                    #expect(hello.holding == HeldSlice(epoch: Epoch(1), modelDigest: ToyModel().profile.digest, layers: 2..<4))
                    #expect(hello.lastEpoch == Epoch(1))
                }
            }
        }
        let pauses: [UInt64] = [0, 100, 300, 700]
        #expect(Array(hellos.prefix(4)) == pauses.map { Limits.coordinatorSilenceMs + $0 } && hellos.count < 20)
        #expect(reconnects.first == Limits.coordinatorSilenceMs && reconnects.count > 3)
        #expect(handle(&worker, .received(.workerWelcome(WorkerWelcome(version: .current))), ms: 40_000) == [])
        guard case .send(.heartbeat(let heartbeat)) = handle(&worker, .deadline, ms: 40_250).first else {
            Issue.record("heartbeats go on")
            return
        }
        #expect(heartbeat.epoch == Epoch(1))
    }

    @Test func aRefusalThatNoRetryMendsEndsIt() {
        var worker = Self.machine()
        _ = handle(&worker, .start)
        let failure = Failure(.versionMismatch, "no")
        #expect(handle(&worker, .received(.refused(failure))).last == .ended(failure))
        #expect(worker.nextDeadline == nil && handle(&worker, .deadline, ms: 9_000) == [])
    }

    @Test func poisonIsNamedByWhoSawItFirst() {
        var worker = serving(Self.assignment(stage: 2))
        var frame = Self.frame(number: 1, timings: 2)
        frame.poisoned = [PoisonedSequence(sequence: SequenceID(1), layers: 0..<2)]
        _ = handle(&worker, .activation(frame, payload: payload(1), from: Self.up))
        let outcome = StepOutcome(poisoned: [PoisonedSequence(sequence: SequenceID(1), layers: 2..<4)], computeNanoseconds: 1)
        guard case .send(.stepResult(let result)) = handle(&worker, .stepComputed(Epoch(1), StepNumber(1), outcome, payload: nil)).first else {
            Issue.record("a result is sent")
            return
        }
        #expect(result.poisoned == [PoisonedSequence(sequence: SequenceID(1), layers: 0..<2)])
    }
}
