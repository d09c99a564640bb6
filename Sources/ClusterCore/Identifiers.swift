/// A token id of the model's vocabulary.
package typealias TokenID = Int32

/// A CURVE public key (32 bytes): who a peer is. The transport has proved it before a message reaches a machine.
package struct PeerKey: Hashable, Comparable, Sendable, CustomStringConvertible {
    package static let byteCount = 32

    /// The key as four big-endian words, so that comparing and hashing need no array.
    package let words: (UInt64, UInt64, UInt64, UInt64)

    /// `nil` unless `bytes` holds exactly 32 bytes.
    package init?(bytes: some Collection<UInt8>) {
        guard bytes.count == Self.byteCount else { return nil }
        var words: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
        // The first byte ends up on top, carried from word to word.
        for byte in bytes {
            words.0 = words.0 << 8 | words.1 >> 56
            words.1 = words.1 << 8 | words.2 >> 56
            words.2 = words.2 << 8 | words.3 >> 56
            words.3 = words.3 << 8 | UInt64(byte)
        }
        self.words = words
    }

    package var bytes: [UInt8] {
        [words.0, words.1, words.2, words.3].flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> (56 - 8 * UInt64($0))) } }
    }

    package static func == (a: PeerKey, b: PeerKey) -> Bool { a.words == b.words }
    package static func < (a: PeerKey, b: PeerKey) -> Bool { a.words < b.words }
    package func hash(into hasher: inout Hasher) {
        hasher.combine(words.0)
        hasher.combine(words.1)
        hasher.combine(words.2)
        hasher.combine(words.3)
    }

    /// The first eight hexadecimal digits: enough to tell peers apart in a log.
    package var description: String {
        let digits = String(words.0 >> 32, radix: 16)
        return String(repeating: "0", count: 8 - digits.count) + digits
    }
}

/// One request of one client, 128 random bits made by the gateway; the same id runs through every log and metric.
package struct RequestID: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let high: UInt64
    package let low: UInt64

    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    package static func < (a: RequestID, b: RequestID) -> Bool { (a.high, a.low) < (b.high, b.low) }

    /// 32 hexadecimal digits.
    package var description: String {
        [high, low].map { word in
            let digits = String(word, radix: 16)
            return String(repeating: "0", count: 16 - digits.count) + digits
        }.joined()
    }
}

/// One choice of one request while the coordinator runs it. Unique for the coordinator's life; never reused.
package struct SequenceID: Hashable, Comparable, Sendable {
    package let value: UInt64
    package init(_ value: UInt64) { self.value = value }
    package static func < (a: SequenceID, b: SequenceID) -> Bool { a.value < b.value }
}

/// A KV block of `Limits.positionsPerBlock` positions; the same id means the same block on every stage.
package struct BlockID: Hashable, Comparable, Sendable {
    package let value: UInt32
    package init(_ value: UInt32) { self.value = value }
    package static func < (a: BlockID, b: BlockID) -> Bool { a.value < b.value }
}

/// Which plan is in force. Grows by one with each new plan; frames of an older epoch are dropped and counted.
package struct Epoch: Hashable, Comparable, Sendable {
    package let value: UInt64
    package init(_ value: UInt64) { self.value = value }
    package static func < (a: Epoch, b: Epoch) -> Bool { a.value < b.value }
    package var next: Epoch { Epoch(value + 1) }
}

/// Numbers a step within its epoch, from 1.
package struct StepNumber: Hashable, Comparable, Sendable {
    package let value: UInt64
    package init(_ value: UInt64) { self.value = value }
    package static func < (a: StepNumber, b: StepNumber) -> Bool { a.value < b.value }
}

/// SHA-256 over a model's headers: two processes hold the same model exactly when these are equal.
package struct ModelDigest: Hashable, Sendable, CustomStringConvertible {
    package static let byteCount = 32
    package let bytes: [UInt8]

    /// `nil` unless `bytes` holds exactly 32 bytes.
    package init?(bytes: [UInt8]) {
        guard bytes.count == Self.byteCount else { return nil }
        self.bytes = bytes
    }

    /// 64 hexadecimal digits.
    package var description: String {
        bytes.map { $0 < 16 ? "0" + String($0, radix: 16) : String($0, radix: 16) }.joined()
    }
}
