import ClusterCore
import Logging
import Testing
import ZeroMQ

@testable import Gateway

extension OverHTTP {
    /// The whole way: HTTP, the link's thread, CURVE, frames, a coordinator on a socket of its own.
    @Suite struct LinkThreadTests {
        private func server(_ coordinator: WireCoordinator, keys: CurveKeyPair, coordinatorKey: CurvePublicKey? = nil) throws -> GatewayServer {
            var configuration = GatewayConfiguration(
                coordinatorEndpoint: coordinator.endpoint, coordinatorKey: coordinatorKey ?? coordinator.keys.publicKey, keys: keys, name: "g1")
            configuration.port = 0
            var logger = Logger(label: "gateway-test")
            logger.logLevel = .critical
            return try GatewayServer(configuration: configuration, logger: logger)
        }

        @Test func aRequestGoesTheWholeWay() async throws {
            let keys = try CurveKeyPair.generate()
            let coordinator = try await WireCoordinator(admitting: keys.publicKey) { $0.says("Hello") }
            let server = try server(coordinator, keys: keys)
            let running = Task { try await server.run() }
            let port = try await server.listeningPort()
            try await eventually("for health") { server.health.isServing }
            let reply = try await exchange(port, "POST", "/v1/completions", #"{"prompt":"a","seed":5}"#)
            #expect(try value(reply.body, "choices.0.text") == "Hello")
            running.cancel()
            try await running.value
            #expect(coordinator.heard.contains { if case .gatewayHello(let hello) = $0 { hello.name == "g1" } else { false } })
            try await eventually("for goodbye") { coordinator.heard.contains(.leaving) }
            coordinator.end()
            try await eventually { coordinator.hasEnded }
        }

        @Test func aDisconnectReachesTheCoordinator() async throws {
            let keys = try CurveKeyPair.generate()
            let coordinator = try await WireCoordinator(admitting: keys.publicKey) { _ in [] }
            let server = try server(coordinator, keys: keys)
            let running = Task { try await server.run() }
            let port = try await server.listeningPort()
            try await eventually { server.health.isServing }
            let client = try TestClient(port: port)
            try client.request("POST", "/v1/completions", body: Array(#"{"prompt":"a","stream":true}"#.utf8))
            func submitted() -> RequestID? {
                coordinator.heard.lazy.compactMap { if case .submit(let request) = $0 { request.id } else { nil } }.first
            }
            try await eventually { submitted() != nil }
            client.breakOff()
            try await eventually("for the cancel") { coordinator.heard.contains(.cancel(submitted()!)) }
            running.cancel()
            try await running.value
            coordinator.end()
        }

        @Test func aGatewayWithoutACoordinatorStartsAndEnds() async throws {
            let keys = try CurveKeyPair.generate()
            let coordinator = try await WireCoordinator(admitting: keys.publicKey) { _ in [] }
            // Another coordinator than the one it was enrolled at: the handshake never succeeds.
            let server = try server(coordinator, keys: keys, coordinatorKey: CurveKeyPair.generate().publicKey)
            let running = Task { try await server.run() }
            let port = try await server.listeningPort()
            #expect(try await exchange(port, "GET", "/health").status == 503)
            running.cancel()
            try await running.value
            #expect(coordinator.heard.isEmpty)
            coordinator.end()
        }

        /// Its key was revoked, or never admitted: its clients are told and it ends, rather than keep them waiting.
        @Test func aGatewayThatIsShutOutEndsAndSaysWhy() async throws {
            let coordinator = try await WireCoordinator(admitting: try CurveKeyPair.generate().publicKey) { _ in [] }
            let server = try server(coordinator, keys: CurveKeyPair.generate())
            let error = await #expect(throws: GatewayError.self) { try await server.run() }
            #expect(error?.code == .link && error?.message.contains("revoked") == true)
            #expect(coordinator.heard.isEmpty)
            coordinator.end()
        }

        /// It can't read the answer, but sees from its header why.
        @Test func aGatewayOfAnotherMajorEndsAndSaysWhy() async throws {
            let keys = try CurveKeyPair.generate()
            let coordinator = try await WireCoordinator(admitting: keys.publicKey, major: ProtocolVersion.current.major + 1) { _ in [] }
            let server = try server(coordinator, keys: keys)
            let error = await #expect(throws: GatewayError.self) { try await server.run() }
            #expect(error?.code == .link && error?.message.contains("protocol \(ProtocolVersion.current.major + 1)") == true, "\(String(describing: error))")
            coordinator.end()
        }
    }
}
