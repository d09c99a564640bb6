import Crypto
import Wire

/// The API keys that clients may show, known by their SHA-256 only.
///
/// The file has one key a line: a name, 64 hexadecimal digits (`printf %s "$KEY" | sha256sum`), then what the name may, in any order, and
/// comments after `#`. Only its owner may read it.
///
///     alice  2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b
///     batch  9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08  weight=1 priority=10 open=64
///
/// - `weight`: its share of the cluster beside others', 1...100; 1 unless given.
/// - `priority`: the lowest number, so the soonest turn, that its requests may ask for among themselves; any unless given.
/// - `open`: choices that it may have open at once; as many as there are places unless given.
/// - `requests-per-minute`, `tokens-per-minute`: see `RateLimits`; as many as it likes unless given.
///
/// Keys of one name are one client, as when a key is replaced by the next: their lines say the same.
struct APIKeys: Sendable {
    static let keysMax = 10_000
    static let fileBytesMax = 4 << 20

    private let digests: [[UInt8]]
    private let clients: [Client]

    var count: Int { digests.count }

    /// - Parameter mayBeEmpty: for a file that is read again, whose last key may have been taken away.
    init(path: String, mayBeEmpty: Bool = false) throws(GatewayError) {
        try self.init(text: try Self.text(of: .apiKeys(path)), path: path, mayBeEmpty: mayBeEmpty)
    }

    init(text: String, path: String, mayBeEmpty: Bool = false) throws(GatewayError) {
        var clients: [Client] = []
        var byName: [String: Client] = [:]
        var digests: [[UInt8]] = []
        for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            let words = line.prefix { $0 != "#" }.split(whereSeparator: \.isWhitespace)
            guard !words.isEmpty else { continue }
            let place = "Line \(index + 1) of '\(path)'"
            guard words.count >= 2, let digest = Hex.decode(String(words[1])), digest.count == SHA256.byteCount else {
                throw GatewayError(.apiKeys, "\(place) must be a name and the 64 hexadecimal digits of a key's SHA-256.")
            }
            let client = try Client(name: String(words[0]), settings: words[2...], place: place)
            if let known = byName[client.name], known != client {
                throw GatewayError(.apiKeys, "\(place) says something else of '\(client.name)' than a line before it. Say the same in both.")
            }
            byName[client.name] = client
            clients.append(client)
            digests.append(digest)
        }
        guard mayBeEmpty || !digests.isEmpty else { throw GatewayError(.apiKeys, "'\(path)' names no key, so nobody could use the gateway. Add one.") }
        guard digests.count <= Self.keysMax else { throw GatewayError(.apiKeys, "'\(path)' names more than \(Self.keysMax) keys.") }
        self.clients = clients
        self.digests = digests
    }

    /// Whose key is in an `Authorization` header; `nil` for nobody's. Takes the same time for every header of one length.
    func client(authorization: String?) -> Client? {
        guard let authorization, authorization.lowercased().hasPrefix("bearer ") else { return nil }
        let shown = Array(SHA256.hash(data: Array(authorization.utf8.dropFirst(7))))
        var found: Int?
        for (index, digest) in digests.enumerated() {
            var difference: UInt8 = 0
            for (a, b) in zip(shown, digest) { difference |= a ^ b }
            if difference == 0 { found = index }
        }
        return found.map { clients[$0] }
    }

    static func text(of file: PrivateFile) throws(GatewayError) -> String {
        let bytes = try file.read(bytesMax: fileBytesMax)
        guard let text = String(validating: bytes, as: UTF8.self) else { throw GatewayError(.apiKeys, "\(file.noun) '\(file.path)' is not UTF-8 text.") }
        return text
    }
}

extension PrivateFile {
    static func apiKeys(_ path: String) -> PrivateFile { PrivateFile(path: path, noun: "The file of API keys", code: .apiKeys) }
}
