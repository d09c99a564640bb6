import Foundation

/// A folder with keys below the system's temporary one, for as long as this process lives. Only its owner may enter.
///
/// A process that is killed can't remove its folder. So each holds a lock on a file in its own, which the system takes back whatever becomes of the
/// process, and whoever makes the next one removes those whose lock is free. The file gets its name when it is locked already: a folder without
/// one is somebody's who is just making it, and is left alone, as is all that is not exactly ours (name, owner, mode).
package struct LeasedFolder: Sendable {
    private static let lockName = "lock"
    /// What `mkdtemp` puts in the place of the Xs.
    private static let randomCharacters = 6
    /// Of entries that are looked at; a temporary folder may hold many more of others.
    private static let staleMax = 1_000

    package let path: String
    /// Folders of dead processes that were removed.
    package let removed: [String]
    /// Open as long as the process lives. No child inherits it, or it would live on in one.
    private let lock: Int32

    /// A new folder `prefix` + six characters in `parent`, after those of dead processes are removed there. Throws `NodeError`.
    package init(in parent: String, prefix: String) throws {
        removed = Self.removeStale(in: parent, prefix: prefix)
        var template = Array("\(parent)/\(prefix)\(String(repeating: "X", count: Self.randomCharacters))".utf8CString)
        guard mkdtemp(&template) != nil else {
            throw NodeError(.stateDirectory, "no folder can be made in \(parent): \(String(cString: strerror(errno)))")
        }
        path = String(decoding: template.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let draft = "\(path)/\(Self.lockName).new"
        lock = open(draft, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard lock >= 0, flock(lock, LOCK_EX | LOCK_NB) == 0, rename(draft, "\(path)/\(Self.lockName)") == 0 else {
            let reason = String(cString: strerror(errno))
            if lock >= 0 { close(lock) }
            try? FileManager.default.removeItem(atPath: path)
            throw NodeError(.stateDirectory, "no lock can be had in \(path): \(reason)")
        }
    }

    package func remove() {
        try? FileManager.default.removeItem(atPath: path)
        close(lock)
    }

    // MARK: - What others left

    private static func removeStale(in parent: String, prefix: String) -> [String] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: parent)) ?? []
        return names.filter { isName($0, prefix) }.sorted().prefix(staleMax).map { "\(parent)/\($0)" }.filter(removeIfStale)
    }

    private static func isName(_ name: String, _ prefix: String) -> Bool {
        name.hasPrefix(prefix) && name.utf8.count == prefix.utf8.count + randomCharacters
            && name.dropFirst(prefix.count).allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber) }
    }

    private static func removeIfStale(_ path: String) -> Bool {
        let folder = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard folder >= 0 else { return false }
        defer { close(folder) }
        let lock = openat(folder, lockName, O_RDWR | O_NOFOLLOW | O_CLOEXEC)
        guard lock >= 0 else { return false }
        // Held until the folder is gone, so that of two who find it one removes it.
        defer { close(lock) }
        var status = stat()
        guard fstat(folder, &status) == 0, status.st_uid == geteuid(), status.st_mode & 0o7777 == 0o700 else { return false }
        guard fstat(lock, &status) == 0, status.st_uid == geteuid(), status.st_mode & S_IFMT == S_IFREG, status.st_nlink == 1 else { return false }
        guard flock(lock, LOCK_EX | LOCK_NB) == 0 else { return false }
        // Somebody else may have removed it since it was opened.
        var present = stat()
        guard lstat("\(path)/\(lockName)", &present) == 0, present.st_ino == status.st_ino, present.st_dev == status.st_dev else { return false }
        return (try? FileManager.default.removeItem(atPath: path)) != nil
    }
}
