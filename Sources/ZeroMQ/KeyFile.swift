import Glibc

/// A secret key on disk: one line of Z85, mode 0600.
package enum KeyFile {
    private static let textBytes = 40

    /// The pair in the file; a new one is made and written when there is no file. Throws when others may read the file, when it belongs
    /// to somebody else, or when it holds no key.
    package static func loadOrCreate(path: String) throws(ZeroMQError) -> CurveKeyPair {
        if let pair = try load(path: path) { return pair }
        let pair = try CurveKeyPair.generate()
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw ZeroMQError(.keyFile, "the key file \(path) can't be made: \(String(cString: strerror(errno)))") }
        defer { close(descriptor) }
        let line = Z85.text(pair.secretKey) + [UInt8(ascii: "\n")]
        guard write(descriptor, line, line.count) == line.count, fsync(descriptor) == 0 else {
            unlink(path)
            throw ZeroMQError(.keyFile, "the key file \(path) can't be written: \(String(cString: strerror(errno)))")
        }
        return pair
    }

    /// `nil` when there is no file.
    package static func load(path: String) throws(ZeroMQError) -> CurveKeyPair? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard descriptor >= 0 else {
            if errno == ENOENT { return nil }
            throw ZeroMQError(.keyFile, "the key file \(path) can't be read: \(String(cString: strerror(errno)))")
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw ZeroMQError(.keyFile, "the key file \(path) is no file")
        }
        guard status.st_mode & 0o077 == 0 else {
            throw ZeroMQError(
                .keyFile, "the key file \(path) has mode \(String(status.st_mode & 0o777, radix: 8)), so others may read it: run chmod 600 \(path)")
        }
        guard status.st_uid == geteuid() else {
            throw ZeroMQError(.keyFile, "the key file \(path) belongs to user \(status.st_uid), not to \(geteuid()): run chown on it")
        }
        var text = [UInt8](repeating: 0, count: textBytes + 2)
        let count = read(descriptor, &text, text.count)
        guard count == textBytes || count == textBytes + 1 && text[textBytes] == UInt8(ascii: "\n"),
            let secret = Z85.bytes(String(decoding: text.prefix(textBytes), as: UTF8.self))
        else {
            throw ZeroMQError(.keyFile, "the key file \(path) holds no key: remove it to get a new one, then enrol again")
        }
        return try CurveKeyPair(secretKey: secret)
    }
}
