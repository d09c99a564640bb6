import ArgumentParser
import ClusterCore
import Engine
import Foundation
import ModelFiles
import Node
import Synchronization

/// `staffel up MODEL`: keys, coordinator, workers and gateway on this machine, as child processes; Ctrl-C ends all of it.
struct UpCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "up", abstract: "Serve a model on this machine: coordinator, workers and gateway, until Ctrl-C.")

    /// The whole cluster must answer within this after its start.
    static let readyTimeoutSeconds = 600.0
    /// The same where weights that are larger than memory may have to be packed to disk first.
    static let readyStreamingTimeoutSeconds = 3_600.0
    /// Between two looks whether it serves.
    static let probeIntervalMs = 50
    /// Of the memory that is free now, for weights and KV of all workers; the rest is for everything else.
    static let memoryShare = 0.8

    @Argument(help: "A GGUF file, a Hugging Face folder, or the name of a model in the local store.")
    var model: String

    @Option(help: "How many worker processes. (default: 2)")
    var workers: Int?

    @Option(help: "Into how many pipelines the workers are divided: a number, or auto, which on one machine is one. (default: auto)")
    var replicas: String?

    @Option(help: "Port of the HTTP API. (default: 8080)")
    var port: Int?

    @Option(help: "Address of the HTTP API. (default: 127.0.0.1)")
    var host: String?

    @Option(help: "Compute threads of each worker. (default: the machine's cores, shared out)")
    var threads: Int?

    @Option(help: "Processors that the workers' threads are pinned to, shared out among the workers: a list such as 0-3,8, auto or none. (default: auto)")
    var cpus: String?

    @Option(help: "Memory of each worker for weights and KV, such as 8GiB. (default: 80 % of what is free, shared out)")
    var memory: String?

    @Option(help: "Prompt and output together, in tokens. (default: what the model was made for)")
    var contextTokens: Int?

    @Option(help: "File with one API key a line, hashed: requests without one of them are refused. (default: no key is asked for)")
    var apiKeys: String?

    @Option(help: "Write each step's way through the stages to this file, in the Chrome trace format. (default: none)")
    var trace: String?

    @Option(help: "What that file may grow to, such as 1GiB. (default: 256MiB)")
    var traceLimit: String?

    @Option(help: "Serve the coordinator's metrics on this port of 127.0.0.1, the workers' on those that follow. (default: none)")
    var metricsPort: Int?

    @OptionGroup var weights: WeightsMemoryOption
    @OptionGroup var caching: CacheOptions
    @OptionGroup var quantizing: QuantizeOption
    @OptionGroup var queueing: QueueOptions
    @OptionGroup var speculating: SpeculationOptions
    @OptionGroup var generating: GenerationConfigOptions
    @OptionGroup var common: CommonOptions

    func run() async throws {
        let settings = try await common.settings()
        let log = try common.logOutput(settings).logger("up")
        let plan = try Cluster(command: self, settings: settings)
        let interrupted = SignalWait()
        let directory = try LeasedFolder(in: NSTemporaryDirectory(), prefix: "staffel-up-")
        defer { directory.remove() }
        if !directory.removed.isEmpty {
            log.notice("removed what a killed 'staffel up' had left", metadata: ["folders": "\(directory.removed.count)"])
        }

        // A wrong size ends this command, not its children one by one.
        _ = try weights.streaming(settings, memory: plan.memoryBytes, cache: caching.packedCache(settings))
        _ = try generating.usesModelDefaults(settings)
        _ = try speculating.mode(settings)
        _ = try speculating.draft(settings, servedPath: plan.model, contextTokens: 1)
        let children = try plan.children(
            in: directory.path, passing: common.forwardedFlags, coordinator: speculating.forwardedFlags + queueing.forwardedFlags,
            workers: caching.forwardedFlags + weights.forwardedFlags, gateway: generating.forwardedFlags)
        let broken = Mutex<String?>(nil)
        let onEnd: @Sendable (ChildProcess.End) -> Void = { end in
            switch end {
            case .restarting(let name, let status):
                log.warning("child ended; starting it again", metadata: ["child": "\(name)", "status": "\(status)"])
            case .broken(let name, let status):
                broken.withLock { $0 = $0 ?? "\(name) ended with \(status) and can't be kept running: its log above says why" }
                interrupted.wake()
            }
        }
        defer { end(children) }
        for child in children { try child.start(onEnd: onEnd) }

        let started = Date.now
        let readySeconds = try weights.bytes(settings) == nil ? Self.readyTimeoutSeconds : Self.readyStreamingTimeoutSeconds
        var told = false
        while !interrupted.happened {
            if let reason = broken.withLock({ $0 }) { throw CommandFailure(reason) }
            if !told, await HealthProbe.isServing(host: plan.host, port: plan.port) {
                told = true
                for child in children { child.markServing() }
                FileHandle.standardOutput.write(Data((plan.greeting + "\n").utf8))
            }
            if !told, Date.now.timeIntervalSince(started) > readySeconds {
                throw CommandFailure("the cluster was not ready within \(Int(readySeconds)) s: its log above says what it waits for")
            }
            // Once it serves, all that may come is the end of a child or of this process.
            await interrupted.wait(milliseconds: told ? nil : Self.probeIntervalMs)
        }
        log.info("ending")
    }

    /// Gateway first, so that open streams are told; then the others, all at once.
    private func end(_ children: [ChildProcess]) {
        for child in children.reversed() { child.terminate() }
        for child in children.reversed() { child.waitUntilEnded() }
    }
}

