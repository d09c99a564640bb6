import CZeroMQ
import Glibc

/// A secret key on disk: one line of Z85, readable by its owner only. The public key is derived from it.
package struct CurveKeyFile: Sendable {
    package static let mode: mode_t = 0o600
    /// 40 characters and a line end, of either kind.
    private static let bytesMax = 42

    package let path: String

    package init(path: String) { self.path = path }

    /// Refuses links, files of other users, files that others may open, and files that hold anything but one key.
    package func load() throws(ZeroMQError) -> CurveKeyPair {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
        guard descriptor >= 0 else { throw failed("opening", "check that it exists, is no link and belongs to this user") }
        defer { close(descriptor) }
        try checkOwnerAndMode(descriptor)
        var bytes = [UInt8](repeating: 0, count: Self.bytesMax + 1)
        let count = read(descriptor, &bytes, bytes.count)
        guard count >= 0 else { throw failed("reading", "check the disk") }
        var text = String(decoding: bytes.prefix(count), as: UTF8.self)
        while text.last?.isNewline == true { text.removeLast() }
        do { return try CurveKeyPair(secretKey: CurveSecretKey(z85: text)) } catch {
            throw ZeroMQError(
                .keyFileUnusable,
                "reading key file \(path): expected one secret key of \(Z85.characterCount) characters, found \(count > Self.bytesMax ? "more" : "\(text.utf8.count)") "
                    + "or other characters; restore it, or remove it to have a new key made")
        }
    }

    /// The key of the file; makes both when there is no file. Two processes that do so at once agree on one key.
    package func createIfMissing() throws(ZeroMQError) -> CurveKeyPair {
        if access(path, F_OK) == 0 { return try load() }
        guard errno == ENOENT else { throw failed("looking for", "check the folders above it") }
        try create(CurveKeyPair.generate())
        return try load()
    }

    /// Writes a file beside the path, then links it there: the path holds a whole key or nothing, and an existing key is never replaced.
    private func create(_ keys: CurveKeyPair) throws(ZeroMQError) {
        let temporary = "\(path).\(getpid()).\(UInt64.random(in: .min ... .max))"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, Self.mode)
        guard descriptor >= 0 else { throw failed("making", "check that its folder exists and is writable") }
        defer { unlink(temporary) }
        let line = Array((keys.secretKey.z85 + "\n").utf8)
        // The mode of `open` is cut by the umask; a wider one is not possible, a narrower one would lock us out.
        let written = fchmod(descriptor, Self.mode) == 0 && write(descriptor, line, line.count) == line.count && fsync(descriptor) == 0
        let writeError = errno
        close(descriptor)
        guard written else { throw failed("writing", "check that the disk has room", writeError) }
        guard link(temporary, path) == 0 || errno == EEXIST else { throw failed("making", "check that its folder is writable") }
    }

    private func checkOwnerAndMode(_ descriptor: Int32) throws(ZeroMQError) {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw failed("inspecting", "check the disk") }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw ZeroMQError(.keyFileUnusable, "key file \(path) is no regular file; give the path of a file")
        }
        guard status.st_uid == geteuid() else {
            throw ZeroMQError(.keyFileUnusable, "key file \(path) belongs to user \(status.st_uid), this process runs as \(geteuid()); chown it or run as its owner")
        }
        let mode = status.st_mode & 0o777
        guard mode == Self.mode else {
            throw ZeroMQError(
                .keyFileUnusable, "key file \(path) has mode 0\(String(mode, radix: 8)), so others may use the key; run: chmod 600 '\(path)'")
        }
    }

    private func failed(_ asked: String, _ advice: String, _ number: Int32 = errno) -> ZeroMQError {
        ZeroMQError(.keyFileUnusable, "\(asked) key file \(path): \(String(cString: strerror(number))); \(advice)", cause: number)
    }
}
