import ArgumentParser
import Gateway
import Logging
import ServiceLifecycle

/// Where a process that has no HTTP of its own serves `/metrics`. Nowhere, unless asked for.
struct MetricsOptions: ParsableArguments {
    static let hostDefault = "127.0.0.1"

    @Option(help: "Serve Prometheus metrics on this port. (default: none)")
    var metricsPort: Int?

    @Option(help: "Address to serve metrics on. (default: 127.0.0.1)")
    var metricsHost: String?

    /// The service, or none.
    func services(_ settings: Settings, logger: Logger, text: @escaping @Sendable () async -> [UInt8]?) throws -> [any Service] {
        let host = settings.string("metrics-host", flag: metricsHost) ?? Self.hostDefault
        guard let port = try settings.integer("metrics-port", flag: metricsPort, in: 0...65_535) else { return [] }
        return [MetricsServer(host: host, port: port, logger: logger, text: text)]
    }
}
