// Steps go out, results come in.

/// What the accounts need to know of a step that came back.
struct ReturnedStep: Sendable {
    var epoch: Epoch
    var step: StepInFlight
    var timings: [StageTiming]
    var tokens: Int
    /// Steps on their way when its result came, itself included.
    var inFlight: Int
    var at: Instant
}

extension Coordinator {
    /// Keeps as many steps on their way as the pipeline takes.
    mutating func fillPipeline(_ now: Instant, _ effects: inout [Effect]) {
        dispatch()
        for replica in fleet.serving {
            while let step = withPrecedence(of: replica, { $0.nextStep(at: now) }) { send(step, to: replica, &effects) }
        }
        metrics.preemptions = fleet.replicas.reduce(0) { $0 + $1.scheduler.preemptions }
        askDraftModel(&effects)
    }

    /// Only where one sequence is open in all: a draft model has one mind, and who is many fills the stages anyway.
    private mutating func askDraftModel(_ effects: inout [Effect]) {
        guard configuration.hasDraftModel, openCount == 1 else { return }
        for replica in fleet.serving {
            if let wish = fleet[replica].scheduler.draftWish() { effects.append(.draft(wish)) }
        }
    }

    /// The draft model's word, for a sequence that may have ended since.
    mutating func drafted(_ sequence: SequenceID, atLength length: Int, _ tokens: [TokenID]) {
        guard let replica = fleet.replicas.firstIndex(where: { $0.scheduler[sequence] != nil }) else { return }
        fleet[replica].scheduler.drafted(sequence, atLength: length, tokens: tokens)
    }

    mutating func send(_ step: Step, to replica: Int, _ effects: inout [Effect]) {
        guard let first = fleet.replicas[replica].deployment.plan?.stages.first else { preconditionFailure("steps are formed under a plan") }
        metrics.sent(step)
        backlog.served(rows: step.rowCount)
        effects.append(.send(.step(step), to: first.worker))
    }

    mutating func stepReturned(_ result: StepResult, _ worker: PeerKey, _ now: Instant, _ effects: inout [Effect]) {
        guard let replica = fleet.replica(in: result.epoch) else { return drop(.oldEpoch, from: worker, &effects) }
        guard let plan = fleet.replicas[replica].deployment.plan, plan.stages.last?.worker == worker else {
            return drop(.wrongState, from: worker, &effects)
        }
        switch fleet[replica].scheduler.take(result, at: now) {
        case .unknown: drop(.unknownStep, from: worker, &effects)
        case .gap:
            metrics.faults.resultsLost += 1
            recover(replica, "a step's result was lost", now, &effects)
        case .faulty(let fault):
            drop(.invalid, from: worker, &effects)
            strike(worker, Failure(.internalError, "the last stage \(fault)"), now, &effects)
        case .done(let step, let advances, let poisoned):
            metrics.stepsDone += 1
            if result.isFollowed {
                metrics.sentFollowUp(rows: step.rowCount)
                backlog.served(rows: step.rowCount)
            }
            unsettled.append(
                ReturnedStep(
                    epoch: result.epoch, step: step, timings: result.timings, tokens: result.tokens.count,
                    inFlight: fleet.replicas[replica].scheduler.inFlight.count + 1, at: now))
            if case .proving = fleet.replicas[replica].deployment.phase { serve(replica, plan, now, &effects) }
            for advance in advances { deliver(advance, &effects) }
            for entry in poisoned { failPoisoned(entry, in: replica, &effects) }
        }
    }

    /// What a step took is noted when the next one is on its way already, and before its epoch ends.
    mutating func settleAccounts() {
        guard !unsettled.isEmpty else { return }
        for returned in unsettled {
            let (step, timings) = (returned.step, returned.timings)
            let timeline = StepTimeline(sentAt: step.sentAt, returnedAt: returned.at, timings: timings)
            guard let replica = fleet.replica(in: returned.epoch) else { preconditionFailure("an epoch ended before its steps were in its accounts") }
            if !step.isRebuild {
                fleet[replica].watch.note(step, timings, inFlight: returned.inFlight, at: returned.at, &speeds)
                fleet[replica].patience.note(
                    rows: step.rowCount, timings, stages: fleet.replicas[replica].deployment.plan?.stages ?? [],
                    wayNanoseconds: timeline.wireNanoseconds)
            }
            fleet[replica].account.note(step, timings, timeline, tokens: returned.tokens)
            for (stage, timing) in zip(fleet.replicas[replica].deployment.plan?.stages ?? [], timings) where timing.streamReadNanoseconds > 0 {
                speeds.note(stage.worker, streamed: timing.streamedBytes, nanoseconds: timing.streamReadNanoseconds)
            }
            guard configuration.tracesSteps else { continue }
            untold.append(
                StepTrace(epoch: returned.epoch, number: step.number, rows: step.rowCount, decodeRows: step.decodeRows, timeline: timeline))
        }
        unsettled.removeAll(keepingCapacity: true)
    }

    func traceEpoch(_ epoch: Epoch, _ plan: Plan, _ effects: inout [Effect]) {
        guard configuration.tracesSteps else { return }
        let stages = plan.stages.map {
            TraceEvent.Stage(worker: membership.workers[$0.worker]?.hello.name ?? "\($0.worker)", layers: $0.layers)
        }
        effects.append(.trace(.epoch(epoch, stages)))
    }

    mutating func stepFailed(_ epoch: Epoch, _ failure: Failure, _ worker: PeerKey, _ now: Instant, _ effects: inout [Effect]) {
        guard let replica = replica(of: worker, in: epoch, &effects) else { return }
        guard failure.code == .frameLost else { return strike(worker, failure, now, &effects) }
        metrics.faults.stageLinksLost += 1
        recover(replica, failure.message, now, &effects)
    }

    mutating func takeSequenceID() -> SequenceID {
        defer { nextSequence += 1 }
        return SequenceID(nextSequence)
    }
}
