import ClusterCore
import ZeroMQ

extension PeerKey {
    /// A transport's key, as the machines name it.
    package init(_ key: CurvePublicKey) { self.init(bytes: key.bytes)! }

    /// The key as the transport takes it.
    package var curve: CurvePublicKey {
        do { return try CurvePublicKey(bytes: bytes) } catch { preconditionFailure("both kinds of key have 32 bytes: \(error)") }
    }
}
