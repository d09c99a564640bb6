import ArgumentParser
import ClusterCore
import Engine
import Foundation
import Gateway
import Node

/// `staffel worker`: holds a stage of the model and computes it.
struct WorkerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "worker", abstract: "Run a worker: it holds a stage of the model and computes it.")

    /// Of the memory that is free at start, unless --memory says otherwise.
    static let memoryShare = 0.8
    /// See --drain-seconds.
    static let drainMs: UInt64 = 60_000

    @OptionGroup var joining: JoinOptions

    @Option(help: "Compute threads. (default: the machine's cores)")
    var threads: Int?

    @Option(help: "Processors that they are pinned to: a list such as 0-3,8 with one for each, auto (only when they fill what the process may use) or none. (default: auto)")
    var cpus: String?

    @Option(help: "Whether a processor is kept from halting between the steps of a lone stream, and rehearses the next one meanwhile: on or off. (default: on)")
    var stayAwake: String?

    @Option(help: "For weights and KV, such as 48GiB. (default: 80 % of what is free)")
    var memory: String?

    @OptionGroup var weights: WeightsMemoryOption

    @Option(help: "This box's copy of the model. (default: the path at which the coordinator has it)")
    var model: String?

    @Option(help: "Where the stage before this one connects. (default: tcp://127.0.0.1:0, any free port)")
    var dataListen: String?

    @Option(help: "How it reaches that address. (default: the listening address; needed when that is a wildcard)")
    var dataAdvertise: String?

    @Option(help: "For people: logs and 'staffel status'. (default: the host's name and the process id)")
    var name: String?

    @Option(help: "On SIGTERM or Ctrl-C, how long others may take to take this worker's layers over before it ends; a second signal ends it at once. (default: 60)")
    var drainSeconds: Int?

    @OptionGroup var fetching: FetchOptions
    @OptionGroup var sharing: WeightOptions
    @OptionGroup var caching: CacheOptions
    @OptionGroup var quantizing: QuantizeOption
    @OptionGroup var metrics: MetricsOptions
    @OptionGroup var child: ChildOptions
    @OptionGroup var common: CommonOptions

    func run() async throws {
        let settings = try await common.settings()
        let logger = try common.logOutput(settings).logger("worker")
        child.apply()
        let name = settings.string("name", flag: name) ?? "\(ProcessInfo.processInfo.hostName)-\(getpid())"
        let choice = try settings.processors("cpus", flag: cpus)
        let threads = try settings.integer("threads", flag: threads, in: 1...ComputePool.threadsMax) ?? choice.count
            ?? ProcessInfo.processInfo.activeProcessorCount
        let processors = try choice.processors(threads: threads, topology: .current())
        let memory = try settings.bytes("memory", flag: memory) ?? UInt64(Double(MachineMemory.availableBytes) * Self.memoryShare)
        let cache = try caching.packedCache(settings)
        let streaming = try weights.streaming(settings, memory: memory, cache: cache)
        let instructionSet = try InstructionSet.fromEnvironment()
        let membership = try joining.membership(settings, role: .worker, name: name)
        let capabilities = try MachineProbe.capabilities(
            threads: threads, processors: processors, memoryBytes: memory, instructionSet: instructionSet, streaming: streaming)
        logger.info(
            "measured this machine",
            metadata: [
                "threads": "\(threads)", "cpus": "\(processors.map { ProcessorChoice.listed($0).text } ?? "any")", "isa": "\(instructionSet.rawValue)", "memory_gib": "\(memory >> 30)",
                "weights_memory_mib": "\(capabilities.weightsMemoryBytes >> 20)", "disk_mb_per_s": "\(Int(capabilities.diskBytesPerSecond / 1e6))",
                "read_gb_per_s": "\(Int(capabilities.readBytesPerSecond / 1e9))", "gop_per_s": "\(Int(capabilities.opsPerSecond / 1e9))",
            ])
        // With a parent all of its children end together: there is nobody to hand over to.
        let drainMs = try settings.integer("drain-seconds", flag: drainSeconds, in: 0...86_400).map { UInt64($0) * 1_000 }
            ?? (child.exitWithStdin ? 0 : Self.drainMs)
        let path = try settings.string("model", flag: model).map {
            try quantizing.path(for: ModelPath.resolve($0), settings, cache: caching.cache)
        }
        let listen = try settings.endpoint("data-listen", flag: dataListen) ?? "tcp://127.0.0.1:0"
        let advertise = try settings.endpoint("data-advertise", flag: dataAdvertise)
        var workerSettings = WorkerSettings(
                enrolment: membership.enrolment, keys: membership.keys, session: UInt64.random(in: 1 ... .max), name: name,
                capabilities: capabilities, dataListen: listen, dataAdvertise: advertise,
                stage: StageThreadConfiguration(
                    threads: threads, processors: processors, instructionSet: instructionSet, modelPath: path, cache: cache,
                    weightsMemory: streaming?.memory,
                    staysAwake: try CoordinatorCommand.onOrOff("stay-awake", settings.string("stay-awake", flag: stayAwake)) ?? true,
                    logger: logger))
        try fetching.apply(to: &workerSettings, settings, caching: caching)
        workerSettings.weightServer = try sharing.server(settings, besides: listen, advertise: advertise)
        let node = try WorkerNode(settings: workerSettings, logger: logger)
        let metrics = try metrics.services(settings, logger: logger) { await node.report().map(WorkerMetricsText.text) }
        let signals = LeaveSignals { node.leave(withinMs: drainMs) }
        try await Services.run(
            name: "worker", shutdown: node.shutdown, waitUntilEnded: node.waitUntilEnded, beside: metrics, handlesSignals: false, logger: logger)
        withExtendedLifetime(signals) {}
    }
}
