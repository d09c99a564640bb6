import ClusterCore

/// What `staffel token create` prints and `staffel worker --join` takes: where the coordinator listens, who it must prove to be, and a one-time
/// token.
///
/// The token is a CURVE secret key whose public key the coordinator admits until it is used or expires. A peer connects with it once, sends
/// `enrol` with the
/// public key of a pair of its own, and connects with that from then on. So the line is a secret until used.
///
/// `staffel1:tcp://host:port:SERVER:TOKEN:CHECK`, keys as 64 hexadecimal digits: only letters, digits and `:/.-_[]%`, all on one line. `CHECK`
/// tells a line that was cut
/// or mistyped from one that the coordinator doesn't know.
package struct JoinLine: Hashable, Sendable, CustomStringConvertible {
    package static let prefix = "staffel1:"
    private static let keyDigits = 64
    private static let checkDigits = 8

    package let endpoint: String
    package let serverKey: PeerKey
    /// 32 bytes.
    package let tokenSecret: [UInt8]

    /// Refuses an endpoint that nobody can connect to, and a secret that isn't 32 bytes.
    package init(endpoint: String, serverKey: PeerKey, tokenSecret: [UInt8]) throws(WireError) {
        guard Endpoint.isConnectable(endpoint) else {
            throw WireError(
                .joinLineInvalid,
                "a join line for endpoint \(endpoint): expected tcp://host:port with a host that workers can reach, not a wildcard; set the address to advertise"
            )
        }
        guard tokenSecret.count == PeerKey.byteCount else {
            throw WireError(.joinLineInvalid, "a join line's token is \(PeerKey.byteCount) bytes; found \(tokenSecret.count)")
        }
        self.endpoint = endpoint
        self.serverKey = serverKey
        self.tokenSecret = tokenSecret
    }

    /// Takes what `text` prints, with blanks around it.
    package init(parsing line: String) throws(WireError) {
        var line = Substring(line)
        while line.first?.isWhitespace == true { line.removeFirst() }
        while line.last?.isWhitespace == true { line.removeLast() }
        guard line.hasPrefix(Self.prefix) else {
            throw Self.invalid(line.hasPrefix("staffel") ? "it is of another release" : "it does not begin with \(Self.prefix)")
        }
        let parts = line.dropFirst(Self.prefix.count).split(separator: ":", omittingEmptySubsequences: false)
        // The endpoint has colons of its own: the last three parts are the keys and the check.
        guard parts.count >= 6 else { throw Self.invalid("parts of it are missing, it was probably cut off") }
        let keys = parts.suffix(3).map(String.init)
        let checked = line.dropLast(keys[2].utf8.count + 1)
        guard keys[2].utf8.count == Self.checkDigits, keys[2].lowercased() == Self.check(String(checked)) else {
            throw Self.invalid("its check digits don't fit, so a character is missing or wrong")
        }
        guard keys[0].utf8.count == Self.keyDigits, keys[1].utf8.count == Self.keyDigits, let server = Hex.decode(keys[0]),
            let token = Hex.decode(keys[1])
        else {
            throw Self.invalid("its keys are not \(Self.keyDigits) hexadecimal digits each")
        }
        try self.init(endpoint: parts.dropLast(3).joined(separator: ":"), serverKey: PeerKey(bytes: server)!, tokenSecret: token)
    }

    /// The line itself. A secret.
    package var text: String {
        let line = Self.prefix + endpoint + ":" + Hex.encode(serverKey.bytes) + ":" + Hex.encode(tokenSecret)
        return line + ":" + Self.check(line)
    }

    /// For logs: without the token.
    package var description: String { "join line for \(endpoint), coordinator \(serverKey)" }

    private static func invalid(_ found: String) -> WireError {
        WireError(.joinLineInvalid, "this is no join line: \(found); copy the whole line that \"staffel token create\" printed")
    }

    /// CRC-32 (IEEE 802.3, reflected), eight hexadecimal digits.
    static func check(_ line: String) -> String {
        var remainder: UInt32 = .max
        for byte in line.utf8 {
            remainder ^= UInt32(byte)
            for _ in 0..<8 { remainder = remainder >> 1 ^ (remainder & 1 == 1 ? 0xEDB8_8320 : 0) }
        }
        return Hex.encode((0..<4).map { UInt8(truncatingIfNeeded: ~remainder >> (24 - 8 * UInt32($0))) })
    }
}
