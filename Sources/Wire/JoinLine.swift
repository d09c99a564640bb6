import ClusterCore

/// What `staffel token create` prints and `--join` takes: where the coordinator is, which key it proves, and the secret of a one-time
/// token. One word without characters that a shell would touch:
///
///     staffel1:tcp://10.0.0.1:7300:<coordinator's public key, 64 hex digits>:<token's secret key, 64 hex digits>:<checksum, 8 hex digits>
package struct JoinLine: Hashable, Sendable {
    private static let prefix = "staffel1:"
    private static let keyBytes = 32

    /// ZeroMQ endpoint, `tcp://host:port`.
    package var endpoint: String
    package var coordinatorKey: PeerKey
    /// CURVE secret key, 32 bytes: who holds it may enrol one key, once.
    package var tokenSecret: [UInt8]

    package init(endpoint: String, coordinatorKey: PeerKey, tokenSecret: [UInt8]) {
        self.endpoint = endpoint
        self.coordinatorKey = coordinatorKey
        self.tokenSecret = tokenSecret
    }

    package var text: String {
        let body = "\(Self.prefix)\(endpoint):\(Hexadecimal.text(coordinatorKey.bytes)):\(Hexadecimal.text(tokenSecret))"
        return "\(body):\(Self.checksum(body))"
    }

    /// Throws what is wrong with the text and what to do about it.
    package init(text: String) throws(WireError) {
        let line = text.trimmingBlanks
        guard line.hasPrefix(Self.prefix) else {
            throw WireError(.malformed, "the join line does not begin with '\(Self.prefix)': copy the whole line that 'staffel token create' printed")
        }
        var fields = line.split(separator: ":", omittingEmptySubsequences: false)
        guard fields.count >= 6, let sum = fields.popLast(), Self.checksum(String(line.dropLast(sum.count + 1))) == sum else {
            throw WireError(.malformed, "the join line is cut off or changed (its checksum is wrong): copy it again, whole")
        }
        guard let secret = fields.popLast().flatMap({ Hexadecimal.bytes($0) }), let key = fields.popLast().flatMap({ Hexadecimal.bytes($0) }),
            secret.count == Self.keyBytes, let coordinatorKey = PeerKey(bytes: key)
        else {
            throw WireError(.malformed, "the join line holds no two keys of 64 hexadecimal digits: make a new one with 'staffel token create'")
        }
        let endpoint = fields.dropFirst().joined(separator: ":")
        guard Endpoint.isValid(endpoint) else {
            throw WireError(.malformed, "the join line names '\(endpoint)', not tcp://host:port: make a new one with 'staffel token create'")
        }
        self.init(endpoint: endpoint, coordinatorKey: coordinatorKey, tokenSecret: secret)
    }

    /// FNV-1a over the text, 32 bit: tells a line that was cut off or mistyped, not one that was forged.
    private static func checksum(_ text: String) -> String {
        let sum = text.utf8.reduce(UInt32(2_166_136_261)) { ($0 ^ UInt32($1)) &* 16_777_619 }
        return Hexadecimal.text((0..<4).map { UInt8(truncatingIfNeeded: sum >> (24 - 8 * UInt32($0))) })
    }
}

extension String {
    fileprivate var trimmingBlanks: String {
        func isBlank(_ character: Character) -> Bool { character.isWhitespace }
        return String(drop(while: isBlank).reversed().drop(while: isBlank).reversed())
    }
}