/// What `staffel up` starts, with every number decided.
private struct Cluster {
    let model: String
    /// Where it is not the file's own.
    let modelName: String?
    let license: String
    let workers: Int
    let threads: Int
    /// For each worker: no two workers on the same processor.
    let processors: [ProcessorChoice]
    let memoryBytes: UInt64
    let host: String
    let port: Int
    let contextTokens: Int?
    let apiKeysPath: String?
    let replicas: String?
    let tracePath: String?
    let traceBytesMax: UInt64?
    let metricsPort: Int?

    init(command: UpCommand, settings: Settings) throws {
        let original = try ModelPath.resolve(command.model)
        model = try command.quantizing.path(for: original, settings, cache: command.caching.cache)
        modelName = settings.string("model-name", flag: nil) == nil ? try command.quantizing.name(of: original, settings) : nil
        let origin = try ModelOrigin(ModelOpener.open(path: model).metadata)
        license = origin.licenseLine + (origin.provenanceLine.map { ". Origin: " + $0 } ?? "")
        workers = try settings.integer("workers", flag: command.workers, in: 1...64) ?? 2
        port = try settings.integer("port", flag: command.port, in: 1...65_535) ?? 8080
        host = settings.string("host", flag: command.host) ?? "127.0.0.1"
        let cores = ProcessInfo.processInfo.activeProcessorCount
        threads = try settings.integer("threads", flag: command.threads, in: 1...1024) ?? max(1, cores / workers)
        processors = try Self.processors(settings.processors("cpus", flag: command.cpus), workers: workers, threads: threads)
        memoryBytes = try settings.bytes("memory", flag: command.memory)
            ?? UInt64(Double(MachineMemory.availableBytes) * UpCommand.memoryShare) / UInt64(workers)
        contextTokens = try settings.integer("context-tokens", flag: command.contextTokens, in: 1...(1 << 20))
        apiKeysPath = settings.string("api-keys", flag: command.apiKeys)
        guard settings.string("tls-cert", flag: nil) == nil, settings.string("tls-key", flag: nil) == nil else {
            throw ValidationError("'staffel up' serves HTTP only: for --tls-cert run coordinator, workers and gateway by themselves")
        }
        replicas = settings.string("replicas", flag: command.replicas)
        if case .exactly(let count) = try settings.replicas("replicas", flag: replicas), count > workers {
            throw ValidationError("\(count) replicas were asked for and there are \(workers) workers: each replica needs one; give more --workers")
        }
        tracePath = settings.string("trace", flag: command.trace)
        traceBytesMax = try settings.bytes("trace-limit", flag: command.traceLimit)
        metricsPort = try settings.integer("metrics-port", flag: command.metricsPort, in: 1...65_535 - workers)
        // A file that can't be written ends this command, not a child of it.
        if let tracePath { try TraceFile.check(path: tracePath) }
    }

