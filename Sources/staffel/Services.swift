import Logging
import ServiceLifecycle

/// Runs a role until it ends, or until SIGTERM or Ctrl-C asks it to.
enum Services {
    static func run(
        name: String, shutdown: @escaping @Sendable () -> Void, waitUntilEnded: @escaping @Sendable () async throws -> Void,
        beside others: [any Service] = [], handlesSignals: Bool = true, logger: Logger
    ) async throws {
        try await run(Role(shutdown: shutdown, waitUntilEnded: waitUntilEnded), beside: others, handlesSignals: handlesSignals, logger: logger)
    }

    /// The end of any of the services, with or without an error, ends all.
    static func run(
        _ service: any Service, beside others: [any Service] = [], handlesSignals: Bool = true, logger: Logger
    ) async throws {
        let group = ServiceGroup(
            configuration: .init(
                services: ([service] + others).map {
                    .init(
                        service: $0, successTerminationBehavior: .gracefullyShutdownGroup, failureTerminationBehavior: .gracefullyShutdownGroup)
                },
                gracefulShutdownSignals: handlesSignals ? [.sigterm, .sigint] : [], logger: logger))
        do { try await group.run() } catch { throw CommandFailure("\(error)") }
    }

    private struct Role: Service {
        let shutdown: @Sendable () -> Void
        let waitUntilEnded: @Sendable () async throws -> Void

        func run() async throws {
            try await withGracefulShutdownHandler {
                try await waitUntilEnded()
            } onGracefulShutdown: {
                shutdown()
            }
        }
    }
}
