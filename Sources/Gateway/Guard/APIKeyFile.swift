import Crypto
import Wire

/// The file of API keys as its operator edits it: what `staffel apikey` does. Gateways see the new file within a second (`KeyRing`).
///
/// A key is 256 random bits, so its SHA-256 needs no salt and no slow hash: there is no dictionary to try, and nobody finds 2²⁵⁶ keys.
package struct APIKeyFile: Sendable {
    /// Tells people and scanners of leaked secrets what it is.
    package static let keyPrefix = "sk-staffel-"
    static let keyBytes = 32

    package let path: String

    package init(path: String) { self.path = path }

    private var file: PrivateFile { .apiKeys(path) }

    /// Adds a key; the file is made where there is none.
    /// - Parameter settings: what the client may, as the file says it: `weight=2`, `requests-per-minute=60`.
    /// - Returns: the key itself, which stands nowhere from now on.
    package func add(name: String, settings: [String]) throws(GatewayError) -> String {
        guard !name.isEmpty, !name.contains(where: { $0.isWhitespace || $0 == "#" }), name.utf8.count <= 256 else {
            throw GatewayError(.apiKeys, "A client's name is one word without '#', but '\(name)' was given.")
        }
        var random = SystemRandomNumberGenerator()
        let key = Self.keyPrefix + Hex.encode((0..<Self.keyBytes).map { _ in UInt8.random(in: 0...255, using: &random) })
        var text = try text() ?? ""
        if !text.isEmpty, text.last?.isNewline != true { text += "\n" }
        text += ([name, Hex.encode(Array(SHA256.hash(data: Array(key.utf8))))] + settings).joined(separator: " ") + "\n"
        // A line that no gateway takes is refused before it is written.
        _ = try APIKeys(text: text, path: path)
        try file.replace(with: Array(text.utf8))
        return key
    }

    /// One line a key: its client's name, the first digits of its hash, what it may.
    package func list() throws(GatewayError) -> [String] {
        try lines().compactMap { line in
            let words = Self.words(line)
            return words.count < 2 ? nil : ([words[0], String(words[1].prefix(Self.digitsShown))] + words.dropFirst(2)).joined(separator: "  ")
        }
    }

    package static let digitsShown = 12

    /// Takes away all keys of a client, or the one whose hash begins with these digits.
    /// - Returns: how many.
    package func remove(_ nameOrDigits: String) throws(GatewayError) -> Int {
        let all = try lines()
        let kept = all.filter { line in
            let words = Self.words(line)
            guard words.count >= 2 else { return true }
            let isMeant = words[0] == nameOrDigits || nameOrDigits.utf8.count >= 8 && words[1].lowercased().hasPrefix(nameOrDigits.lowercased())
            return !isMeant
        }
        if kept.count < all.count { try file.replace(with: Array(kept.joined(separator: "\n").utf8)) }
        return all.count - kept.count
    }

    private func lines() throws(GatewayError) -> [String] {
        guard let text = try text() else { throw GatewayError(.apiKeys, "There is no file '\(path)': 'staffel apikey create' makes it.") }
        return text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    }

    private func text() throws(GatewayError) -> String? {
        guard file.stamp != nil else { return nil }
        return try APIKeys.text(of: file)
    }

    private static func words(_ line: String) -> [String] {
        line.prefix { $0 != "#" }.split(whereSeparator: \.isWhitespace).map(String.init)
    }
}
