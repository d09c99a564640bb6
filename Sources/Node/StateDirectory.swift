import Foundation

/// A folder that one process of the cluster keeps its keys and lists in. Only its owner may read it.
///
/// Files are small texts, replaced as a whole: a reader sees the old one or the new one, also after a crash.
package struct StateDirectory: Sendable {
    static let fileBytesMax = 1 << 20

    package let path: String

    /// Makes the folder (mode 0700) when it is missing. Throws when it is no folder or others may enter it.
    package init(path: String) throws {
        self.path = path
        do {
            try FileManager.default.createDirectory(
                atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        } catch {
            throw NodeError(.stateDirectory, "the state directory \(path) can't be made: choose another with --state", cause: error)
        }
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
            throw NodeError(.stateDirectory, "\(path) is no directory: choose another with --state")
        }
        guard status.st_mode & 0o077 == 0 else {
            throw NodeError(
                .stateDirectory,
                "the state directory \(path) holds keys but has mode \(String(status.st_mode & 0o777, radix: 8)): run chmod 700 \(path)")
        }
    }

    /// A folder that another process made. Throws when it is missing: whoever asks about a cluster with a mistyped path should hear of it.
    package init(existing path: String) throws {
        guard FileManager.default.fileExists(atPath: path) else {
            throw NodeError(.stateDirectory, "there is no state directory \(path): name the one that 'staffel coordinator' was given with --state")
        }
        try self.init(path: path)
    }

    package func file(_ name: String) -> String { path + "/" + name }

    /// The text of a file; `nil` when there is none.
    package func read(_ name: String) throws -> String? {
        guard let handle = FileHandle(forReadingAtPath: file(name)) else {
            guard errno == ENOENT || !FileManager.default.fileExists(atPath: file(name)) else {
                throw NodeError(.stateDirectory, "\(file(name)) can't be read: \(String(cString: strerror(errno)))")
            }
            return nil
        }
        defer { try? handle.close() }
        let data: Data
        do { data = try handle.read(upToCount: Self.fileBytesMax + 1) ?? Data() } catch {
            throw NodeError(.stateDirectory, "\(file(name)) can't be read", cause: error)
        }
        guard data.count <= Self.fileBytesMax, let text = String(data: data, encoding: .utf8) else {
            throw NodeError(.stateDirectory, "\(file(name)) is no text of at most \(Self.fileBytesMax) bytes: it was not written by staffel; remove it")
        }
        return text
    }

    /// Replaces a file (mode 0600): written beside it, flushed to disk, renamed over it.
    package func write(_ name: String, _ text: String) throws {
        let target = file(name)
        let draft = target + ".\(getpid()).new"
        let descriptor = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw NodeError(.stateDirectory, "\(draft) can't be written: \(String(cString: strerror(errno)))")
        }
        let handle = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
        do {
            try handle.write(contentsOf: Data(text.utf8))
            try handle.synchronize()
            try handle.close()
        } catch {
            unlink(draft)
            throw NodeError(.stateDirectory, "\(draft) can't be written", cause: error)
        }
        guard rename(draft, target) == 0 else {
            unlink(draft)
            throw NodeError(.stateDirectory, "\(target) can't be replaced: \(String(cString: strerror(errno)))")
        }
    }

    package func remove(_ name: String) { unlink(file(name)) }

    /// Names in a folder below this one, ascending; empty when it is missing. Drafts of unfinished writes are left out.
    package func names(in folder: String) -> [String] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: file(folder))) ?? []
        return names.filter { !$0.hasSuffix(".new") }.sorted()
    }
}
