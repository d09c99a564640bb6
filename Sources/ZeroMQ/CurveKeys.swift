import CZeroMQ

/// Who a peer is: 32 bytes of a Curve25519 public key.
package struct CurvePublicKey: Hashable, Sendable, CustomStringConvertible {
    package static let byteCount = 32

    package let bytes: [UInt8]

    /// Refuses anything but 32 bytes.
    package init(bytes: some Collection<UInt8>) throws(ZeroMQError) {
        self.bytes = try Z85.exactly32(bytes, "public key")
    }

    /// 40 characters of Z85, libzmq's text form.
    package init(z85: String) throws(ZeroMQError) { bytes = try Z85.decode(z85, "public key") }

    package var z85: String { Z85.encode(bytes) }
    package var description: String { z85 }
}

/// What proves who we are. Never printed: its description hides it.
package struct CurveSecretKey: Hashable, Sendable, CustomStringConvertible, CustomDebugStringConvertible {
    package let bytes: [UInt8]

    package init(bytes: some Collection<UInt8>) throws(ZeroMQError) {
        self.bytes = try Z85.exactly32(bytes, "secret key")
    }

    package init(z85: String) throws(ZeroMQError) { bytes = try Z85.decode(z85, "secret key") }

    /// For key files only.
    package var z85: String { Z85.encode(bytes) }
    package var description: String { "(secret)" }
    package var debugDescription: String { description }
}

/// A public key and the secret key it belongs to; `init` and `generate` are the only doors, so they always match.
package struct CurveKeyPair: Hashable, Sendable {
    package let publicKey: CurvePublicKey
    package let secretKey: CurveSecretKey

    /// Derives the public key.
    package init(secretKey: CurveSecretKey) throws(ZeroMQError) {
        var text = [CChar](repeating: 0, count: Z85.bufferBytes)
        guard zmq_curve_public(&text, secretKey.z85) == 0 else { throw ZeroMQError.last("deriving a CURVE public key") }
        self.secretKey = secretKey
        self.publicKey = try CurvePublicKey(z85: Z85.string(text))
    }

    /// A new pair from the system's random source.
    package static func generate() throws(ZeroMQError) -> CurveKeyPair {
        var publicText = [CChar](repeating: 0, count: Z85.bufferBytes)
        var secretText = [CChar](repeating: 0, count: Z85.bufferBytes)
        guard zmq_curve_keypair(&publicText, &secretText) == 0 else { throw ZeroMQError.last("making a CURVE key pair") }
        return try CurveKeyPair(secretKey: CurveSecretKey(z85: Z85.string(secretText)))
    }
}

/// libzmq's text form of 32 bytes: 40 printable characters, four bytes in five. Not safe in a shell.
enum Z85 {
    static let characterCount = 40
    /// With the terminating zero.
    static let bufferBytes = 41

    private static let alphabet = Set("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#".utf8)

    static func string(_ text: [CChar]) -> String { String(decoding: text.prefix(characterCount).map(UInt8.init(bitPattern:)), as: UTF8.self) }

    static func encode(_ bytes: [UInt8]) -> String {
        precondition(bytes.count == CurvePublicKey.byteCount)
        var text = [CChar](repeating: 0, count: bufferBytes)
        let encoded = zmq_z85_encode(&text, bytes, bytes.count)
        precondition(encoded != nil, "32 bytes always have a Z85 form")
        return string(text)
    }

    static func decode(_ text: String, _ noun: String) throws(ZeroMQError) -> [UInt8] {
        guard text.utf8.count == characterCount, text.utf8.allSatisfy(alphabet.contains) else {
            throw ZeroMQError(
                .keyInvalid, "a CURVE \(noun) is \(characterCount) characters of Z85; this text has \(text.utf8.count) or other characters")
        }
        var bytes = [UInt8](repeating: 0, count: CurvePublicKey.byteCount)
        guard zmq_z85_decode(&bytes, text) != nil else {
            throw ZeroMQError(.keyInvalid, "the text of a CURVE \(noun) is no Z85: five of its characters stand for more than 32 bits")
        }
        return bytes
    }

    static func exactly32(_ bytes: some Collection<UInt8>, _ noun: String) throws(ZeroMQError) -> [UInt8] {
        guard bytes.count == CurvePublicKey.byteCount else {
            throw ZeroMQError(.keyInvalid, "a CURVE \(noun) is \(CurvePublicKey.byteCount) bytes; found \(bytes.count)")
        }
        return Array(bytes)
    }
}
