import ArgumentParser
import ClusterCore
import Foundation
import Gateway
import Node

/// `staffel gateway`: the HTTP API.
struct GatewayCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "gateway", abstract: "Run a gateway: the OpenAI-style HTTP API.")

    @OptionGroup var joining: JoinOptions

    @Option(help: "Address to serve HTTP on. (default: 127.0.0.1)")
    var host: String?

    @Option(help: "Port to serve HTTP on. (default: 8080)")
    var port: Int?

    @Option(help: "What clients may call the model, separated by commas. (default: the coordinator's name for it)")
    var servedModelName: String?

    @Option(help: "File with one API key a line, hashed, and its share of the cluster: requests without one of them are refused. (default: no key is asked for)")
    var apiKeys: String?

    @Option(help: "For people: logs and 'staffel status'. (default: the host's name and the process id)")
    var name: String?

    @OptionGroup var child: ChildOptions
    @OptionGroup var common: CommonOptions

    func run() async throws {
        let settings = try await common.settings()
        let logger = try common.logOutput(settings).logger("gateway")
        child.apply()
        let name = settings.string("name", flag: name) ?? "\(ProcessInfo.processInfo.hostName)-\(getpid())"
        let membership = try joining.membership(settings, role: .gateway, name: name)
        var configuration = GatewayConfiguration(
            coordinatorEndpoint: membership.enrolment.endpoint, coordinatorKey: membership.enrolment.coordinatorKey.curve,
            keys: membership.keys, name: name)
        configuration.host = settings.string("host", flag: host) ?? "127.0.0.1"
        configuration.port = try settings.integer("port", flag: port, in: 0...65_535) ?? 8080
        configuration.servedModelNames = (settings.string("served-model-name", flag: servedModelName) ?? "")
            .split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
        configuration.apiKeysPath = settings.string("api-keys", flag: apiKeys)
        configuration.version = Staffel.version
        try await Services.run(GatewayServer(configuration: configuration, logger: logger), logger: logger)
    }
}
