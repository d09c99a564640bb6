import ClusterCore

/// What one process tells another to connect to.
package enum Endpoint {
    private static let scheme = "tcp://"
    private static let portMax = 65_535

    /// Whether `text` is `tcp://host:port` with a name, an IPv4 address or an IPv6 address in brackets; no wildcard, no source address.
    package static func isConnectable(_ text: String) -> Bool {
        guard text.utf8.count <= Limits.endpointBytesMax, text.hasPrefix(scheme) else { return false }
        let rest = text.utf8.dropFirst(scheme.utf8.count)
        guard let colon = rest.lastIndex(of: UInt8(ascii: ":")) else { return false }
        return isHost(rest[..<colon]) && isPort(rest[rest.index(after: colon)...])
    }

    private static func isHost(_ host: Substring.UTF8View) -> Bool {
        if host.first == UInt8(ascii: "[") {
            guard host.last == UInt8(ascii: "]"), host.count > 3 else { return false }
            let address = host.dropFirst().dropLast()
            return address.contains(UInt8(ascii: ":")) && address.allSatisfy { isAlphanumeric($0) || ":.%-_".utf8.contains($0) }
        }
        return !host.isEmpty && isAlphanumeric(host.first!) && host.allSatisfy { isAlphanumeric($0) || ".-_".utf8.contains($0) }
    }

    private static func isPort(_ port: Substring.UTF8View) -> Bool {
        guard (1...5).contains(port.count), port.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else { return false }
        let number = port.reduce(0) { $0 * 10 + Int($1 - UInt8(ascii: "0")) }
        return (1...portMax).contains(number)
    }

    private static func isAlphanumeric(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
        default: false
        }
    }
}
