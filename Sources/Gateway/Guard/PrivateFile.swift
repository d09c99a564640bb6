#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif

/// A small file that only its owner may read: API keys, a TLS key.
struct PrivateFile: Sendable {
    /// Tells one content of a path from another without reading it.
    struct Stamp: Hashable, Sendable {
        var inode: UInt64
        var bytes: Int64
        var seconds: Int64
        var nanoseconds: Int64
    }

    let path: String
    /// For people: begins the sentences of errors, such as "The file of API keys".
    let noun: String
    let code: GatewayError.Code

    /// `nil` where there is no such file.
    var stamp: Stamp? { Self.stamp(of: path) }

    static func stamp(of path: String) -> Stamp? {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        return Stamp(
            inode: UInt64(status.st_ino), bytes: Int64(status.st_size), seconds: Int64(status.st_mtim.tv_sec),
            nanoseconds: Int64(status.st_mtim.tv_nsec))
    }

    /// - Throws: where the file can't be read, is open to others than its owner, or has more than `bytesMax` bytes.
    func read(bytesMax: Int) throws(GatewayError) -> [UInt8] {
        guard let file = fopen(path, "r") else { throw GatewayError(code, "\(noun) '\(path)' cannot be read: \(String(cString: strerror(errno))).") }
        defer { fclose(file) }
        var status = stat()
        guard fstat(fileno(file), &status) == 0, status.st_mode & 0o077 == 0 else {
            throw GatewayError(code, "\(noun) '\(path)' is open to others than its owner. Make it private: chmod 600.")
        }
        var bytes = [UInt8](repeating: 0, count: bytesMax + 1)
        let count = fread(&bytes, 1, bytes.count, file)
        guard count <= bytesMax else { throw GatewayError(code, "\(noun) '\(path)' is over \(bytesMax) bytes.") }
        return Array(bytes[..<count])
    }

    /// Replaces the file, mode 0600, as a whole: a reader sees the old one or the new one, also after a crash.
    func replace(with bytes: [UInt8]) throws(GatewayError) {
        let draft = "\(path).\(getpid()).new"
        let descriptor = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw GatewayError(code, "'\(draft)' cannot be written: \(String(cString: strerror(errno))).") }
        // A draft that an earlier crash left behind keeps the mode it had.
        let isWritten = fchmod(descriptor, 0o600) == 0 && write(descriptor, bytes, bytes.count) == bytes.count && fsync(descriptor) == 0
        let number = errno
        close(descriptor)
        guard isWritten, rename(draft, path) == 0 else {
            unlink(draft)
            throw GatewayError(code, "\(noun) '\(path)' cannot be replaced: \(String(cString: strerror(isWritten ? errno : number))).")
        }
    }
}
