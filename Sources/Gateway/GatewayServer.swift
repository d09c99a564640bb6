import ClusterCore
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import ServiceLifecycle
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// The gateway as a service: HTTP on one side, the coordinator on the other.
///
/// `run()` returns after graceful shutdown or cancellation, within `GatewayLimits.shutdownGraceMs` and a little: streams
/// are ended with a typed error and `[DONE]`, then connections are closed, then the link says goodbye.
package final class GatewayServer: Service {
    private let configuration: GatewayConfiguration
    private let logger: Logger
    private let keys: KeyRing?
    private let identity: TLSIdentity?
    private let link: ClusterLink
    private let linkOwner: LinkOwner
    private let metrics: GatewayMetrics
    private let connections: Connections
    private let connectionsMax: Int
    private let listening = ListeningPort()
    private let isShuttingDown = Mutex(false)

    /// - Throws: codes `configuration`, `apiKeys`. Nothing is opened yet but the key file.
    package convenience init(configuration: GatewayConfiguration, logger: Logger) throws(GatewayError) {
        let thread = try LinkThread(configuration: configuration, logger: logger)
        try self.init(configuration: configuration, linkOwner: thread.owner, logger: logger)
    }

    /// - Parameter linkOwner: who runs the link's machine; tests run it without a network.
    init(configuration: GatewayConfiguration, linkOwner: LinkOwner, logger: Logger) throws(GatewayError) {
        self.configuration = configuration
        self.linkOwner = linkOwner
        self.logger = logger
        keys = if let path = configuration.apiKeysPath { try KeyRing(path: path, logger: logger) } else { nil }
        identity = if let tls = configuration.tls {
            try TLSIdentity(certificatePath: tls.certificatePath, keyPath: tls.keyPath, logger: logger)
        } else { nil }
        let metrics = GatewayMetrics()
        self.metrics = metrics
        connectionsMax = DescriptorLimit.connections(asked: configuration.limits.connectionsMax)
        connections = Connections(max: connectionsMax) { metrics.closed(.evicted) }
        link = ClusterLink(configuration: configuration, logger: logger, post: linkOwner.post)
    }

    /// Looks at the files of keys and certificates now, rather than within `GatewayLimits.filesLookMs`.
    package func refreshFiles() {
        keys?.refresh()
        identity?.refresh()
    }

    /// The port that is served; waits until it is.
    /// - Throws: the error with which `run()` failed to listen.
    package func listeningPort() async throws -> Int { try await listening.value() }

    /// What `/health` tells.
    package var health: ClusterHealth { link.health }

    package func run() async throws {
        linkOwner.start(link)
        let application = makeApplication()
        let group = ServiceGroup(configuration: .init(services: [application], logger: logger))
        // Not a child task: cancellation must not tear the streams before they are told why they end.
        let serving = Task { try await group.run() }
        // A coordinator that refuses this gateway for good ends it.
        Task {
            await link.untilEnded()
            shutDown(group)
        }
        let looking = Task { [weak self, lookMs = configuration.limits.filesLookMs] in
            while true {
                try await Task.sleep(for: .milliseconds(lookMs))
                self?.refreshFiles()
            }
        }
        defer { looking.cancel() }
        let result = await withTaskCancellationHandler {
            await withGracefulShutdownHandler {
                await serving.result
            } onGracefulShutdown: {
                self.shutDown(group)
            }
        } onCancel: {
            self.shutDown(group)
        }
        shutDown(group)
        await linkOwner.join()
        listening.fail(GatewayError(.listen, "The gateway ended before it listened."))
        if let failure = link.endFailure {
            throw GatewayError(.link, "The coordinator refused this gateway: \(failure.message)", cause: failure)
        }
        do {
            try result.get()
        } catch {
            let address = "\(configuration.host):\(configuration.port)"
            throw GatewayError(.listen, "The gateway could not serve HTTP on \(address). Is the port taken?", cause: error)
        }
    }

    private func shutDown(_ group: ServiceGroup) {
        let isFirst = isShuttingDown.withLock { flag in
            defer { flag = true }
            return !flag
        }
        guard isFirst else { return }
        logger.info("gateway ends")
        link.shutDown()
        let grace = configuration.limits.shutdownGraceMs
        let connections = connections
        Task {
            await group.triggerGracefulShutdown()
            try? await Task.sleep(for: .milliseconds(grace))
            connections.closeAll()
        }
    }

    /// TCP connections that the kernel completes before we take them.
    private static let connectionsWaitingMax = 1_024

    private func server(_ channel: HTTP1Channel.Configuration) -> HTTPServerBuilder {
        guard let identity else { return .http1(configuration: channel) }
        return HTTPServerBuilder { responder in
            TLSChildChannel(base: HTTP1Channel(responder: responder, configuration: channel), identity: identity)
        }
    }

    private func makeApplication() -> some ApplicationProtocol {
        let responder = GatewayResponder(
            configuration: configuration, keys: keys, link: link, metrics: metrics, connections: connections, logger: logger)
        let limits = configuration.limits
        let connections = connections
        let listening = listening
        let decoder = HTTP1Channel.Configuration.DecoderConfiguration(
            maxHeaderFieldSize: limits.headerBytesMax, maxHeaderListSize: limits.headerBytesMax, maxHeaderFieldCount: limits.headerFieldsMax)
        var http = ApplicationConfiguration(
            address: .hostname(configuration.host, port: configuration.port), serverName: "staffel", backlog: Self.connectionsWaitingMax)
        http.availableConnectionsDelegate = .maximum(connectionsMax, logger: logger)
        let metrics = metrics
        let channel = HTTP1Channel.Configuration(
            additionalChannelHandlers: [
                ConnectionWatch(connections), PaceKeeper.Inner(connections, limits: limits) { metrics.closed($0) },
            ], idleTimeout: .milliseconds(Int64(limits.idleConnectionMs)), httpDecoderConfiguration: decoder)
        return Application(
            responder: responder, server: server(channel),
            configuration: http,
            onServerRunning: { channel in
                if let port = channel.localAddress?.port { listening.set(port) }
            },
            logger: logger)
    }
}

/// How many files this process may have open, which connections are too.
private enum DescriptorLimit {
    /// For sockets to the coordinator, event loops, logs and files.
    static let reserved = 128

    static func connections(asked: Int) -> Int {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0, limit.rlim_cur < UInt64(Int32.max) else { return asked }
        return max(1, min(asked, Int(limit.rlim_cur) - reserved))
    }
}

/// A port that is known later.
private final class ListeningPort: Sendable {
    private struct State {
        var result: Result<Int, any Error>?
        var waiting: [CheckedContinuation<Int, any Error>] = []
    }

    private let state = Mutex(State())

    func value() async throws -> Int {
        try await withCheckedThrowingContinuation { continuation in
            let known = state.withLock { state in
                if state.result == nil { state.waiting.append(continuation) }
                return state.result
            }
            if let known { continuation.resume(with: known) }
        }
    }

    func set(_ port: Int) { settle(.success(port)) }
    func fail(_ error: any Error) { settle(.failure(error)) }

    private func settle(_ result: Result<Int, any Error>) {
        let waiting = state.withLock { state in
            defer { state.waiting = [] }
            if state.result == nil { state.result = result }
            return state.waiting
        }
        for continuation in waiting { continuation.resume(with: result) }
    }
}
