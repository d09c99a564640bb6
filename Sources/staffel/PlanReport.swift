import ClusterCore
import Foundation

/// What a plan is asked for, beside the model.
struct PlanWish {
    var hosts: [PlanHost]
    var demand: PlanDemand
    /// Positions of one stream at most.
    var contextTokens: Int
    /// Streams at once; nil: the rows of a step, for each stage.
    var streams: Int?
    /// Whose time to the first token is told.
    var promptTokens: Int
}

/// A plan over hosts that are only described, with its forecast.
struct PlanReport {
    private let model: ModelProfile
    private let hosts: [PlanHost]
    private let contextTokens: Int
    private let streams: Int
    private let promptTokens: Int
    private let solution: Planner.Solution
    private let forecast: PlanForecast
    private let bottleneck: PlanForecast.Bottleneck
    /// As many pipelines as are predicted to be best, and the tokens a second of one and of these.
    private let replicas: (plans: [Plan], one: Double, all: Double)

    /// Fails with what is missing when nothing fits.
    static func made(model: ModelProfile, _ wish: PlanWish) -> Result<PlanReport, CommandFailure> {
        Result { () throws(CommandFailure) in try PlanReport(model: model, wish) }
    }

    private init(model: ModelProfile, _ wish: PlanWish) throws(CommandFailure) {
        let (hosts, demand, contextTokens, streams, promptTokens) = (wish.hosts, wish.demand, wish.contextTokens, wish.streams, wish.promptTokens)
        self.model = model
        self.hosts = hosts
        self.contextTokens = contextTokens
        self.promptTokens = promptTokens
        func solve(_ workers: [Planner.Candidate]) -> Result<Planner.Solution, Failure> {
            Planner.solve(
                model: model, workers: workers, contextTokens: contextTokens, kvBlocksMax: CoordinatorConfiguration.kvBlocksMaxDefault,
                demand: demand)
        }
        let workers = hosts.enumerated().map { index, host in
            var worker = Planner.Candidate(
                key: Self.key(index), memoryBytes: host.memoryBytes, readBytesPerSecond: host.readBytesPerSecond, opsPerSecond: host.opsPerSecond)
            if let streaming = host.streaming { worker.streams(beyond: streaming.weightsMemoryBytes, bytesPerSecond: streaming.diskBytesPerSecond) }
            return worker
        }
        switch solve(workers) {
        case .success(let found): solution = found
        case .failure(let failure): throw CommandFailure("no plan fits: \(failure.message)")
        }
        forecast = PlanForecast(plan: solution.plan, model: model, workers: workers, demand: demand)
        self.streams = streams ?? demand.decodeRows * solution.plan.stages.count
        let planner = ReplicaPlanner(
            model: model, contextTokens: contextTokens, kvBlocksMax: CoordinatorConfiguration.kvBlocksMaxDefault,
            batch: min(self.streams, Limits.sequencesRunningMax), demand: demand)
        let plans = (try? planner.best(of: workers, atMost: Limits.replicasMax).get()) ?? [solution.plan]
        replicas = (
            plans, planner.tokensPerSecond(of: [solution.plan], workers: workers), planner.tokensPerSecond(of: plans, workers: workers)
        )
        var roomy = workers
        for index in roomy.indices { roomy[index].memoryBytes = 1 << 60 }
        bottleneck = forecast.bottleneck(unbounded: (try? solve(roomy).get())?.longestSeconds)
    }

    /// Ascending in the order in which hosts were named, so that equal ones keep it.
    private static func key(_ index: Int) -> PeerKey {
        PeerKey(bytes: [UInt8(index >> 8), UInt8(index & 255)] + [UInt8](repeating: 0, count: PeerKey.byteCount - 2))!
    }

    private func host(_ worker: PeerKey) -> PlanHost { hosts[Int(worker.bytes[0]) << 8 | Int(worker.bytes[1])] }

    // MARK: - Text

    var text: String {
        let demand = forecast.demand
        let weights = model.layerBytes.reduce(0, +) + model.embeddingBytes + (model.headIsTied ? 0 : model.headBytes)
        var lines = [
            "\(model.name): \(model.layerBytes.count) layers, \(ByteCount(weights)) of weights packed, "
                + "KV \(ByteCount(model.kvBytesPerTokenPerLayer * UInt64(model.layerBytes.count) * 1024)) for 1024 tokens",
            "decode steps of \(demand.decodeRows) rows at \(demand.contextMean) tokens of context, links "
                + String(format: "%.2f GB/s and %.0f µs", demand.linkBytesPerSecond / 1e9, demand.linkLatencySeconds * 1e6)
                + ", rows in \(demand.boundary)",
            "",
            Self.row("STAGE", "HOST", "LAYERS", "WEIGHTS", "KV", "OF MEMORY", "DECODE", "PREFILL \(demand.prefillRows)", "BOUND BY"),
        ]
        for (index, stage) in forecast.stages.enumerated() {
            let host = host(stage.worker)
            lines.append(
                Self.row(
                    "\(index)", host.name, "\(stage.layers.lowerBound)-\(stage.layers.upperBound - 1)", "\(ByteCount(stage.weightBytes))",
                    "\(ByteCount(stage.kvBytes))", "\(ByteCount(host.memoryBytes))", Self.time(stage.decode.total), Self.time(stage.prefill.total),
                    stage.decode.largest.rawValue))
        }
        let idle = hosts.filter { host in !forecast.stages.contains { self.host($0.worker).name == host.name } }
        if !idle.isEmpty { lines.append("not used: " + idle.map(\.name).joined(separator: ", ")) }
        let (one, many) = (forecast.throughput(streams: 1), forecast.throughput(streams: streams))
        lines += [
            "",
            String(format: "1 stream: %.2f tokens/s", one.tokensPerSecond),
            "\(streams) streams: " + String(format: "%.2f tokens/s", many.tokensPerSecond) + " in \(many.groups) groups of \(many.rows)",
            "first token of a prompt of \(promptTokens): " + Self.time(forecast.firstTokenSeconds(promptTokens: promptTokens)),
            "KV for \(solution.plan.kvBlocks * Limits.positionsPerBlock) tokens in all, \(contextTokens) at most in one stream",
            "\(concurrency) streams of \(contextTokens) tokens fit at once",
            "bottleneck: " + bottleneckWords,
        ] + streamingLines + [
            "pipelines: " + replicaWords,
            quality,
        ]
        return lines.joined(separator: "\n")
    }

