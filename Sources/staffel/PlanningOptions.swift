import ArgumentParser
import ClusterCore

/// What a coordinator's plans are meant for, and when it makes them anew.
struct PlanningOptions: ParsableArguments {
    @Option(help: "Rows of the decode steps for which stages are cut evenly: streams at once, divided by stages. (default: 8)")
    var planRows: Int?

    @Option(help: "Tokens of context that a stream has on average, for plans. (default: 1024)")
    var planContext: Int?

    @Option(help: "Links between hosts, for plans: GB/s and microseconds of latency. (default: 1.25,150)")
    var link: String?

    @Option(help: "When measured times show a better cut, it is made when-idle (no request is open), always or never. (default: when-idle)")
    var replan: String?

    func apply(to configuration: inout CoordinatorConfiguration, _ settings: Settings) throws {
        try Self.set(&configuration.demand, settings, rows: ("plan-rows", planRows), context: ("plan-context", planContext), link: link)
        if let text = settings.string("replan", flag: replan) {
            guard let policy = ReplanPolicy(rawValue: text) else {
                throw ValidationError("replan is '\(text)': give when-idle, always or never")
            }
            configuration.replan = policy
        }
    }

    /// What the coordinator and `staffel plan` have in common.
    static func set(
        _ demand: inout PlanDemand, _ settings: Settings, rows: (name: String, flag: Int?), context: (name: String, flag: Int?), link: String?
    ) throws {
        demand.decodeRows = try settings.integer(rows.name, flag: rows.flag, in: 1...PlanDemand.decodeRowsMax) ?? demand.decodeRows
        demand.contextMean = try settings.integer(context.name, flag: context.flag, in: 1...Limits.contextTokensMax) ?? demand.contextMean
        guard let text = settings.string("link", flag: link) else { return }
        let parts = text.split(separator: ",", omittingEmptySubsequences: false).map { Double($0) }
        guard parts.count == 2, let rate = parts[0], let latency = parts[1], (1e-6...1e6).contains(rate), (0...1e7).contains(latency) else {
            throw ValidationError("link is '\(text)': give GB/s and microseconds of latency with a comma between them, such as 1.25,150")
        }
        demand.linkBytesPerSecond = rate * 1e9
        demand.linkLatencySeconds = latency * 1e-6
    }
}
