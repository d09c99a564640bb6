// Stages that stream their weights from disk.

extension Coordinator {
    /// How long a decode step of this plan takes as far as its stages are bound by their disks; 0 where nothing is streamed.
    func streamedStepSeconds(_ plan: Plan) -> Double {
        let cost = StageCost(model: configuration.model, demand: demand)
        let layerCount = configuration.model.layerBytes.count
        return plan.stages.reduce(0) { sum, stage in
            guard let worker = membership.workers[stage.worker] else { return sum }
            return sum + cost.diskSeconds(streamer(worker), stage.layers, hasHead: stage.layers.upperBound == layerCount)
        }
    }

    /// What a worker whose weights are bounded needs while it changes from some layers to others: its old weights go before the new ones come. `nil`
    /// for other workers.
    func streamedHandoverBytes(
        _ worker: WorkerMember, _ old: Range<Int>, _ new: Range<Int>, _ cost: StageCost, blocks: Int
    ) -> UInt64? {
        guard worker.hello.capabilities.weightsMemoryBytes > 0 else { return nil }
        let layerCount = configuration.model.layerBytes.count
        let fixed = [old, new].map { cost.fixedBytes(streamer(worker), $0, hasHead: $0.upperBound == layerCount) }
        return max(fixed[0], fixed[1]) + cost.kvBytes(blocks: blocks, layers: old.count + new.count)
    }

    /// As steps found it, once they did; until then as the worker found it at its start.
    func diskBytesPerSecond(of worker: WorkerMember) -> Double {
        speeds.diskRate(of: worker.key) ?? worker.hello.capabilities.diskBytesPerSecond
    }

    /// How long the workers of a hand-over may take to change over. Those whose weights are bounded read what stays in memory only then, perhaps all
    /// of them from one disk, and at half its rate.
    func changeOverMs(_ plan: Plan) -> UInt64 {
        let seconds = plan.stages.reduce(0.0) { sum, stage in
            guard let worker = membership.workers[stage.worker], worker.hello.capabilities.weightsMemoryBytes > 0 else { return sum }
            return sum + 2 * Double(worker.hello.capabilities.weightsMemoryBytes) / max(1, diskBytesPerSecond(of: worker))
        }
        let longest = Double(max(configuration.loadProgressTimeoutMs, Limits.handoverPauseMs) - Limits.handoverPauseMs)
        return Limits.handoverPauseMs + UInt64(min(seconds * 1_000, longest))
    }

    /// The worker as far as it streams.
    private func streamer(_ worker: WorkerMember) -> Planner.Candidate {
        let capabilities = worker.hello.capabilities
        var candidate = Planner.Candidate(
            key: worker.key, memoryBytes: capabilities.memoryBytes, readBytesPerSecond: capabilities.readBytesPerSecond)
        candidate.streams(beyond: capabilities.weightsMemoryBytes, bytesPerSecond: diskBytesPerSecond(of: worker))
        return candidate
    }
}
