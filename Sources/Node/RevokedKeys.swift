import ClusterCore
import Wire

/// Keys that may never connect to a coordinator again: one file a key in a folder of its own.
///
/// Files, so that `staffel key revoke` needs no running coordinator and never writes the list of peers, which a running one owns. A key stays
/// revoked: whoever runs that machine again makes a new key and joins with a new token.
package struct RevokedKeys: Sendable {
    private static let folder = "revoked"

    private let directory: StateDirectory
    private let files: StateDirectory

    package init(directory: StateDirectory) throws {
        self.directory = directory
        files = try StateDirectory(path: directory.file(Self.folder))
    }

    /// - Parameter note: for people, such as the peer's role and name.
    package func add(_ key: PeerKey, note: String) throws {
        try files.write(Hex.encode(key.bytes), "\(note.filter { $0 != "\n" })\n")
    }

    /// Ascending by key.
    package func all() -> [PeerKey] {
        directory.names(in: Self.folder).compactMap { name in Hex.decode(name).flatMap { PeerKey(bytes: $0) } }
    }

    /// What was noted of a key; empty for one that is not revoked.
    package func note(of key: PeerKey) -> String {
        ((try? files.read(Hex.encode(key.bytes))) ?? nil)?.split(separator: "\n").first.map(String.init) ?? ""
    }
}
