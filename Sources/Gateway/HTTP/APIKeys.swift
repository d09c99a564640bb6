import Crypto
import Wire

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif

/// The API keys that clients may show, known by their SHA-256 only.
///
/// The file has one key a line, a name and 64 hexadecimal digits (`printf %s "$KEY" | sha256sum`), and comments after `#`.
/// Only its owner may read it.
struct APIKeys: Sendable {
    static let keysMax = 10_000
    static let fileBytesMax = 4 << 20

    private let digests: [[UInt8]]
    private let names: [String]

    init(path: String) throws(GatewayError) {
        try self.init(text: try Self.read(path), path: path)
    }

    init(text: String, path: String) throws(GatewayError) {
        var names: [String] = []
        var digests: [[UInt8]] = []
        for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            let words = line.prefix { $0 != "#" }.split(whereSeparator: \.isWhitespace)
            guard !words.isEmpty else { continue }
            guard words.count == 2, let digest = Hex.decode(String(words[1])), digest.count == SHA256.byteCount else {
                throw GatewayError(.apiKeys, "Line \(index + 1) of '\(path)' must be a name and the 64 hexadecimal digits of a key's SHA-256.")
            }
            names.append(String(words[0]))
            digests.append(digest)
        }
        guard !digests.isEmpty else { throw GatewayError(.apiKeys, "'\(path)' names no key, so nobody could use the gateway. Add one.") }
        guard digests.count <= Self.keysMax else { throw GatewayError(.apiKeys, "'\(path)' names more than \(Self.keysMax) keys.") }
        self.names = names
        self.digests = digests
    }

    /// The name of the key in an `Authorization` header, or `nil`. Takes the same time for every header of one length.
    func holder(authorization: String?) -> String? {
        guard let authorization, authorization.lowercased().hasPrefix("bearer ") else { return nil }
        let shown = Array(SHA256.hash(data: Array(authorization.utf8.dropFirst(7))))
        var found: Int?
        for (index, digest) in digests.enumerated() {
            var difference: UInt8 = 0
            for (a, b) in zip(shown, digest) { difference |= a ^ b }
            if difference == 0 { found = index }
        }
        return found.map { names[$0] }
    }

    private static func read(_ path: String) throws(GatewayError) -> String {
        guard let file = fopen(path, "r") else {
            throw GatewayError(.apiKeys, "The file of API keys '\(path)' cannot be read: \(String(cString: strerror(errno))).")
        }
        defer { fclose(file) }
        var status = stat()
        guard fstat(fileno(file), &status) == 0, status.st_mode & 0o077 == 0 else {
            throw GatewayError(.apiKeys, "The file of API keys '\(path)' is open to others than its owner. Make it private: chmod 600.")
        }
        var bytes = [UInt8](repeating: 0, count: fileBytesMax + 1)
        let count = fread(&bytes, 1, bytes.count, file)
        guard count <= fileBytesMax else { throw GatewayError(.apiKeys, "The file of API keys '\(path)' is over \(fileBytesMax) bytes.") }
        guard let text = String(validating: bytes[..<count], as: UTF8.self) else {
            throw GatewayError(.apiKeys, "The file of API keys '\(path)' is not UTF-8 text.")
        }
        return text
    }
}
