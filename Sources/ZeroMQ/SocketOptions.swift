/// Everything about a socket that is set before it is bound or connected. Presets are `init()` plus a changed field or two.
package struct SocketOptions: Sendable {
    /// How a socket proves who it is.
    package enum Security: Sendable {
        /// Only for in-process endpoints: binding or connecting anything else is refused.
        case inProcessOnly
        /// Accepts the public keys that the context's access list for `domain` admits.
        case curveServer(CurveKeyPair, domain: String)
        /// Connects to a peer that must own `server`.
        case curveClient(CurveKeyPair, server: CurvePublicKey)
    }

    package var security: Security = .inProcessOnly
    /// Unsent messages that outlive the socket. 0: none, so that ending never waits for a dead peer.
    package var lingerMs = 0
    /// Queue messages only for connections that stand: else a message to a dead peer waits in a queue that nobody empties.
    package var immediate = true
    /// libzmq's own ping, below ours: it closes connections whose host has gone without a word.
    package var heartbeatIntervalMs = 1_000
    package var heartbeatTimeoutMs = 5_000
    /// How long the peer keeps a connection on which it hears nothing. Rounded down to 100 ms by the protocol.
    package var heartbeatTimeToLiveMs = 5_000
    /// Messages queued for each connection before a send says "full".
    package var sendHighWaterMark = 1_000
    package var receiveHighWaterMark = 1_000
    /// A peer that sends a larger part is disconnected, before memory is taken for it.
    package var maxPartBytes = 16 << 20
    /// Sum of a received message's parts.
    package var maxMessageBytes = 80 << 20
    /// A router's send to a peer that is not there fails instead of being dropped in silence.
    package var routerMandatory = true
    /// Time for TCP, ZMTP and CURVE greetings together.
    package var handshakeTimeoutMs = 10_000
    package var connectTimeoutMs = 5_000
    package var reconnectIntervalMs = 100
    /// Doubles from `reconnectIntervalMs` up to this.
    package var reconnectIntervalMaxMs = 500
    package var backlog = 256
    /// Also listen on and connect to IPv6. IPv4 endpoints are then reported in their IPv6 form, `[::ffff:127.0.0.1]`.
    package var ipv6 = false

    package init() {}

    package init(_ security: Security) { self.security = security }
}
