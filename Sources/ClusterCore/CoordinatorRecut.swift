// Measured times correct the plan.

extension Coordinator {
    /// What the configuration says once is not said twice.
    var demand: PlanDemand {
        var demand = configuration.demand
        demand.boundary = configuration.boundary
        return demand
    }

    func candidate(_ worker: WorkerMember, at now: Instant) -> Planner.Candidate {
        let capabilities = worker.hello.capabilities
        return Planner.Candidate(
            key: worker.key, memoryBytes: capabilities.memoryBytes, readBytesPerSecond: capabilities.readBytesPerSecond,
            opsPerSecond: capabilities.opsPerSecond, floatOpsPerSecond: capabilities.floatOpsPerSecond,
            correction: watch.correction(of: worker.key, isComputing: deployment.stage(of: worker.key) != nil, at: now))
    }

    func candidates(of plan: Plan, at now: Instant) -> [Planner.Candidate] {
        plan.stages.compactMap { membership.workers[$0.worker] }.map { candidate($0, at: now) }
    }

    /// Holds the plan in force against the best one for the speeds that were measured. Looked at with whatever event comes; heartbeats come
    /// several times a second.
    mutating func considerRecut(_ now: Instant, _ effects: inout [Effect]) {
        guard case .serving(let current) = deployment.phase, watch.isCheckDue(configuration, at: now) else { return }
        // As in `widen`: who failed a stage lately is only used in need, and who was not expected stands by for one that is lost.
        let isNarrow = current.stages.count < configuration.expectedWorkers
        let usable = membership.candidates(at: now).filter {
            deployment.stage(of: $0.key) != nil || isNarrow && membership.strikes[$0.key] == nil
        }
        let solution = Planner.solve(
            model: configuration.model, workers: usable.map { candidate($0, at: now) }, contextTokens: configuration.contextTokens,
            kvBlocksMax: configuration.kvBlocksMax, demand: demand, ordersTriedMax: Self.ordersTriedWhileServing)
        guard case .success(let best) = solution else { return }
        let known = PlanForecast(plan: current, model: configuration.model, workers: candidates(of: current, at: now), demand: demand)
        watch.compare(best.plan, gain: known.longestSeconds / best.longestSeconds - 1, configuration, at: now)
        guard watch.isRecutDue(configuration, at: now), mayRecut, let better = watch.better else { return }
        watch.noteRecut(configuration, at: now)
        log(
            .notice, "cutting the layers anew",
            [.init("epoch", deployment.epoch.value), .init("gain_percent", percent(better.gain)), .init("plan", words(better.plan))], &effects)
        endEpoch(now)
        assign(better.plan, now, &effects)
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

    private func name(_ worker: PeerKey) -> String { membership.workers[worker]?.hello.name ?? "\(worker)" }

    private func words(_ plan: Plan) -> String {
        plan.stages.map { "\($0.layers.lowerBound)-\($0.layers.upperBound - 1) on \(name($0.worker))" }.joined(separator: ", ")
    }

    /// What `staffel status` says of the plan beside what is measured; `nil` while nothing serves.
    var planning: PlanningStatus? {
        guard deployment.isServing, let forecast = watch.forecast else { return nil }
        let isMeasured = watch.intervals.steps > 0
        let expected = forecast.throughput(streams: forecast.demand.decodeRows * forecast.plan.stages.count)
        return PlanningStatus(
            stages: forecast.stages.enumerated().map { index, stage in
                let pace = watch.stages[index]
                return PlanningStatus.Stage(
                    worker: stage.worker, correction: forecast.workers[index].correction,
                    predictedSeconds: isMeasured ? pace.predicted / pace.steps : stage.decode.total,
                    measuredSeconds: isMeasured ? pace.measured / pace.steps : 0)
            },
            rows: isMeasured ? watch.rowsMean : Double(expected.rows),
            predictedTokensPerSecond: isMeasured ? watch.predictedTokensPerSecond : expected.tokensPerSecond,
            measuredTokensPerSecond: watch.tokensPerSecond, bottleneck: words(forecast.bottleneck(), of: forecast), betterCut: betterCut)
    }

    private func words(_ bottleneck: PlanForecast.Bottleneck, of forecast: PlanForecast) -> String {
        guard let stage = bottleneck.stage else { return "the links between stages" }
        return "stage \(stage) (\(name(forecast.stages[stage].worker))): \(bottleneck.cause.words)"
    }

    private var betterCut: String {
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
        case .bandwidth: "memory bandwidth (reading its weights takes longest)"
        case .arithmetic: "arithmetic (the products of its weights take longest)"
        case .attention: "attention (the keys and values of long contexts take longest)"
        case .overhead: "overhead (its layers are too small to matter)"
        case .wire: "the link between stages"
        case .memory: "memory (with more of it on other hosts it would have fewer layers)"
        }
    }
}
