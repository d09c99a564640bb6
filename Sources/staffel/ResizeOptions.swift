import ArgumentParser
import ClusterCore

/// What a coordinator does when workers come and go.
struct ResizeOptions: ParsableArguments {
    @Option(help: "So many workers are kept back for the next loss; all others serve, also those that join while streams run. (default: --expected-workers serve, the others stand by)")
    var standbyWorkers: Int?

    @Option(help: "How long requests wait for workers that can serve the model before they end with an error, and the first plan for workers that were expected. (default: 300)")
    var recoveryWaitSeconds: Int?

    @Option(help: "MiB in which each worker keeps the rows that it hands on, at most a 32nd of its memory: where the worker after it is lost, its successor is computed from them alone. 0: none are kept. (default: 256)")
    var boundaryCache: Int?

    func apply(to configuration: inout CoordinatorConfiguration, _ settings: Settings) throws {
        configuration.standbyWorkers = try settings.integer("standby-workers", flag: standbyWorkers, in: 0...Limits.workersMax)
        if let seconds = try settings.integer("recovery-wait-seconds", flag: recoveryWaitSeconds, in: 1...86_400) {
            configuration.recoveryWaitMs = UInt64(seconds) * 1_000
        }
        if let mebibytes = try settings.integer("boundary-cache", flag: boundaryCache, in: 0...1 << 20) {
            configuration.boundaryCacheBytes = UInt64(mebibytes) << 20
        }
    }
}
