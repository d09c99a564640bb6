import ClusterCore
import Logging
import Prompt
import Testing
import ZeroMQ

@testable import Gateway

/// Tests with sockets run one after another: many servers at once on few cores would only wait for each other.
@Suite(.serialized) enum OverHTTP {}

/// Runs a gateway on a free port while `body` runs, then ends it.
func withGateway(
    _ cluster: ScriptedCluster, limits: GatewayLimits = GatewayLimits(), apiKeysPath: String? = nil, names: [String] = [],
    waitingForModel: Bool = true, _ body: (_ port: Int, _ server: GatewayServer) async throws -> Void
) async throws {
    let keys = try CurveKeyPair.generate()
    var configuration = GatewayConfiguration(
        coordinatorEndpoint: "tcp://127.0.0.1:1", coordinatorKey: keys.publicKey, keys: keys, name: "test")
    configuration.port = 0
    configuration.limits = limits
    configuration.apiKeysPath = apiKeysPath
    configuration.servedModelNames = names
    var logger = Logger(label: "gateway-test")
    logger.logLevel = .critical
    let server = try GatewayServer(configuration: configuration, linkOwner: cluster.owner, logger: logger)
    let running = Task { try await server.run() }
    do {
        let port = try await server.listeningPort()
        if waitingForModel { try await eventually { server.health.isServing } }
        try await body(port, server)
    } catch {
        running.cancel()
        _ = await running.result
        throw error
    }
    running.cancel()
    try await running.value
}

/// Waits until something is so that other threads make so; a failure after half a minute, never a verdict on speed.
func eventually(_ what: String = "", _ isSo: () async throws -> Bool) async throws {
    for _ in 0..<6_000 {
        if try await isSo() { return }
        try await Task.sleep(for: .milliseconds(5))
    }
    throw TestClient.Trouble(message: "waited in vain \(what)")
}

/// A whole exchange on a connection of its own.
func exchange(_ port: Int, _ method: String, _ path: String, _ json: String? = nil, headers: [String: String] = [:]) async throws -> TestClient.Reply
{
    let client = try TestClient(port: port)
    try client.request(method, path, body: Array((json ?? "").utf8), headers: headers)
    return try await client.reply()
}

/// The value at a path of keys and indices, such as "choices.0.text".
func value(_ json: String, _ path: String) throws -> TemplateValue {
    var value = try TemplateValue(json: Array(json.utf8))
    for step in path.split(separator: ".") {
        switch value {
        case .object(let object): value = object[String(step)] ?? .undefined
        case .array(let items): value = Int(step).flatMap { items.indices.contains($0) ? items[$0] : nil } ?? .undefined
        default: return .undefined
        }
    }
    return value
}

/// The payloads of a stream's data lines.
func events(_ body: String) -> [String] {
    body.split(separator: "\n", omittingEmptySubsequences: true).filter { $0.hasPrefix("data: ") }.map { String($0.dropFirst(6)) }
}
