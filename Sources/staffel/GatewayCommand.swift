import ArgumentParser
import ClusterCore
import Dispatch
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

    @Option(help: "Serve HTTPS with this certificate chain, a PEM file. Read anew when it changes, and on SIGHUP. (default: HTTP)")
    var tlsCert: String?

    @Option(help: "The certificate's key, a PEM file that only its owner may read.")
    var tlsKey: String?

    @Option(help: "For people: logs and 'staffel status'. (default: the host's name and the process id)")
    var name: String?

    @OptionGroup var generating: GenerationConfigOptions
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
        configuration.usesModelDefaults = try generating.usesModelDefaults(settings)
        configuration.apiKeysPath = settings.string("api-keys", flag: apiKeys)
        configuration.tls = try tls(settings)
        configuration.version = Staffel.version
        let server = try GatewayServer(configuration: configuration, logger: logger)
        let hangUps = Self.onHangUp { server.refreshFiles() }
        defer { hangUps.cancel() }
        try await Services.run(server, logger: logger)
    }

    private func tls(_ settings: Settings) throws -> (certificatePath: String, keyPath: String)? {
        switch (settings.string("tls-cert", flag: tlsCert), settings.string("tls-key", flag: tlsKey)) {
        case (nil, nil): return nil
        case (let certificate?, let key?): return (certificate, key)
        default: throw ValidationError("--tls-cert and --tls-key belong together: give both files, or neither for HTTP")
        }
    }

    /// SIGHUP is how operators tell a server that its certificate is new; without a handler it would end the process.
    private static func onHangUp(_ body: @escaping @Sendable () -> Void) -> any DispatchSourceSignal {
        signal(SIGHUP, SIG_IGN)
        let source = DispatchSource.makeSignalSource(signal: SIGHUP, queue: .global())
        source.setEventHandler(handler: body)
        source.resume()
        return source
    }
}
