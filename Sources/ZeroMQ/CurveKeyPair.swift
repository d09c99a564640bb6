import CZeroMQ

/// A CURVE key pair: who a process is to its peers.
package struct CurveKeyPair: Hashable, Sendable {
    package static let keyBytes = 32

    /// 32 bytes each.
    package let publicKey: [UInt8]
    package let secretKey: [UInt8]

    /// A new pair from the system's random source.
    package static func generate() throws(ZeroMQError) -> CurveKeyPair {
        var publicText = [CChar](repeating: 0, count: 41)
        var secretText = publicText
        guard zmq_curve_keypair(&publicText, &secretText) == 0 else { throw .last("a CURVE key pair") }
        return CurveKeyPair(publicKey: Z85.bytes(publicText)!, secretKey: Z85.bytes(secretText)!)
    }

    /// The pair with this secret key.
    package init(secretKey: [UInt8]) throws(ZeroMQError) {
        guard secretKey.count == Self.keyBytes else {
            throw ZeroMQError(.badKey, "a secret key has \(Self.keyBytes) bytes, not \(secretKey.count)")
        }
        var publicText = [CChar](repeating: 0, count: 41)
        guard zmq_curve_public(&publicText, Z85.text(secretKey).map { CChar(bitPattern: $0) } + [0]) == 0 else { throw .last("a CURVE public key") }
        self.init(publicKey: Z85.bytes(publicText)!, secretKey: secretKey)
    }

    private init(publicKey: [UInt8], secretKey: [UInt8]) {
        self.publicKey = publicKey
        self.secretKey = secretKey
    }
}

/// ZeroMQ's text form of binary keys (RFC 32): 32 bytes are 40 characters.
package enum Z85 {
    /// `nil` unless `text` is Z85 of a whole number of words.
    package static func bytes(_ text: String) -> [UInt8]? { bytes(Array(text.utf8CString)) }

    static func bytes(_ text: [CChar]) -> [UInt8]? {
        let length = text.prefix { $0 != 0 }.count
        guard length > 0, length % 5 == 0 else { return nil }
        var bytes = [UInt8](repeating: 0, count: length / 5 * 4)
        return zmq_z85_decode(&bytes, text) == nil ? nil : bytes
    }

    /// ASCII characters.
    static func text(_ bytes: [UInt8]) -> [UInt8] {
        precondition(bytes.count % 4 == 0, "Z85 takes whole words")
        var text = [CChar](repeating: 0, count: bytes.count / 4 * 5 + 1)
        zmq_z85_encode(&text, bytes, bytes.count)
        return text.dropLast().map { UInt8(bitPattern: $0) }
    }

    package static func string(_ bytes: [UInt8]) -> String { String(decoding: text(bytes), as: UTF8.self) }
}
