import ArgumentParser
import ClusterCore
import Gateway
import Logging
import ModelFiles
import Node
import Prompt

/// `staffel coordinator`: plan, membership, scheduling. Loads no weights.
struct CoordinatorCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "coordinator", abstract: "Run a cluster's coordinator: plan, membership, scheduling.")

    @Option(help: "A GGUF file, or the name of a model in the local store.")
    var model: String?

    @Option(help: "Where workers and gateways connect. (default: tcp://127.0.0.1:7300)")
    var listen: String?

    @Option(help: "How they reach that address, for join lines. (default: the listening address; needed when that is a wildcard)")
    var advertise: String?

    @Option(help: "Folder for keys, peers and tokens. (default: ~/.local/state/staffel/coordinator)")
    var state: String?

    @Option(help: "Make the first plan when so many workers have joined. (default: 1)")
    var expectedWorkers: Int?

    @Option(help: "Prompt and output together, in tokens. (default: what the model was made for)")
    var contextTokens: Int?

    @Option(help: "Into how many pipelines the workers are divided: a number, or auto for as many as are predicted to give the most tokens, never one machine in several. (default: auto)")
    var replicas: String?

    @Option(help: "What clients call the model. (default: the name in the model file)")
    var modelName: String?

    @Option(help: "How keys and values are kept: f16, f32 or q8_0 (8 bits). (default: f16)")
    var kvType: String?

    @Option(help: "What passes between layers: f32 or bf16. (default: f32)")
    var boundary: String?

    @Option(help: "Milliseconds between two tokens of a stream that others' prompts may cause. (default: twice what it is without them)")
    var itlBudgetMs: Int?

    @Option(help: "Whether requests share the keys and values of a common beginning: on or off. (default: on)")
    var prefixSharing: String?

    @OptionGroup var planning: PlanningOptions
    @OptionGroup var resizing: ResizeOptions
    @Option(help: "Percent of the KV memory for beginnings that nobody uses, beyond what requests needed at the busiest moment. (default: 25)")
    var prefixCachePercent: Int?

    @OptionGroup var queueing: QueueOptions
    @OptionGroup var speculating: SpeculationOptions
    @Option(help: "Write each step's way through the stages to this file, in the Chrome trace format. (default: none)")
    var trace: String?

    @Option(help: "What that file may grow to, such as 1GiB. (default: 256MiB)")
    var traceLimit: String?

    @OptionGroup var sharing: WeightOptions
    @OptionGroup var quantizing: QuantizeOption
    @OptionGroup var metrics: MetricsOptions
    @OptionGroup var child: ChildOptions
    @OptionGroup var common: CommonOptions

    func run() async throws {
        let settings = try await common.settings()
        let logger = try common.logOutput(settings).logger("coordinator")
        child.apply()
        guard let named = settings.string("model", flag: model) else {
            throw ValidationError("--model is missing: name a GGUF file, or a model in the local store")
        }
        let original = try ModelPath.resolve(named)
        let path = try quantizing.path(for: original, settings, cache: nil)
        let kvType = try Self.kvType(settings.string("kv-type", flag: kvType))
        let metadata = try ModelOpener.open(path: path).metadata
        let origin = ModelOrigin(metadata)
        logger.notice(
            "licence and provenance of the model", metadata: ["licence": "\(origin.licenseLine)", "provenance": "\(origin.provenanceLine ?? "not stated")"])
        let tokenizer = try Tokenizer(metadata: metadata)
        let name = try settings.string("model-name", flag: modelName) ?? quantizing.name(of: original, settings)
        let served = try ServedModel(path: path, name: name, endTokens: tokenizer.endTokens, kvType: kvType)

        var configuration = CoordinatorConfiguration(
            session: UInt64.random(in: 1 ... .max), model: served.profile, modelPath: path,
            expectedWorkers: try settings.integer("expected-workers", flag: expectedWorkers, in: 1...Limits.workersMax) ?? 1,
            contextTokens: try settings.integer("context-tokens", flag: contextTokens, in: 1...Limits.contextTokensMax),
            parameterCount: served.parameterCount, modelBytes: served.fileBytes)
        configuration.kvType = kvType
        configuration.replicas = try settings.replicas("replicas", flag: replicas) ?? .automatic
        configuration.boundary = try Self.boundary(settings.string("boundary", flag: boundary))
        configuration.interTokenBudgetMs = try settings.integer("itl-budget-ms", flag: itlBudgetMs, in: 1...3_600_000).map(UInt64.init)
        if let shares = try Self.onOrOff("prefix-sharing", settings.string("prefix-sharing", flag: prefixSharing)) {
            configuration.sharesPrefixes = shares
        }
        if let percent = try settings.integer("prefix-cache-percent", flag: prefixCachePercent, in: 0...100) {
            configuration.prefixCachePercent = percent
        }
        if let mode = try speculating.mode(settings) { configuration.speculation = mode }
        try planning.apply(to: &configuration, settings)
        try queueing.apply(to: &configuration, settings)
        try resizing.apply(to: &configuration, settings)
        var nodeSettings = CoordinatorSettings(
            state: try StateDirectory(path: settings.string("state", flag: state) ?? StatePath.standard("coordinator")),
            listen: try settings.endpoint("listen", flag: listen) ?? "tcp://127.0.0.1:7300",
            advertise: try settings.endpoint("advertise", flag: advertise), configuration: configuration)
        nodeSettings.weightServer = try sharing.server(settings, besides: nodeSettings.listen, advertise: nodeSettings.advertise)
        nodeSettings.trace = try Self.trace(settings, path: trace, limit: traceLimit, logger)
        nodeSettings.draftModel = try speculating.draft(settings, servedPath: path, contextTokens: configuration.contextTokens)
        let node = try CoordinatorNode(settings: nodeSettings, model: served, logger: logger)
        let metrics = try metrics.services(settings, logger: logger) { await node.status().map(ClusterMetrics.text) }
        try await Services.run(name: "coordinator", shutdown: node.shutdown, waitUntilEnded: node.waitUntilEnded, beside: metrics, logger: logger)
    }

    private static func trace(_ settings: Settings, path: String?, limit: String?, _ logger: Logger) throws -> TraceFile? {
        let bytesMax = try settings.bytes("trace-limit", flag: limit) ?? TraceFile.bytesMaxDefault
        guard let path = settings.string("trace", flag: path) else { return nil }
        return try TraceFile(path: path, bytesMax: bytesMax, logger: logger)
    }

    static func kvType(_ text: String?) throws -> KVType {
        switch text {
        case nil, "f16": .f16
        case "f32": .f32
        case "q8_0": .q8
        case let other?: throw ValidationError("kv-type is '\(other)': give f16, f32 or q8_0")
        }
    }

    static func onOrOff(_ name: String, _ text: String?) throws -> Bool? {
        switch text {
        case nil: nil
        case "on": true
        case "off": false
        case let other?: throw ValidationError("\(name) is '\(other)': give on or off")
        }
    }

    static func boundary(_ text: String?) throws -> BoundaryType {
        switch text {
        case nil, "f32": .f32
        case "bf16": .bf16
        case let other?: throw ValidationError("boundary is '\(other)': give f32 or bf16")
        }
    }
}
