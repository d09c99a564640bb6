import ArgumentParser
import ClusterCore
import Foundation
import Node

/// `staffel plan MODEL --hosts …`: how a coordinator would cut a model over these hosts, and what that is predicted to do. Starts nothing and
/// reads the model's header only.
struct PlanCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "plan", abstract: "Show how a model would be cut over hosts, and what that is predicted to do.",
        discussion: """
            A host is \(PlanHost.form): memory for weights and KV, and what 'staffel status' shows as READ and COMPUTE of \
            a worker there, all threads together. A YAML file has a list 'hosts' of such texts, a JSON file the same, or what \
            'staffel status --json' printed.
            """)

    @Argument(help: "A GGUF file, or the name of a model in the local store.")
    var model: String

    @Option(parsing: .upToNextOption, help: "Hosts (\(PlanHost.form)), or files of them (.yaml, .json).")
    var hosts: [String] = []

    @Option(help: "Rows of the decode steps for which stages are cut evenly: streams at once, divided by stages. (default: 8)")
    var rows: Int?

    @Option(help: "Tokens of context that a stream has on average. (default: 1024)")
    var context: Int?

    @Option(help: "Prompt and output together, in tokens: KV memory must hold one such sequence. (default: what the model was made for)")
    var contextTokens: Int?

    @Option(help: "Streams at once for the second rate. (default: the rows of a step, for each stage)")
    var streams: Int?

    @Option(help: "Prompt whose time to first token is predicted. (default: 1024)")
    var promptTokens: Int?

    @Option(help: "Links between hosts: GB/s and microseconds of latency. (default: 1.25,150)")
    var link: String?

    @Option(help: "What passes between layers: f32 or bf16. (default: f32)")
    var boundary: String?

    @Option(help: "How keys and values are kept: f16, f32 or q8_0 (8 bits). (default: f16)")
    var kvType: String?

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var common: CommonOptions

    func run() async throws {
        let settings = try await common.settings()
        let words = hosts.isEmpty ? settings.string("hosts", flag: nil).map { [$0] } ?? [] : hosts
        let hosts = try await HostList.read(words)
        let kvType = try CoordinatorCommand.kvType(settings.string("kv-type", flag: kvType))
        let served = try ServedModel(path: ModelPath.resolve(model), name: nil, endTokens: [], kvType: kvType)
        var demand = PlanDemand()
        try PlanningOptions.set(&demand, settings, rows: ("rows", rows), context: ("context", context), link: link)
        demand.boundary = try CoordinatorCommand.boundary(settings.string("boundary", flag: boundary))
        let contextTokens = min(
            try settings.integer("context-tokens", flag: contextTokens, in: 1...Limits.contextTokensMax) ?? served.profile.contextTokens,
            served.profile.contextTokens)
        let report = try PlanReport(
            model: served.profile, hosts: hosts, demand: demand, contextTokens: contextTokens,
            streams: settings.integer("streams", flag: streams, in: 1...Limits.sequencesRunningMax * Limits.stagesMax),
            promptTokens: settings.integer("prompt-tokens", flag: promptTokens, in: 1...Limits.contextTokensMax) ?? 1_024)
        print(json ? try report.json() : report.text)
    }
}
