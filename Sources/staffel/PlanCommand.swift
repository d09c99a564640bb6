import ArgumentParser
import ClusterCore
import Foundation
import ModelFiles
import Node

/// `staffel plan MODEL --hosts …`: how a coordinator would cut a model over these hosts, and what that is predicted to do. Starts nothing and
/// reads the model's header only.
struct PlanCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "plan", abstract: "Show how a model would be cut over hosts, and what that is predicted to do.",
        discussion: """
            A host is \(PlanHost.form): memory for weights and KV, and what 'staffel status' shows as READ and COMPUTE of \
            a worker there, all threads together. A YAML file has a list 'hosts' of such texts, a JSON file the same, or objects with the \
            fields below, or what 'staffel status --json' printed. A TOML file (or one of any other name) looks like this:

            \(HostFile.example.split(separator: "\n", omittingEmptySubsequences: false).map { "    " + $0 }.joined(separator: "\n"))

            Hops are as slow as the slowest link of all hosts. Of MODEL only the header is read: the front of a GGUF file, or a folder's \
            config.json, is enough. Types with fewer bits than the file has are foretold from its tensors' shapes.
            """)

    @Argument(help: "A GGUF file, a Hugging Face folder or its config.json, or the name of a model in the local store.")
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
        let file = try FolderModel.openShapes(ModelPath.resolve(model))
        let profile = try Self.profile(file, kvType)
        var demand = PlanDemand()
        try PlanningOptions.set(&demand, settings, rows: ("rows", rows), context: ("context", context), link: link)
        if settings.string("link", flag: link) == nil { Self.setLink(&demand, hosts) }
        demand.boundary = try CoordinatorCommand.boundary(settings.string("boundary", flag: boundary))
        let contextTokens = min(
            try settings.integer("context-tokens", flag: contextTokens, in: 1...Limits.contextTokensMax) ?? profile.contextTokens,
            profile.contextTokens)
        let wish = PlanWish(
            hosts: hosts, demand: demand, contextTokens: contextTokens,
            streams: try settings.integer("streams", flag: streams, in: 1...Limits.sequencesRunningMax * Limits.stagesMax),
            promptTokens: try settings.integer("prompt-tokens", flag: promptTokens, in: 1...Limits.contextTokensMax) ?? 1_024)
        try show(file, profile, kvType, wish)
    }

    private func show(_ file: any ModelSource, _ profile: ModelProfile, _ kvType: KVType, _ wish: PlanWish) throws {
        let types = try PlanTypes(file, asItIs: profile, kvType, wish)
        switch PlanReport.made(model: profile, wish) {
        case .success(let report):
            print(json ? try types.json(beside: report.object.merging(["fits": true]) { _, new in new }) : report.text + "\n\n" + types.text)
        case .failure(let failure):
            print(json ? try types.json(beside: ["model": profile.name, "fits": false, "missing": failure.description]) : types.text)
            throw failure
        }
    }

    /// What the planner knows of a model; an outline is enough.
    static func profile(_ file: any ModelSource, _ kvType: KVType) throws -> ModelProfile {
        try ServedModel(file: file, path: file.paths[0], name: nil, endTokens: [], kvType: kvType).profile
    }

    /// A hop is as slow as the slower end; where the hosts differ, the slowest of all is a bound.
    private static func setLink(_ demand: inout PlanDemand, _ hosts: [PlanHost]) {
        let rates = hosts.map { $0.linkBytesPerSecond ?? demand.linkBytesPerSecond }
        let latencies = hosts.map { $0.linkLatencySeconds ?? demand.linkLatencySeconds }
        demand.linkBytesPerSecond = rates.min() ?? demand.linkBytesPerSecond
        demand.linkLatencySeconds = latencies.max() ?? demand.linkLatencySeconds
    }
}
