extension Coordinator {
    /// What `staffel status` prints.
    package func status(at now: Instant) -> StatusReport {
        var report = StatusReport(
            modelName: configuration.model.name, health: health, epoch: fleet.highestEpochInForce,
            workers: membership.workers.values.map { workerStatus($0, at: now) }, gateways: membership.gateways.count,
            requestsWaiting: backlog.count + sum { $0.waiting.count }, sequencesRunning: sum { $0.running.count },
            kvBlocksUsed: sum { $0.allocator.total - $0.allocator.freeCount }, kvBlocksTotal: sum { $0.allocator.total },
            kvBlocksCached: sum { $0.allocator.idleCount },
            stepsInFlight: sum { $0.inFlight.count }, stepsDone: metrics.stepsDone, tokensGenerated: metrics.generatedTokens,
            prefillPositions: sum { $0.prefillPositions }, prefillPositionsShared: sum { $0.prefillPositionsShared },
            framesDropped: metrics.dropped.total, tenants: line.status, expectedWaitMs: expectedWaitMs(),
            preemptions: sum { $0.preemptions }, displacements: sum { $0.displacements }, replicas: fleet.inForce.map { replicaStatus($0) })
        report.draftsLookedUp = DraftCounts(
            proposed: sum { $0.speculation.lookups.proposed }, accepted: sum { $0.speculation.lookups.accepted })
        report.draftsModelled = DraftCounts(
            proposed: sum { $0.speculation.modelled.proposed }, accepted: sum { $0.speculation.modelled.accepted })
        report.pipeline = pipelineReport(at: now)
        report.planning = planning
        report.kvBlocksShared = sum { $0.allocator.sharedCount }
        report.promptTokens = metrics.promptTokens
        report.requestsFinished = metrics.requestsFinished
        report.requestsCancelled = metrics.requestsCancelled
        report.requestsFailed = metrics.requestsFailed.values.reduce(0, +)
        report.recoveries = metrics.recoveries
        report.recoveryNanoseconds = metrics.recoveryNanoseconds
        report.lastRecoveryNanoseconds = metrics.lastRecoveryNanoseconds
        report.rebuilds = fleet.replicas.reduce(RebuildCounts()) { $0 + $1.scheduler.rebuildCounts }
        report.faults = metrics.faults
        report.handovers = metrics.handovers
        report.handovers.positionsRecomputed = sum { $0.positionsRecomputed }
        return report
    }

    /// All replicas' pipelines side by side; one that was and is no more still counts in what is since the coordinator's start.
    private func pipelineReport(at now: Instant) -> PipelineReport {
        let reports = fleet.replicas.map { $0.account.report(at: now, isIdle: $0.scheduler.inFlight.isEmpty) }
        return reports.dropFirst().reduce(into: reports[0]) { $0.add($1) }
    }

    /// Over all replicas' schedulers.
    private func sum<Number: AdditiveArithmetic>(_ part: (Scheduler) -> Number) -> Number {
        fleet.replicas.reduce(.zero) { $0 + part($1.scheduler) }
    }

    private func replicaStatus(_ index: Int) -> ReplicaStatus {
        let (deployment, scheduler) = (fleet[index].deployment, fleet[index].scheduler)
        return ReplicaStatus(
            index: index, epoch: deployment.epoch, isServing: deployment.isServing, sequencesRunning: scheduler.running.count,
            sequencesWaiting: scheduler.waiting.count,
            prefillRowsPending: scheduler.pendingPrefillRows,
            kvBlocksUsed: scheduler.allocator.total - scheduler.allocator.freeCount, kvBlocksTotal: scheduler.allocator.total,
            stepsInFlight: scheduler.inFlight.count)
    }

    private func workerStatus(_ worker: WorkerMember, at now: Instant) -> WorkerStatus {
        let replica = fleet.replica(of: worker.key)
        let deployment = replica.map { fleet[$0].deployment } ?? Deployment()
        let stage = deployment.stage(of: worker.key)
        let layers = stage.flatMap { deployment.plan?.stages[$0].layers } ?? 0..<0
        var status = WorkerStatus(
            key: worker.key, name: worker.hello.name, capabilities: worker.hello.capabilities, layers: layers,
            state: state(of: worker, stage: stage, in: deployment, at: now),
            computeShare: computeShare(of: worker.key, replica: replica, at: now),
            lastStep: worker.progress.epoch == deployment.epoch ? worker.progress.lastStep : StepNumber(0), replica: replica)
        if status.capabilities.weightsMemoryBytes > 0 { status.capabilities.diskBytesPerSecond = diskBytesPerSecond(of: worker) }
        if replica == nil { status.held = worker.progress.held }
        if let stage, case .loading(_, let stages) = deployment.phase { status.loadedShare = stages[stage].share }
        return status
    }

    private func state(of worker: WorkerMember, stage: Int?, in deployment: Deployment, at now: Instant) -> String {
        guard let stage else {
            if worker.drain != nil { return "drained" }
            if fleet.replica(handingOverWith: worker.key) != nil { return "joining" }
            if membership.stuck[worker.key] != nil { return "stuck" }
            return membership.strikes[worker.key].map { $0.suspendedUntil > now } == true ? "suspended" : "standby"
        }
        switch deployment.phase {
        case .loading(_, let stages): return stages[stage].isDone ? "loaded" : "loading"
        case .proving: return "loaded"
        case .serving:
            if worker.drain?.isWanted == true { return "draining" }
            let isSlow = worker.slowAt.map { $0.advanced(milliseconds: Limits.slowWorkerShownMs) > now } ?? false
            return isSlow ? "slow" : "serving"
        case .idle: return "standby"
        }
    }

    private func computeShare(of worker: PeerKey, replica: Int?, at now: Instant) -> Double {
        guard let replica, let since = fleet[replica].deployment.servingSince,
            let nanoseconds = fleet[replica].account.computeNanoseconds(of: worker)
        else { return 0 }
        let elapsed = now.nanoseconds(since: since)
        return elapsed == 0 ? 0 : min(1, Double(nanoseconds) / Double(elapsed))
    }
}
