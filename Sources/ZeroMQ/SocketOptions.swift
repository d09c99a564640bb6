/// Settings of a socket, with the defaults of the whole cluster in one place.
package struct SocketOptions: Sendable {
    /// Messages that wait for a peer, and that wait to be read.
    package var sendQueueMax: Int32 = 1_000
    package var receiveQueueMax: Int32 = 1_000
    /// A larger part closes the connection of the peer that sent it.
    package var partBytesMax: Int64 = 256 << 20
    /// libzmq's own pings find half-open connections; the machines' heartbeats find hung processes.
    package var heartbeatIntervalMs: Int32 = 1_000
    package var heartbeatTimeoutMs: Int32 = 5_000
    package var handshakeTimeoutMs: Int32 = 5_000
    package var reconnectMs: Int32 = 50
    package var reconnectMsMax: Int32 = 1_000
    package var curve: Curve?

    package enum Curve: Sendable {
        /// Peers prove a key to this socket; the access list of `domain` decides.
        case server(secretKey: [UInt8], domain: String)
        /// This socket proves its own key and asks the server to prove `serverKey`.
        case client(serverKey: [UInt8], own: CurveKeyPair)
    }

    package init(curve: Curve?) { self.curve = curve }
}
