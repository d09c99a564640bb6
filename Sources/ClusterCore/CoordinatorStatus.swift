extension Coordinator {
    /// What `staffel status` prints.
    package func status(at now: Instant) -> StatusReport {
        var report = StatusReport(
            modelName: configuration.model.name, health: health, epoch: deployment.epoch,
            workers: membership.workers.values.map { workerStatus($0, at: now) }, gateways: membership.gateways.count,
            requestsWaiting: scheduler.waiting.count, sequencesRunning: scheduler.running.count,
            kvBlocksUsed: scheduler.allocator.total - scheduler.allocator.freeCount, kvBlocksTotal: scheduler.allocator.total,
            kvBlocksCached: scheduler.allocator.idleCount,
            stepsInFlight: scheduler.inFlight.count, stepsDone: metrics.stepsDone, tokensGenerated: metrics.generatedTokens,
            prefillPositions: scheduler.prefillPositions, prefillPositionsShared: scheduler.prefillPositionsShared,
            framesDropped: metrics.dropped.total, tenants: scheduler.waiting.status, expectedWaitMs: scheduler.expectedWaitMs(),
            preemptions: scheduler.preemptions, displacements: scheduler.displacements)
        report.draftsLookedUp = scheduler.speculation.lookups
        report.pipeline = account.report(at: now, isIdle: scheduler.inFlight.isEmpty)
        report.planning = planning
        report.kvBlocksShared = scheduler.allocator.sharedCount
        report.promptTokens = metrics.promptTokens
        report.requestsFinished = metrics.requestsFinished
        report.requestsCancelled = metrics.requestsCancelled
        report.requestsFailed = metrics.requestsFailed.values.reduce(0, +)
        report.recoveries = metrics.recoveries
        report.recoveryNanoseconds = metrics.recoveryNanoseconds
        report.lastRecoveryNanoseconds = metrics.lastRecoveryNanoseconds
        return report
    }

    private func workerStatus(_ worker: WorkerMember, at now: Instant) -> WorkerStatus {
        let stage = deployment.stage(of: worker.key)
        let layers = stage.flatMap { deployment.plan?.stages[$0].layers } ?? 0..<0
        var status = WorkerStatus(
            key: worker.key, name: worker.hello.name, capabilities: worker.hello.capabilities, layers: layers,
            state: state(of: worker, stage: stage, at: now), computeShare: computeShare(of: worker.key, at: now),
            lastStep: worker.progress.epoch == deployment.epoch ? worker.progress.lastStep : StepNumber(0))
        if let stage, case .loading(_, let stages) = deployment.phase { status.loadedShare = stages[stage].share }
        return status
    }

    private func state(of worker: WorkerMember, stage: Int?, at now: Instant) -> String {
        guard let stage else {
            return membership.strikes[worker.key].map { $0.suspendedUntil > now } == true ? "suspended" : "standby"
        }
        switch deployment.phase {
        case .loading(_, let stages): return stages[stage].isDone ? "loaded" : "loading"
        case .proving: return "loaded"
        case .serving: return "serving"
        case .idle: return "standby"
        }
    }

    private func computeShare(of worker: PeerKey, at now: Instant) -> Double {
        guard let since = deployment.servingSince, let nanoseconds = account.computeNanoseconds(of: worker) else { return 0 }
        let elapsed = now.nanoseconds(since: since)
        return elapsed == 0 ? 0 : min(1, Double(nanoseconds) / Double(elapsed))
    }
}
