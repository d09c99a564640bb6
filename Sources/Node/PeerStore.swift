import ClusterCore
import Wire

/// Who may connect to a coordinator: a text file with one `role key name` a line, the key in hexadecimal.
package struct PeerStore {
    package struct Entry: Hashable, Sendable {
        package var key: PeerKey
        package var role: PeerRole
        package var name: String

        package init(key: PeerKey, role: PeerRole, name: String) {
            self.key = key
            self.role = role
            self.name = name
        }
    }

    /// Far more than a cluster may have at work, and few enough for the file to be read again (`StateDirectory.fileBytesMax`).
    package static let entriesMax = 2_048
    private static let fileName = "peers"
    private static let roles: [(PeerRole, String)] = [(.worker, "worker"), (.gateway, "gateway"), (.console, "console")]

    private let directory: StateDirectory
    package private(set) var entries: [Entry]

    /// Reads the list; an absent file is an empty list, a damaged line an error that names it.
    package init(directory: StateDirectory) throws {
        self.directory = directory
        entries = try (directory.read(Self.fileName) ?? "").split(separator: "\n").enumerated().map { number, line in
            let fields = line.split(separator: " ", maxSplits: 2, omittingEmptySubsequences: false)
            guard fields.count == 3, let role = Self.roles.first(where: { $0.1 == fields[0] })?.0,
                let bytes = Hex.decode(String(fields[1])), let key = PeerKey(bytes: bytes)
            else {
                throw NodeError(
                    .stateDirectory,
                    "\(directory.file(Self.fileName)) line \(number + 1) is not 'role key name': restore the file, or remove the line and enrol that peer again")
            }
            return Entry(key: key, role: role, name: String(fields[2]))
        }
    }

    package func role(of key: PeerKey) -> PeerRole? { entries.first { $0.key == key }?.role }

    /// What speaks against admitting `key` as `role` by a one-time token; `nil` for nothing.
    ///
    /// Whoever holds a token names the key that it admits, and others' public keys are no secret: a token must not change who they are.
    package func refusal(of key: PeerKey, as role: PeerRole) -> String? {
        if let known = self.role(of: key), known != role {
            return "this key is admitted as \(known) already: a \(role) needs a key, and so a state folder, of its own"
        }
        guard self.role(of: key) != nil || entries.count < Self.entriesMax else {
            return "\(entries.count) keys are admitted, the most there may be: revoke those that are not in use ('staffel key list')"
        }
        return nil
    }

    /// Takes a peer off the list and writes it; nothing happens where it is not on it.
    package mutating func remove(_ key: PeerKey) throws {
        guard role(of: key) != nil else { return }
        entries.removeAll { $0.key == key }
        try write()
    }

    /// Adds or replaces a peer and writes the list.
    package mutating func admit(_ entry: Entry) throws {
        entries.removeAll { $0.key == entry.key }
        entries.append(entry)
        try write()
    }

    private func write() throws {
        let lines = entries.map { entry in
            let role = Self.roles.first { $0.0 == entry.role }!.1
            return "\(role) \(Hex.encode(entry.key.bytes)) \(entry.name.filter { $0 != "\n" })\n"
        }
        try directory.write(Self.fileName, lines.joined())
    }
}
