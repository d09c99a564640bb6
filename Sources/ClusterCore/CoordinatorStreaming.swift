// Stages that stream their weights from disk.

extension Coordinator {
    /// How long a decode step of this plan takes as far as its stages are bound by their disks; 0 where nothing is streamed.
    func streamedStepSeconds(_ plan: Plan) -> Double {
        let cost = StageCost(model: configuration.model, demand: demand)
        let layerCount = configuration.model.layerBytes.count
        return plan.stages.reduce(0) { sum, stage in
            guard let worker = membership.workers[stage.worker] else { return sum }
            let capabilities = worker.hello.capabilities
            var candidate = Planner.Candidate(
                key: stage.worker, memoryBytes: capabilities.memoryBytes, readBytesPerSecond: capabilities.readBytesPerSecond)
            candidate.streams(beyond: capabilities.weightsMemoryBytes, bytesPerSecond: capabilities.diskBytesPerSecond)
            return sum + cost.diskSeconds(candidate, stage.layers, hasHead: stage.layers.upperBound == layerCount)
        }
    }
}
