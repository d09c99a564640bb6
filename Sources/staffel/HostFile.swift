import ArgumentParser
import ClusterCore

/// The fields of a host in a file, each with the place where it stands, for errors that name both.
struct HostFields {
    struct Value {
        var text: String
        /// Such as "boxes.toml:7".
        var place: String
    }

    static let names = [
        "name", "memory-gib", "read-gb-per-s", "compute-gop-per-s", "threads", "link-gbit-per-s", "link-latency-us", "count",
        "weights-memory-gib", "disk-gb-per-s",
    ]

    /// Where the host begins.
    var place: String
    private(set) var values: [String: Value] = [:]

    init(place: String) { self.place = place }

    /// Throws for a name that is no field, or one given twice. "memory_gib" is "memory-gib".
    mutating func set(_ name: String, _ value: Value) throws {
        let name = String(name.map { $0 == "_" ? "-" : $0 })
        guard Self.names.contains(name) else {
            throw ValidationError("\(value.place): '\(name)' is no field of a host; known are \(Self.names.joined(separator: ", "))")
        }
        guard values.updateValue(value, forKey: name) == nil else { throw ValidationError("\(value.place): '\(name)' is given twice for this host") }
    }

    /// One host, or as many as `count` says, numbered from 1.
    func hosts() throws -> [PlanHost] {
        guard let name = values["name"] else { throw ValidationError("\(place): the host has no name: give name = \"box-a\"") }
        guard !name.text.isEmpty, name.text.utf8.count <= Limits.nameBytesMax else {
            throw ValidationError("\(name.place): name is empty or longer than \(Limits.nameBytesMax) bytes")
        }
        var host = PlanHost(
            name: name.text, memoryBytes: UInt64(try number("memory-gib", of: name.text, atMost: 1e6) * 0x1p30),
            readBytesPerSecond: try number("read-gb-per-s", of: name.text, atMost: 1e6) * 1e9,
            opsPerSecond: try number("compute-gop-per-s", of: name.text, atMost: 1e9) * 1e9, threads: try whole("threads", of: name.text, atMost: 1024))
        if values["link-gbit-per-s"] != nil { host.linkBytesPerSecond = try number("link-gbit-per-s", of: name.text, atMost: 1e6) * 1e9 / 8 }
        if values["link-latency-us"] != nil { host.linkLatencySeconds = try number("link-latency-us", of: name.text, atMost: 1e7) * 1e-6 }
        if values["weights-memory-gib"] != nil || values["disk-gb-per-s"] != nil {
            host.streaming = (
                UInt64(try number("weights-memory-gib", of: name.text, atMost: 1e6) * 0x1p30),
                try number("disk-gb-per-s", of: name.text, atMost: 1e6) * 1e9
            )
        }
        guard let count = try whole("count", of: name.text, atMost: Limits.workersMax), count > 1 else { return [host] }
        return (1...count).map { number in
            var copy = host
            copy.name += "-\(number)"
            return copy
        }
    }

    private func number(_ field: String, of host: String, atMost most: Double) throws -> Double {
        guard let value = values[field] else { throw ValidationError("\(place): host '\(host)' has no \(field)") }
        guard let number = Double(value.text), number > 0, number <= most else {
            throw ValidationError("\(value.place): \(field) of host '\(host)' is '\(value.text)': give a number above 0, at most \(Int(most))")
        }
        return number
    }

    private func whole(_ field: String, of host: String, atMost most: Int) throws -> Int? {
        guard let value = values[field] else { return nil }
        guard let number = Int(value.text), (1...most).contains(number) else {
            throw ValidationError("\(value.place): \(field) of host '\(host)' is '\(value.text)': give a whole number in 1...\(most)")
        }
        return number
    }
}

/// Hosts in a small part of TOML: `[[host]]` begins a host, `[link]` what links do where a host says nothing else; `key = value` with a
/// number or a text in quotes; `#` begins a comment.
enum HostFile {
    static let example = """
        [link]
        gbit-per-s = 10
        latency-us = 150

        [[host]]
        name = "box-a"
        memory-gib = 64
        read-gb-per-s = 40        # what 'staffel status' shows as READ of a worker there
        compute-gop-per-s = 900   # and as COMPUTE, all threads together
        count = 3                 # box-a-1, box-a-2, box-a-3
        # Of weights that are larger, what does not fit is streamed from disk:
        # weights-memory-gib = 24
        # disk-gb-per-s = 3
        """

    private enum Table { case none, link, host }

    static func hosts(in text: String, path: String) throws -> [PlanHost] {
        var table = Table.none
        var link = HostFields(place: path)
        var hosts: [HostFields] = []
        for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            let place = "\(path):\(index + 1)"
            let words = withoutComment(line)
            if words.isEmpty { continue }
            if words.hasPrefix("[") {
                switch words {
                case "[[host]]", "[[hosts]]":
                    table = .host
                    hosts.append(HostFields(place: place))
                case "[link]": table = .link
                default: throw ValidationError("\(place): '\(words)' begins nothing known: give [[host]] or [link]")
                }
                continue
            }
            let (key, value) = try pair(words, place)
            switch table {
            case .none: throw ValidationError("\(place): '\(key)' stands before the first [[host]]")
            case .link: try link.set("link-" + key, HostFields.Value(text: value, place: place))
            case .host: try hosts[hosts.count - 1].set(key, HostFields.Value(text: value, place: place))
            }
        }
        guard !hosts.isEmpty else { throw ValidationError("\(path) names no host. A file of hosts looks like this:\n\n\(example)") }
        return try hosts.flatMap { fields in
            var fields = fields
            for (name, value) in link.values where fields.values[name] == nil { try fields.set(name, value) }
            return try fields.hosts()
        }
    }

    /// What stands before a '#' that is in no quotes, without white space around it.
    private static func withoutComment(_ line: Substring) -> String {
        var isQuoted = false
        let end = line.firstIndex { character in
            if character == "\"" { isQuoted.toggle() }
            return character == "#" && !isQuoted
        }
        return trimmed(line[..<(end ?? line.endIndex)])
    }

    private static func pair(_ words: String, _ place: String) throws -> (key: String, value: String) {
        guard let equals = words.firstIndex(of: "=") else { throw ValidationError("\(place): '\(words)' is no 'key = value'") }
        let key = trimmed(words[..<equals]), value = trimmed(words[words.index(after: equals)...])
        guard !key.isEmpty, !value.isEmpty else { throw ValidationError("\(place): '\(words)' is no 'key = value'") }
        guard value.hasPrefix("\"") else { return (key, value) }
        let inner = value.dropFirst().dropLast()
        guard value.count >= 2, value.hasSuffix("\""), !inner.contains("\""), !inner.contains("\\") else {
            throw ValidationError("\(place): the text \(value) does not end, or holds quotes or backslashes")
        }
        return (key, String(inner))
    }

    private static func trimmed(_ text: some StringProtocol) -> String {
        String(text.drop { $0.isWhitespace }.reversed().drop { $0.isWhitespace }.reversed())
    }
}
