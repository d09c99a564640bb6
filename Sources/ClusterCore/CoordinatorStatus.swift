extension Coordinator {
    /// What `staffel status` prints.
    package func status(at now: Instant) -> StatusReport {
        StatusReport(
            modelName: configuration.model.name, health: health, epoch: deployment.epoch,
            workers: membership.workers.values.map { workerStatus($0, at: now) }, gateways: membership.gateways.count,
            requestsWaiting: scheduler.waiting.count, sequencesRunning: scheduler.running.count,
            kvBlocksUsed: scheduler.allocator.total - scheduler.allocator.freeCount, kvBlocksTotal: scheduler.allocator.total,
            kvBlocksCached: scheduler.allocator.idleCount,
            stepsInFlight: scheduler.inFlight.count, stepsDone: metrics.stepsDone, tokensGenerated: metrics.generatedTokens,
            prefillPositions: scheduler.prefillPositions, prefillPositionsShared: scheduler.prefillPositionsShared,
            framesDropped: metrics.dropped.total, planning: planning)
    }

    private func workerStatus(_ worker: WorkerMember, at now: Instant) -> WorkerStatus {
        let stage = deployment.stage(of: worker.key)
        let layers = stage.flatMap { deployment.plan?.stages[$0].layers } ?? 0..<0
        return WorkerStatus(
            key: worker.key, name: worker.hello.name, capabilities: worker.hello.capabilities, layers: layers,
            state: state(of: worker, stage: stage, at: now), computeShare: computeShare(of: worker.key, at: now),
            lastStep: worker.progress.epoch == deployment.epoch ? worker.progress.lastStep : StepNumber(0))
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
        guard let since = deployment.servingSince, let stage = metrics.stages[worker] else { return 0 }
        let elapsed = now.nanoseconds(since: since)
        return elapsed == 0 ? 0 : min(1, Double(stage.computeNanoseconds) / Double(elapsed))
    }
}