    /// Streams that have room for their whole context at the same time.
    var concurrency: Int {
        let blocks = (contextTokens + Limits.positionsPerBlock - 1) / Limits.positionsPerBlock
        return min(solution.plan.kvBlocks / blocks, Limits.sequencesRunningMax)
    }

    /// Tokens a second of one stream, and of `streams` together.
    var rates: (one: Double, many: Double) {
        (forecast.throughput(streams: 1).tokensPerSecond, forecast.throughput(streams: streams).tokensPerSecond)
    }

    /// Predicted to be best.
    var pipelines: Int { replicas.plans.count }

    var firstTokenSeconds: Double { forecast.firstTokenSeconds(promptTokens: promptTokens) }

    private var bottleneckWords: String {
        let turn = Self.time(bottleneck.seconds) + " of every step"
        guard let stage = bottleneck.stage else { return "the links between stages, \(turn)" }
        return "stage \(stage) (\(host(forecast.stages[stage].worker).name)), \(turn): \(bottleneck.cause.words)"
    }

    /// Of each stage that streams: what, from which disk, and so how long a step takes at least.
    private var streamingLines: [String] {
        forecast.stages.enumerated().compactMap { index, stage in
            guard stage.streamedBytes > 0, let streaming = host(stage.worker).streaming else { return nil }
            let seconds = Double(stage.streamedBytes) / streaming.diskBytesPerSecond
            return "stage \(index) streams \(ByteCount(stage.streamedBytes)) a step from a disk of "
                + String(format: "%.2f GB/s: ", streaming.diskBytesPerSecond / 1e9) + Self.time(seconds)
        }
    }

    private var replicaWords: String {
        let rate = { (value: Double) in String(format: "%.2f tokens/s", value) }
        guard replicas.plans.count > 1 else { return "one is as good as several, or more do not fit" }
        let groups = replicas.plans.map { $0.stages.map { host($0.worker).name }.joined(separator: ", ") }.joined(separator: " | ")
        return "\(replicas.plans.count) are predicted to give \(rate(replicas.all)) to \(streams) streams, one \(rate(replicas.one)): \(groups)"
    }

    private var quality: String {
        if solution.gapMax < 1e-9 { return "no cut in any order of the hosts has a shorter longest stage" }
        return String(format: "within %.2f %% of the best possible", solution.gapMax * 100)
    }

    private static func time(_ seconds: Double) -> String {
        seconds < 1 ? String(format: "%.2f ms", seconds * 1e3) : String(format: "%.2f s", seconds)
    }

    private static func row(_ cells: String...) -> String {
        let widths = [7, 18, 9, 12, 12, 12, 11, 13, 10]
        let row = zip(cells, widths).map { $0.count >= $1 ? $0 + " " : $0 + String(repeating: " ", count: $1 - $0.count) }.joined()
        return String(row.reversed().drop { $0 == " " }.reversed())
    }

    // MARK: - JSON

    var object: [String: Any] {
        let stages: [[String: Any]] = forecast.stages.map { stage in
            [
                "host": host(stage.worker).name, "layers": [stage.layers.lowerBound, stage.layers.upperBound], "weight_bytes": stage.weightBytes,
                "kv_bytes": stage.kvBytes, "streamed_bytes": stage.streamedBytes, "decode_seconds": stage.decode.total, "prefill_seconds": stage.prefill.total,
                "bound_by": stage.decode.largest.rawValue,
            ]
        }
        let many = forecast.throughput(streams: streams)
        return [
            "model": model.name, "stages": stages, "kv_blocks": solution.plan.kvBlocks, "decode_rows": forecast.demand.decodeRows,
            "tokens_per_second_one_stream": forecast.throughput(streams: 1).tokensPerSecond, "streams": streams,
            "tokens_per_second": many.tokensPerSecond, "groups": many.groups, "prompt_tokens": promptTokens,
            "first_token_seconds": forecast.firstTokenSeconds(promptTokens: promptTokens), "longest_seconds": solution.longestSeconds,
            "bound_seconds": solution.boundSeconds,
            "concurrency": concurrency, "context_tokens": contextTokens,
            "replicas": replicas.plans.map { $0.stages.map { host($0.worker).name } }, "tokens_per_second_replicas": replicas.all,
            "bottleneck": ["stage": bottleneck.stage.map { $0 as Any } ?? NSNull(), "cause": bottleneck.cause.rawValue] as [String: Any],
        ]
    }
}