    /// Every worker's own part of the machine; nobody is pinned where there are not enough processors for all.
    private static func processors(_ choice: ProcessorChoice, workers: Int, threads: Int) throws -> [ProcessorChoice] {
        let topology = ProcessorTopology.current()
        switch choice {
        case .unpinned: return Array(repeating: .unpinned, count: workers)
        case .automatic:
            return topology.placements(processes: workers, threads: threads)?.map { .listed($0) }
                ?? Array(repeating: .unpinned, count: workers)
        case .listed:
            let all = try choice.processors(threads: workers * threads, topology: topology)!
            return (0..<workers).map { .listed(Array(all[($0 * threads)..<(($0 + 1) * threads)])) }
        }
    }

    /// Coordinator, workers, gateway, in the order in which they start.
    func children(
        in directory: String, passing flags: [String], coordinator coordinatorFlags: [String], workers workerFlags: [String],
        gateway gatewayFlags: [String]
    ) throws -> [ChildProcess] {
        let local = try LocalCluster(directory: directory, workers: workers, endpoint: "tcp://127.0.0.1:\(FreePort.find())")
        let child = ["--exit-with-stdin"] + flags
        var coordinator = ["coordinator", "--model", model, "--state", local.coordinator, "--listen", local.endpoint,
                           "--expected-workers", "\(workers)"]
        if let modelName { coordinator += ["--model-name", modelName] }
        if let contextTokens { coordinator += ["--context-tokens", "\(contextTokens)"] }
        if let replicas { coordinator += ["--replicas", replicas] }
        if let tracePath { coordinator += ["--trace", tracePath] }
        if let metricsPort { coordinator += ["--metrics-port", "\(metricsPort)"] }
        if let traceBytesMax { coordinator += ["--trace-limit", "\(traceBytesMax)"] }
        var gateway = ["gateway", "--state", local.gateway, "--host", host, "--port", "\(port)"]
        if let apiKeysPath { gateway += ["--api-keys", apiKeysPath] }
        return [ChildProcess(name: "coordinator", arguments: coordinator + coordinatorFlags + child)]
            + local.workers.enumerated().map { number, state in
                ChildProcess(
                    name: "worker-\(number + 1)",
                    arguments: ["worker", "--state", state, "--model", model, "--name", "worker-\(number + 1)", "--threads", "\(threads)",
                                "--cpus", processors[number].text, "--memory", "\(memoryBytes)"]
                        + (metricsPort.map { ["--metrics-port", "\($0 + 1 + number)"] } ?? []) + workerFlags + child)
            }
            + [ChildProcess(name: "gateway", arguments: gateway + gatewayFlags + child)]
    }

    private var keyHeader: String { apiKeysPath == nil ? "" : #"-H "Authorization: Bearer $KEY" "# }

    var greeting: String {
        """
        Serving \(model) at http://\(host):\(port) with \(workers) worker\(workers == 1 ? "" : "s") of \(threads) thread\(threads == 1 ? "" : "s"). Try:

          curl http://\(host):\(port)/v1/chat/completions -H 'Content-Type: application/json' \(keyHeader)\\
            -d '{"messages": [{"role": "user", "content": "Hello!"}], "stream": true}'

        Licence: \(license).
        Ctrl-C ends it.
        """
    }
}
