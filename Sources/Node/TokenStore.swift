import ClusterCore
import Wire

/// One-time tokens of a coordinator: each is the public half of a CURVE key pair whose secret half stands in a join line.
///
/// A token is a file, so `staffel token create` needs no running coordinator and a coordinator sees new ones by looking. The file's name is the
/// public key, its text the time of expiry and the name that the operator gave it.
package struct TokenStore: Sendable {
    private static let folder = "tokens"

    package struct Token: Hashable, Sendable {
        package var key: PeerKey
        /// Seconds since 1970.
        package var expires: Int64
        package var name: String

        package init(key: PeerKey, expires: Int64, name: String) {
            self.key = key
            self.expires = expires
            self.name = name
        }
    }

    private let directory: StateDirectory
    private let tokens: StateDirectory

    package init(directory: StateDirectory) throws {
        self.directory = directory
        tokens = try StateDirectory(path: directory.file(Self.folder))
    }

    /// Makes a token known. `expires`: seconds since 1970.
    package func add(_ token: Token) throws {
        try tokens.write(Hex.encode(token.key.bytes), "expires \(token.expires)\n\(token.name.filter { $0 != "\n" })\n")
    }

    /// A used, expired or revoked token: nobody can enrol with it any more.
    package func remove(_ key: PeerKey) { tokens.remove(Hex.encode(key.bytes)) }

    /// All tokens, expired ones included. A file that is no token, or can't be read, is left out: it admits nobody.
    package func all() -> [Token] {
        directory.names(in: Self.folder).compactMap { name in
            guard let bytes = Hex.decode(name), let key = PeerKey(bytes: bytes), let text = try? tokens.read(name) else { return nil }
            let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
            guard let first = lines.first, first.hasPrefix("expires "), let expires = Int64(first.dropFirst(8)) else { return nil }
            return Token(key: key, expires: expires, name: lines.count > 1 ? String(lines[1]) : "")
        }
    }
}
