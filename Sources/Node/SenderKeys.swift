import ClusterCore
import ZeroMQ

/// The keys of those that sent messages of late, by libzmq's text of them: turning that into a key takes longer than all else that is done with a
/// small message before the machine has it.
struct SenderKeys {
    /// More senders than a pipeline has; a crowd only costs the conversion.
    static let knownMax = 32

    private var known: [(text: SenderText, key: PeerKey)] = []
    private var oldest = 0

    /// `nil` when the message didn't come over CURVE.
    mutating func key(of message: borrowing Message) -> PeerKey? {
        guard let text = message.senderText else { return nil }
        for entry in known where entry.text == text { return entry.key }
        guard let key = message.authenticatedKey.map(PeerKey.init) else { return nil }
        if known.count < Self.knownMax {
            known.append((text, key))
        } else {
            known[oldest] = (text, key)
            oldest = (oldest + 1) % Self.knownMax
        }
        return key
    }
}
