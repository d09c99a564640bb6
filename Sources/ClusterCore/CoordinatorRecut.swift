// Measured times correct the plan.

extension Coordinator {
    /// What the configuration says once is not said twice.
    var demand: PlanDemand {
        var demand = configuration.demand
        demand.boundary = configuration.boundary
        if let measured = speeds.hopSeconds { demand.linkLatencySeconds = measured }
        return demand
    }

    func candidate(_ worker: WorkerMember, at now: Instant) -> Planner.Candidate {
        let capabilities = worker.hello.capabilities
        var candidate = Planner.Candidate(
            key: worker.key, memoryBytes: capabilities.memoryBytes - boundaryCacheBytes(of: worker),
            readBytesPerSecond: capabilities.readBytesPerSecond, opsPerSecond: capabilities.opsPerSecond,
            floatOpsPerSecond: capabilities.floatOpsPerSecond,
            correction: speeds.correction(of: worker.key, isComputing: fleet.replica(of: worker.key) != nil, at: now))
        candidate.rowCosts = speeds.rowCosts(of: worker.key)
        candidate.machine = capabilities.machine
        candidate.streams(beyond: capabilities.weightsMemoryBytes, bytesPerSecond: diskBytesPerSecond(of: worker))
        return candidate
    }

    func candidates(of plan: Plan, at now: Instant) -> [Planner.Candidate] {
        plan.stages.compactMap { membership.workers[$0.worker] }.map { candidate($0, at: now) }
    }

    /// Holds the plan in force against the best one for the speeds that were measured. Looked at with whatever event comes; heartbeats come
    /// several times a second. Where there are several replicas each keeps its workers; which go together is `widen`'s matter.
    mutating func considerRecut(of replica: Int, _ now: Instant, _ effects: inout [Effect]) {
        let deployment = fleet[replica].deployment
        guard case .serving(let current) = deployment.phase, fleet[replica].handover == nil,
            !fleet[replica].scheduler.isRebuilding, fleet[replica].watch.isCheckDue(configuration, at: now) else { return }
        // As in `widen`: who failed a stage lately is only used in need, and who was not expected stands by for one that is lost.
        let isNarrow = configuration.replicas == .exactly(1) && current.stages.count < configuration.expectedWorkers
        let usable = membership.candidates(at: now).filter {
            deployment.stage(of: $0.key) != nil || isNarrow && membership.strikes[$0.key] == nil
        }
        let solution = Planner.solve(
            model: configuration.model, workers: usable.map { candidate($0, at: now) }, contextTokens: configuration.contextTokens,
            kvBlocksMax: configuration.kvBlocksMax, demand: demand, ordersTriedMax: Self.ordersTriedWhileServing)
        let known = PlanForecast(plan: current, model: configuration.model, workers: candidates(of: current, at: now), demand: demand)
        fleet[replica].watch.refresh(known)
        guard case .success(let best) = solution else { return }
        fleet[replica].watch.compare(best.plan, gain: known.longestSeconds / best.longestSeconds - 1, configuration, at: now)
        guard fleet[replica].watch.isRecutDue(configuration, at: now), mayRecut, let better = fleet[replica].watch.better else { return }
        fleet[replica].watch.noteRecut(configuration, at: now)
        log(
            .notice, "cutting the layers anew",
            [.init("epoch", deployment.epoch.value), .init("gain_percent", percent(better.gain)), .init("plan", words(better.plan))], &effects)
        // A hand-over is no pause to anybody and keeps beginnings that were computed; only loading anew gives the memory for more KV blocks.
        let isRoomier = Double(better.plan.kvBlocks) >= Double(current.kvBlocks) * configuration.recutBlocksGain
        if !requests.isEmpty || !isRoomier, beginHandover(of: replica, to: better.plan, reason: "measured times", now, &effects) { return }
        endEpoch(of: replica, now)
        assign([better.plan], now, &effects)
    }

    /// Steps wait meanwhile.
    private static let ordersTriedWhileServing = 16

    private var mayRecut: Bool {
        switch configuration.replan {
        case .never: false
        case .whenIdle: requests.isEmpty
        case .always: true
        }
    }

    // MARK: - Words

    private func percent(_ share: Double) -> Int { Int((min(share, 1e6) * 100).rounded()) }

    func name(_ worker: PeerKey) -> String { membership.workers[worker]?.hello.name ?? "\(worker)" }

    private func words(_ plan: Plan) -> String {
        plan.stages.map { "\($0.layers.lowerBound)-\($0.layers.upperBound - 1) on \(name($0.worker))" }.joined(separator: ", ")
    }

    /// What `staffel status` says of the plan beside what is measured, of the first replica that serves; `nil` while nothing serves.
    var planning: PlanningStatus? {
        guard let replica = fleet.serving.first, let forecast = fleet[replica].watch.forecast else { return nil }
        let watch = fleet[replica].watch
        let isMeasured = watch.intervals.steps > 0
        let expected = forecast.throughput(streams: forecast.demand.decodeRows * forecast.plan.stages.count)
        return PlanningStatus(
            stages: forecast.stages.enumerated().map { index, stage in
                let pace = watch.stages[index]
                let rows = isMeasured ? Int(watch.rowsMean.rounded()) : expected.rows
                return PlanningStatus.Stage(
                    worker: stage.worker, correction: forecast.workers[index].factor(rows: rows),
                    predictedSeconds: isMeasured ? pace.predicted / pace.steps : stage.decode.total,
                    measuredSeconds: isMeasured ? pace.measured / pace.steps : 0)
            },
            rows: isMeasured ? watch.rowsMean : Double(expected.rows),
            predictedTokensPerSecond: isMeasured ? watch.predictedTokensPerSecond : expected.tokensPerSecond,
            measuredTokensPerSecond: watch.tokensPerSecond, bottleneck: words(forecast.bottleneck(), of: forecast), betterCut: betterCut(watch))
    }

    private func words(_ bottleneck: PlanForecast.Bottleneck, of forecast: PlanForecast) -> String {
        guard let stage = bottleneck.stage else { return "the links between stages" }
        return "stage \(stage) (\(name(forecast.stages[stage].worker))): \(bottleneck.cause.words)"
    }

    private func betterCut(_ watch: PlanWatch) -> String {
        guard let better = watch.better else { return "" }
        let what = "\(words(better.plan)), predicted +\(percent(better.gain)) %; "
        return switch configuration.replan {
        case .never: what + "not made, because replan is never"
        case .whenIdle: what + "made when no request is open"
        case .always: what + "made when it has been better for \(configuration.recutSustainMs / 1_000) s"
        }
    }
}

extension PlanForecast.Cause {
    /// For a person.
    package var words: String {
        switch self {
        case .disk: "the disk that weights are streamed from"
        case .bandwidth: "memory bandwidth (reading its weights takes longest)"
        case .arithmetic: "arithmetic (the products of its weights take longest)"
        case .attention: "attention (the keys and values of long contexts take longest)"
        case .overhead: "overhead (its layers are too small to matter)"
        case .wire: "the link between stages"
        case .memory: "memory (with more of it on other hosts it would have fewer layers)"
        }
    }
}
