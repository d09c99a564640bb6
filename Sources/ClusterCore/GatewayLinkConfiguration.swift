/// All that a gateway's link is told at start.
package struct GatewayLinkConfiguration: Hashable, Sendable {
    /// Random for each start of the process.
    package var session: UInt64
    package var name: String
    package var requestsOpenMax: Int = Limits.requestsOpenMax
    package var heartbeatIntervalMs: UInt64 = Limits.heartbeatIntervalMs
    package var heartbeatTimeoutMs: UInt64 = Limits.coordinatorSilenceMs
    package var reconnectBackoffMinMs: UInt64 = 100
    package var reconnectBackoffMaxMs: UInt64 = 5_000
    /// A request of which nothing was heard for so long is submitted again, with the tokens so far: what was lost on the way comes again.
    package var resubmitAfterMs: UInt64 = 15_000
    /// How long open requests wait for a coordinator that does not answer before they fail with `notReady`.
    package var coordinatorWaitMs: UInt64 = Limits.recoveryWaitMs

    package init(session: UInt64, name: String) {
        self.session = session
        self.name = name
    }
}
