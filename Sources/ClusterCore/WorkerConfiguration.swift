/// All that a worker is told at start.
package struct WorkerConfiguration: Hashable, Sendable {
    /// Random for each start of the process.
    package var session: UInt64
    package var name: String
    /// What it says that it speaks.
    package var version = ProtocolVersion.current
    package var capabilities: WorkerCapabilities
    /// Where its data socket listens, as other workers reach it.
    package var dataEndpoint: String
    /// Where other workers may fetch weights from it; `nil` for nowhere.
    package var weightsEndpoint: String?
    package var heartbeatIntervalMs: UInt64 = Limits.heartbeatIntervalMs
    package var heartbeatTimeoutMs: UInt64 = Limits.coordinatorSilenceMs
    package var reconnectBackoffMinMs: UInt64 = 100
    package var reconnectBackoffMaxMs: UInt64 = 5_000
    /// Steps that wait for the stage thread. More than any coordinator sends; a frame beyond is dropped and reported.
    package var stepsQueuedMax: Int = Limits.stepsQueuedMax
    /// Steps that the stage thread has at once: one that it computes and one that it goes on with. More would only outlive their epoch.
    package var stepsGivenMax: Int = 2

    package init(session: UInt64, name: String, capabilities: WorkerCapabilities, dataEndpoint: String) {
        self.session = session
        self.name = name
        self.capabilities = capabilities
        self.dataEndpoint = dataEndpoint
    }
}
