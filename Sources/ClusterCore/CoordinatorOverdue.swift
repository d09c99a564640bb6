// Steps that do not come back: where they are, what is wrong there, and what is done about it.

extension Coordinator {
    /// Looks up where the oldest step in flight is, with each heartbeat of a worker that computes.
    mutating func locateStep(after worker: PeerKey, _ now: Instant, _ effects: inout [Effect]) {
        guard let replica = fleet.replica(of: worker) else { return }
        guard let step = fleet.replicas[replica].scheduler.inFlight.first, let plan = fleet.replicas[replica].deployment.plan else {
            return fleet[replica].place = nil
        }
        let deployment = fleet.replicas[replica].deployment
        let suspect = StepSuspect(step: step.number, isFollowUp: step.isFollowUp, epoch: deployment.epoch, stages: plan.stages.map(\.worker)) {
            membership.workers[$0]?.progress
        }
        var work: UInt64?
        if case .worker(let worker) = suspect { work = membership.workers[worker]?.progress.work }
        fleet[replica].place = StepPlace(
            suspect, of: step, work: work, after: fleet.replicas[replica].place, clock: fleet.replicas[replica].scheduler.clock,
            patience: fleet.replicas[replica].patience, configuration, at: now)
        if case .worker(let worker) = suspect, work != nil { noteSlow(worker, step, in: replica, now, &effects) }
    }

    /// A worker that gets on with a step, but takes far longer for it than steps do: nothing is done about it here. Its pace weighs in the next cut
    /// (`PlanWatch`); people hear of it once in a while.
    private mutating func noteSlow(_ worker: PeerKey, _ step: StepInFlight, in replica: Int, _ now: Instant, _ effects: inout [Effect]) {
        let floorMs = min(configuration.stuckDeadlineFloorMs, configuration.stepDeadlineFloorMs)
        guard let place = fleet.replicas[replica].place, place.since == now,
            fleet.replicas[replica].scheduler.clock.isLate(step, floorMs: floorMs, at: now)
        else { return }
        membership.workers[worker]!.slowAt = now
        guard fleet.replicas[replica].lastSlowStep != step.number else { return }
        fleet[replica].lastSlowStep = step.number
        metrics.faults.stagesSlow += 1
        let told = membership.workers[worker]!.slowToldAt
        guard told.map({ $0.advanced(milliseconds: Limits.slowWorkerLogIntervalMs) <= now }) ?? true else { return }
        membership.workers[worker]!.slowToldAt = now
        log(
            .warning, "a worker is slow; its stage thread gets on",
            [
                .init("peer", worker), .init("name", name(worker)), .init("rows", step.rowCount),
                .init("ms", now.milliseconds(since: step.sentAt)),
            ], &effects)
    }

    /// A step whose place did not change for too long: whoever is at fault for it is left out, or the epoch is made anew.
    mutating func failOverdueStep(of replica: Int, _ now: Instant, _ effects: inout [Effect]) {
        // Asked first, since it is asked at each event.
        guard let place = fleet.replicas[replica].place, place.giveUpAt <= now else { return }
        guard let step = fleet.replicas[replica].scheduler.inFlight.first, step.number == place.step, isWitnessed(place) else { return }
        fleet[replica].place = nil
        let plan = fleet.replicas[replica].deployment.plan
        let what = "a step of \(step.rowCount) rows did not come back after \(now.milliseconds(since: step.sentAt)) ms"
        switch place.suspect {
        case .result:
            metrics.faults.resultsLost += 1
            recover(replica, "a step's result was lost", now, &effects)
        case .sending(let worker):
            metrics.faults.stepsNotDelivered += 1
            recover(replica, "\(what): it did not reach worker \(name(worker))", now, &effects)
        case .worker(let worker): strike(worker, place, what, now, &effects)
        case .link(let from, let to):
            metrics.faults.stageLinksLost += 1
            let failure = Failure(.frameLost, "\(what): what worker \(name(from)) computed did not reach worker \(name(to))")
            // Without follow-up steps, which the next plan has none of then, nobody needs the link from the last stage to the first.
            if linkFaults.note(from: from, to: to, at: now), !step.isFollowUp || plan?.stages.first?.worker != to {
                strike(to, failure, now, &effects)
            } else {
                recover(replica, failure.message, now, &effects)
            }
        }
    }

    private mutating func strike(_ worker: PeerKey, _ place: StepPlace, _ what: String, _ now: Instant, _ effects: inout [Effect]) {
        // Of one that does not say what it does it must be assumed; one that got on was only too slow, and counted as that.
        if place.isForStanding || place.work == nil { metrics.faults.stagesStuck += 1 }
        let still = now.milliseconds(since: place.since)
        guard place.isForStanding, place.work != nil, let member = membership.workers[worker] else {
            return strike(worker, Failure(.internalError, what), now, &effects)
        }
        // It can't load anything either: no plan counts on it until it moves.
        membership.stuck[worker] = Membership.Stuck(session: member.hello.session, said: member.progress)
        strike(
            worker, Failure(.internalError, "\(what): the stage thread of worker \(name(worker)) did nothing for the last \(still) ms"), now, &effects)
    }

    /// Whether what is known of the place is known until its end, or nearly.
    private func isWitnessed(_ place: StepPlace) -> Bool {
        guard let witness = place.witness else { return true }
        guard let member = membership.workers[witness] else { return false }
        return member.toldAt.advanced(milliseconds: 2 * configuration.heartbeatIntervalMs) >= place.giveUpAt
    }

    /// A stage thread that was stuck goes on, or its process is another one.
    mutating func unstick(_ worker: PeerKey, session: UInt64, said: Heartbeat?, _ now: Instant, _ effects: inout [Effect]) {
        guard let stuck = membership.stuck[worker], stuck.session != session || said.map(stuck.hasMoved) ?? false else { return }
        membership.stuck[worker] = nil
        fleet.lastChange = now
        fleet.triedInVain = nil
        fleet.widenedInVain = nil
        fleet.grownInVain = nil
        guard stuck.session == session else { return }
        log(.notice, "a stage thread that was stuck goes on", [.init("peer", worker), .init("name", name(worker))], &effects)
    }

    /// When the oldest step in flight of any replica is given up. One whose time has come already waits for its witness.
    var stepDeadline: Instant? {
        var deadline: Instant?
        for replica in fleet.replicas.indices {
            guard let place = fleet.replicas[replica].place, place.giveUpAt > lastHandled,
                fleet.replicas[replica].scheduler.inFlight.first?.number == place.step
            else { continue }
            deadline = min(deadline ?? place.giveUpAt, place.giveUpAt)
        }
        return deadline
    }
}
