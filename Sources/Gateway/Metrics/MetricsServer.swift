import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import ServiceLifecycle

/// `GET /metrics` for a process that has no other HTTP: a coordinator or a worker. It knows neither; it asks for text.
package final class MetricsServer: Service {
    /// Scrapers are few; whoever comes beyond waits.
    static let connectionsMax = 16
    static let headerBytesMax = 8 << 10
    static let idleConnectionMs: Int64 = 60_000

    private let host: String
    private let port: Int
    private let logger: Logger
    private let text: @Sendable () async -> [UInt8]?
    private let onListening: @Sendable (Int) -> Void

    /// - Parameters:
    ///   - text: what `/metrics` answers; `nil`: 503.
    ///   - onListening: hears the port once it is served, which tells what 0 became.
    package init(
        host: String, port: Int, logger: Logger, onListening: @escaping @Sendable (Int) -> Void = { _ in },
        text: @escaping @Sendable () async -> [UInt8]?
    ) {
        self.host = host
        self.port = port
        self.logger = logger
        self.onListening = onListening
        self.text = text
    }

    /// Serves until graceful shutdown or cancellation.
    /// - Throws: `GatewayError`, code `listen`, where the port can't be had.
    package func run() async throws {
        let decoder = HTTP1Channel.Configuration.DecoderConfiguration(
            maxHeaderFieldSize: Self.headerBytesMax, maxHeaderListSize: Self.headerBytesMax)
        var http = ApplicationConfiguration(address: .hostname(host, port: port), serverName: "staffel")
        http.availableConnectionsDelegate = .maximum(Self.connectionsMax, logger: logger)
        let logger = logger
        let onListening = onListening
        let application = Application(
            responder: MetricsResponder(text: text),
            server: .http1(configuration: .init(idleTimeout: .milliseconds(Self.idleConnectionMs), httpDecoderConfiguration: decoder)),
            configuration: http,
            onServerRunning: { channel in
                let port = channel.localAddress?.port ?? 0
                logger.info("serving metrics", metadata: ["port": "\(port)"])
                onListening(port)
            },
            logger: logger)
        do { try await application.run() } catch {
            throw GatewayError(.listen, "Metrics could not be served on \(host):\(port). Is the port taken?", cause: error)
        }
    }
}

private struct MetricsResponder: HTTPResponder {
    typealias Context = GatewayRequestContext

    let text: @Sendable () async -> [UInt8]?

    func respond(to request: Request, context: GatewayRequestContext) async throws -> Response {
        guard request.uri.path == "/metrics" else { return plain(.notFound, "Only /metrics is served here.\n") }
        guard request.method == .get || request.method == .head else { return plain(.methodNotAllowed, "Use GET.\n") }
        guard let text = await text() else { return plain(.serviceUnavailable, "The process is ending, or too many ask at once.\n") }
        let response = Response.metrics(text)
        return request.method == .head ? response.createHeadResponse() : response
    }

    private func plain(_ status: HTTPResponse.Status, _ text: String) -> Response {
        Response(status: status, headers: [.contentType: "text/plain; charset=utf-8"], body: ResponseBody(byteBuffer: ByteBuffer(string: text)))
    }
}

extension Response {
    /// Prometheus text.
    static func metrics(_ text: [UInt8]) -> Response {
        Response(
            status: .ok, headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8"], body: ResponseBody(byteBuffer: ByteBuffer(bytes: text)))
    }
}
