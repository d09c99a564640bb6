// Steps go out, results come in.

extension Coordinator {
    /// Keeps as many steps on their way as the pipeline takes.
    mutating func fillPipeline(_ now: Instant, _ effects: inout [Effect]) {
        guard deployment.isServing else { return }
        while let step = scheduler.nextStep(at: now) { send(step, &effects) }
        metrics.preemptions = scheduler.preemptions
    }

    mutating func send(_ step: Step, _ effects: inout [Effect]) {
        guard let first = deployment.plan?.stages.first else { preconditionFailure("steps are formed under a plan") }
        metrics.sent(step)
        effects.append(.send(.step(step), to: first.worker))
    }

    mutating func stepReturned(_ result: StepResult, _ worker: PeerKey, _ now: Instant, _ effects: inout [Effect]) {
        guard result.epoch == deployment.epoch else { return drop(.oldEpoch, from: worker, &effects) }
        guard let plan = deployment.plan, plan.stages.last?.worker == worker else { return drop(.wrongState, from: worker, &effects) }
        switch scheduler.take(result, at: now) {
        case .unknown: drop(.unknownStep, from: worker, &effects)
        case .gap: recover("a step's result was lost", now, &effects)
        case .faulty(let fault):
            drop(.invalid, from: worker, &effects)
            strike(worker, Failure(.internalError, "the last stage \(fault)"), now, &effects)
        case .done(let step, let advances, let poisoned):
            watch.note(step, result.timings, inFlight: scheduler.inFlight.count + 1, at: now)
            if case .proving = deployment.phase { serve(plan, now, &effects) }
            account(for: step, result, now, &effects)
            for advance in advances { deliver(advance, &effects) }
            for entry in poisoned { failPoisoned(entry, &effects) }
        }
    }

    private mutating func account(for step: StepInFlight, _ result: StepResult, _ now: Instant, _ effects: inout [Effect]) {
        metrics.stepsDone += 1
        let timeline = StepTimeline(sentAt: step.sentAt, returnedAt: now, timings: result.timings)
        account.note(step, result.timings, timeline, tokens: result.tokens.count)
        guard configuration.tracesSteps else { return }
        effects.append(
            .trace(.step(StepTrace(epoch: result.epoch, number: step.number, rows: step.rowCount, decodeRows: step.decodeRows, timeline: timeline))))
    }

    func traceEpoch(_ plan: Plan, _ effects: inout [Effect]) {
        guard configuration.tracesSteps else { return }
        let stages = plan.stages.map {
            TraceEvent.Stage(worker: membership.workers[$0.worker]?.hello.name ?? "\($0.worker)", layers: $0.layers)
        }
        effects.append(.trace(.epoch(deployment.epoch, stages)))
    }

    mutating func stepFailed(_ epoch: Epoch, _ failure: Failure, _ worker: PeerKey, _ now: Instant, _ effects: inout [Effect]) {
        guard epoch == deployment.epoch else { return drop(.oldEpoch, from: worker, &effects) }
        guard deployment.stage(of: worker) != nil else { return drop(.wrongState, from: worker, &effects) }
        if failure.code == .frameLost { recover(failure.message, now, &effects) } else { strike(worker, failure, now, &effects) }
    }

    /// A step that takes far too long: the first stage that has not finished it is the suspect. If all say they have, its result was lost.
    mutating func failOverdueStep(_ now: Instant, _ effects: inout [Effect]) {
        guard let plan = deployment.plan, let deadline = scheduler.deadline, deadline <= now, let step = scheduler.inFlight.first else { return }
        let suspect = plan.stages.first { stage in
            guard let progress = membership.workers[stage.worker]?.progress else { return true }
            return progress.epoch != deployment.epoch || progress.lastStep < step.number
        }
        guard let suspect else { return recover("a step's result was lost", now, &effects) }
        strike(
            suspect.worker,
            Failure(.internalError, "a step of \(step.rowCount) rows did not come back after \(now.milliseconds(since: step.sentAt)) ms"),
            now, &effects)
    }

    mutating func takeSequenceID() -> SequenceID {
        defer { nextSequence += 1 }
        return SequenceID(nextSequence)
    }
}
