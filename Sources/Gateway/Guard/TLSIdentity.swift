import HummingbirdCore
import Logging
import NIOCore
import NIOSSL
import Synchronization

/// The certificate with which the gateway proves itself, and its key; read anew when the files change, for the connections that come then.
///
/// TLS 1.2 or later. Clients show no certificates: they have API keys.
final class TLSIdentity: Sendable {
    static let keyBytesMax = 64 << 10

    private struct State {
        var context: NIOSSLContext
        var stamps: [PrivateFile.Stamp?]
    }

    private let certificatePath: String
    private let key: PrivateFile
    private let logger: Logger
    private let state: Mutex<State>

    /// - Throws: code `tls`, where a file is missing, no PEM, or of another key; the key's file too when others may read it.
    init(certificatePath: String, keyPath: String, logger: Logger) throws(GatewayError) {
        self.certificatePath = certificatePath
        key = PrivateFile(path: keyPath, noun: "The TLS key", code: .tls)
        self.logger = logger
        let stamps = Self.stamps(certificatePath, keyPath)
        state = Mutex(State(context: try Self.context(certificatePath, key), stamps: stamps))
    }

    var context: NIOSSLContext { state.withLock { $0.context } }

    /// Reads the files where they have changed. Half a change (a new certificate, the old key) counts when the other half has come.
    /// - Returns: whether they had.
    @discardableResult
    func refresh() -> Bool {
        let stamps = Self.stamps(certificatePath, key.path)
        guard stamps != state.withLock({ $0.stamps }) else { return false }
        do {
            let context = try Self.context(certificatePath, key)
            state.withLock { $0 = State(context: context, stamps: stamps) }
            logger.notice("TLS certificate read anew", metadata: ["file": "\(certificatePath)"])
        } catch {
            state.withLock { $0.stamps = stamps }
            logger.error("TLS certificate unusable; the one of before counts", metadata: ["file": "\(certificatePath)", "error": "\(error)"])
        }
        return true
    }

    private static func stamps(_ certificatePath: String, _ keyPath: String) -> [PrivateFile.Stamp?] {
        [PrivateFile.stamp(of: certificatePath), PrivateFile.stamp(of: keyPath)]
    }

    private static func context(_ certificatePath: String, _ key: PrivateFile) throws(GatewayError) -> NIOSSLContext {
        let keyBytes = try key.read(bytesMax: keyBytesMax)
        do {
            let chain = try NIOSSLCertificate.fromPEMFile(certificatePath).map { NIOSSLCertificateSource.certificate($0) }
            let secret = try NIOSSLPrivateKey(bytes: keyBytes, format: .pem)
            var configuration = TLSConfiguration.makeServerConfiguration(certificateChain: chain, privateKey: .privateKey(secret))
            configuration.minimumTLSVersion = .tlsv12
            configuration.applicationProtocols = ["http/1.1"]
            return try NIOSSLContext(configuration: configuration)
        } catch {
            throw GatewayError(
                .tls, "'\(certificatePath)' and '\(key.path)' are no certificate chain in PEM and its key. Give the two files of one certificate.",
                cause: error)
        }
    }
}

/// HTTP over TLS with the identity of the moment at which a client connects.
struct TLSChildChannel<Base: ServerChildChannel>: ServerChildChannel {
    let base: Base
    let identity: TLSIdentity

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Base.Value> {
        channel.eventLoop.makeCompletedFuture {
            try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: identity.context))
        }.flatMap {
            base.setup(channel: channel, logger: logger)
        }
    }

    func handle(value: Base.Value, logger: Logger) async { await base.handle(value: value, logger: logger) }
}
