import ClusterCore
import ZeroMQ

/// All that a gateway is told at start.
package struct GatewayConfiguration: Sendable {
    /// Where HTTP is served; nothing beyond loopback unless asked for.
    package var host: String = "127.0.0.1"
    /// 0 takes a free port, see `GatewayServer.listeningPort()`.
    package var port: Int = 8080
    /// ZeroMQ endpoint of the coordinator, `tcp://host:port`.
    package var coordinatorEndpoint: String
    /// Proves the coordinator.
    package var coordinatorKey: CurvePublicKey
    /// Proves this gateway; the coordinator has to have admitted the public half.
    package var keys: CurveKeyPair
    /// For people: logs and `staffel status`.
    package var name: String
    /// Names under which clients ask for the model; the first one is shown. Empty: the coordinator's name for it.
    package var servedModelNames: [String] = []
    /// Whether requests that are silent about sampling get what the model's makers want (`generation_config.json`, `general.sampling.*`).
    package var usesModelDefaults = true
    /// A file of API keys, see `APIKeys`. `nil`: no key is asked for.
    package var apiKeysPath: String?
    /// PEM files of a certificate chain and its key. `nil`: HTTP without TLS.
    package var tls: (certificatePath: String, keyPath: String)?
    /// How long requests wait for a coordinator that does not answer before they end with `not_ready`, milliseconds.
    package var coordinatorWaitMs: UInt64 = Limits.recoveryWaitMs
    /// Of this program, for `/version`.
    package var version: String = "unknown"
    package var limits = GatewayLimits()

    package init(coordinatorEndpoint: String, coordinatorKey: CurvePublicKey, keys: CurveKeyPair, name: String) {
        self.coordinatorEndpoint = coordinatorEndpoint
        self.coordinatorKey = coordinatorKey
        self.keys = keys
        self.name = name
    }
}

/// Every bound of the HTTP side, by name and with its unit. What goes over the wire is bounded by `ClusterCore.Limits`.
package struct GatewayLimits: Hashable, Sendable {
    /// Fewer where the process may not open so many files. Where it gets narrow, those that have been idle longest are closed for new ones.
    package var connectionsMax = 16_384
    package var headerBytesMax = 32 << 10
    package var headerFieldsMax = 128
    package var bodyBytesMax = 8 << 20
    /// All bodies together while they are read, without the first `bodyFreeBytes` of each.
    package var bodiesBytesMax = 512 << 20
    package var bodyFreeBytes = 64 << 10
    /// From a request's first byte to the end of its head.
    package var headMs: UInt64 = 10_000
    /// From there to the end of its body.
    package var bodyMs: UInt64 = 60_000
    /// Nested arrays and objects in a request.
    package var jsonDepthMax = 64
    /// Members of a request's outermost object.
    package var fieldsMax = 256
    package var messagesMax = 4096
    package var toolsMax = 256
    /// Prompts in one `/v1/completions` request.
    package var promptsMax = 128
    package var stopStringsMax = 16
    package var stopStringBytesMax = 1024
    /// Choices over all prompts of one HTTP request.
    package var choicesMax = Limits.choicesMax
    /// Choices that are generated or wait, over all clients; more are answered 429. Clients with API keys share them (`SharedPlaces`).
    package var choicesOpenMax = 640
    /// What `Retry-After` says where nobody knows how long to wait.
    package var retryAfterSeconds = 1
    /// Stream events that wait for a client who reads slowly; one more ends its stream.
    package var eventsBufferedMax = 4096
    /// A write that a client has not taken for so long ends its connection.
    package var writeStallMs: UInt64 = 60_000
    /// A comment is sent on a stream that was silent for so long.
    package var keepAliveMs: UInt64 = 10_000
    /// A stream's headers wait so long for a first word of the coordinator, so that its refusal still gets an HTTP status.
    package var firstAnswerWaitMs: UInt64 = 250
    /// Connections without a request are closed after so long.
    package var idleConnectionMs: UInt64 = 120_000
    /// From the order to end until connections that are still open are closed.
    package var shutdownGraceMs: UInt64 = 1_000
    /// How often files of keys and certificates are looked at for changes.
    package var filesLookMs: UInt64 = 1_000
    /// `/health` stays 200 for so long after the cluster served last, while workers load a new plan's stages: requests wait for that and are
    /// answered, and a load balancer that takes the gateway out for it makes errors of a pause.
    package var recoveryToleratedMs: UInt64 = 10_000
    /// Commands that wait for the link's socket thread.
    package var linkCommandsMax = 8192

    package init() {}
}
