import ClusterCore
import ZeroMQ

extension PeerKey {
    /// From the text under which libzmq names a proved key; `nil` when it is none.
    package init?(z85 text: String) {
        guard let bytes = Z85.bytes(text) else { return nil }
        self.init(bytes: bytes)
    }
}
