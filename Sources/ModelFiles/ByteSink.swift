#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Where a writer's bytes go: memory, or a file that takes its name only when it is whole.
package struct ByteSink {
    /// Bytes collected before a write to the file.
    private static let bufferBytes = 1 << 20

    /// Bytes written so far.
    package private(set) var count = 0
    /// What a sink without a file has collected; for a file, what is not written yet.
    private(set) var memory: [UInt8] = []
    private let path: String?
    private var descriptor: Int32 = -1

    init() { path = nil }

    init(path: String) throws(ModelFileError) {
        self.path = path
        descriptor = open(path + ".partial", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else {
            throw ModelFileError(
                .cannotWrite, "The file '\(path).partial' cannot be created. Check that the folder exists and may be written to.",
                cause: SystemError.last())
        }
        memory.reserveCapacity(ByteSink.bufferBytes)
    }

    /// Whether two paths are one file, by whatever names.
    static func isSameFile(_ path: String, _ other: String) -> Bool {
        var first = stat(), second = stat()
        guard stat(path, &first) == 0, stat(other, &second) == 0 else { return false }
        return first.st_dev == second.st_dev && first.st_ino == second.st_ino
    }

    /// Throws where the file system surely has no room for a file of so many bytes: better now than after an hour.
    static func checkRoom(for bytes: Int, at path: String) throws(ModelFileError) {
        let folder = path.contains("/") ? String(path[..<path.lastIndex(of: "/")!]) + "/" : "."
        var status = statvfs()
        guard statvfs(folder, &status) == 0 else { return }
        let free = UInt64(status.f_bavail).multipliedReportingOverflow(by: UInt64(status.f_frsize))
        guard !free.overflow, free.partialValue < UInt64(bytes) else { return }
        throw ModelFileError(
            .cannotWrite,
            "The file '\(path)' needs \(bytes) bytes, but its disk has only \(free.partialValue) free. Make room, or name a file on another disk.")
    }

    package mutating func write(_ bytes: some Sequence<UInt8>) throws(ModelFileError) {
        let before = memory.count
        memory.append(contentsOf: bytes)
        count += memory.count - before
        if descriptor >= 0, memory.count >= ByteSink.bufferBytes { try flush() }
    }

    /// Zeros, which in a file are a hole: they take no room on the disk.
    mutating func skip(_ bytes: Int) throws(ModelFileError) {
        guard descriptor >= 0 else { return try write(repeatElement(0, count: bytes)) }
        try flush()
        count += bytes
        guard ftruncate(descriptor, off_t(count)) == 0, lseek(descriptor, off_t(count), SEEK_SET) >= 0 else { throw failure("cannot be made longer") }
    }

    mutating func pad(to alignment: Int) throws(ModelFileError) {
        try write(repeatElement(0, count: (alignment - count % alignment) % alignment))
    }

    private mutating func flush() throws(ModelFileError) {
        var written = 0
        while written < memory.count {
            let result = memory.withUnsafeBytes { systemWrite(descriptor, $0.baseAddress! + written, $0.count - written) }
            if result < 0 {
                if errno == EINTR { continue }
                throw failure("cannot be written; the disk may be full")
            }
            written += result
        }
        memory.removeAll(keepingCapacity: true)
    }

    /// Writes what is left, to the disk, and gives the file its name.
    mutating func finish() throws(ModelFileError) {
        guard let path else { return }
        try flush()
        guard fsync(descriptor) == 0 else { throw failure("cannot be brought to the disk") }
        let status = close(descriptor)
        descriptor = -1
        guard status == 0 else { throw failure("cannot be closed") }
        guard rename(path + ".partial", path) == 0 else { throw failure("cannot be renamed to '\(path)'") }
    }

    /// Removes the partial file after a failure.
    mutating func abandon() {
        guard let path else { return }
        if descriptor >= 0 { close(descriptor) }
        descriptor = -1
        unlink(path + ".partial")
    }

    private func failure(_ what: String) -> ModelFileError {
        ModelFileError(.cannotWrite, "The file '\(path ?? "").partial' \(what).", cause: SystemError.last())
    }
}

/// The C call, whose name the sink's own method hides.
private func systemWrite(_ descriptor: Int32, _ bytes: UnsafeRawPointer, _ count: Int) -> Int {
    write(descriptor, bytes, count)
}
