#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// The bytes of one file, mapped read-only, or a copy of bytes in memory. Unmapped when the last reference goes.
///
/// Unchecked, because the compiler cannot see that nothing ever writes through these pointers: the mapping is
/// `PROT_READ`, the copy is private, and both addresses stay the same for the object's life.
///
/// A file that another process cuts short while it is mapped ends this process with SIGBUS on the next access
/// beyond its new end, as with any mapping. Replace model files by rename, never in place.
package final class FileBytes: @unchecked Sendable {
    /// The whole file.
    package let bytes: UnsafeRawBufferPointer
    /// The path, or what stands for it in messages.
    package let name: String
    package let stamp: FileStamp
    /// Of the mapped file, for reads past the mapping; -1 for bytes in memory.
    private let descriptor: Int32
    /// Whether the bytes were mapped, not allocated.
    private let isMapping: Bool

    init(mapping path: String) throws(ModelFileError) {
        // Non-blocking, so that a pipe is refused below and does not hang here.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            throw ModelFileError(
                .cannotOpen, "The model file '\(path)' cannot be opened for reading. Check the path and its permissions.",
                cause: SystemError.last())
        }
        do {
            (bytes, stamp) = try Self.map(descriptor, path: path)
        } catch {
            close(descriptor)
            throw error
        }
        name = path
        self.descriptor = descriptor
        isMapping = true
    }

    private static func map(_ descriptor: Int32, path: String) throws(ModelFileError) -> (UnsafeRawBufferPointer, FileStamp) {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            throw ModelFileError(.cannotRead, "The size of '\(path)' cannot be read.", cause: SystemError.last())
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw ModelFileError(
                .notAFile, "A model file was asked for, but '\(path)' is not a regular file. Give the path of a .gguf file.")
        }
        let size = Int(status.st_size)
        let stamp = FileStamp(byteCount: size, modifiedNanoseconds: status.modifiedNanoseconds, inode: UInt64(status.st_ino))
        guard size > 0 else { return (UnsafeRawBufferPointer(start: nil, count: 0), stamp) }
        guard let start = mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0), start != MAP_FAILED else {
            throw ModelFileError(
                .cannotRead, "The model file '\(path)' (\(size) bytes) cannot be mapped into memory.",
                cause: SystemError.last())
        }
        return (UnsafeRawBufferPointer(start: start, count: size), stamp)
    }

    /// As many bytes as `size`, of which `prefix` are the first and all others zero until `fill` changes them. What is not touched takes no
    /// memory.
    init(
        prefix: UnsafeRawBufferPointer, size: Int, name: String, fill: (UnsafeMutableRawBufferPointer) -> Void
    ) throws(ModelFileError) {
        let count = max(size, prefix.count)
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
        guard count > 0, let start = mmap(nil, count, PROT_READ | PROT_WRITE, flags, -1, 0), start != MAP_FAILED else {
            throw ModelFileError(.cannotRead, "There is no room for the \(count) bytes that '\(name)' stands for.", cause: SystemError.last())
        }
        let memory = UnsafeMutableRawBufferPointer(start: start, count: count)
        memory.copyMemory(from: prefix)
        fill(memory)
        bytes = UnsafeRawBufferPointer(memory)
        self.name = name
        stamp = FileStamp(byteCount: count, modifiedNanoseconds: 0)
        descriptor = -1
        isMapping = true
    }

    init(copying source: [UInt8], name: String) {
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: source.count, alignment: 64)
        copy.copyBytes(from: source)
        bytes = UnsafeRawBufferPointer(copy)
        self.name = name
        stamp = FileStamp(byteCount: source.count, modifiedNanoseconds: 0)
        descriptor = -1
        isMapping = false
    }

    deinit {
        if descriptor >= 0 { close(descriptor) }
        if !isMapping {
            bytes.deallocate()
        } else if bytes.count > 0 {
            munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress!), bytes.count)
        }
    }

    /// Copies the bytes from `offset` on into all of `buffer`, without touching the mapping: no page of it becomes part of
    /// this process, and a file that was cut short meanwhile is an error and no signal.
    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(ModelFileError) {
        precondition(offset >= 0 && offset + buffer.count <= bytes.count, "bytes outside of '\(name)'")
        guard buffer.count > 0 else { return }
        guard descriptor >= 0 else { return buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + buffer.count])) }
        var done = 0
        while done < buffer.count {
            let result = pread(descriptor, buffer.baseAddress! + done, buffer.count - done, off_t(offset + done))
            if result < 0, errno == EINTR { continue }
            guard result > 0 else {
                throw ModelFileError(
                    .cannotRead,
                    "\(buffer.count) bytes at offset \(offset) of '\(name)' cannot be read\(result == 0 ? ": the file became shorter" : ""). Fetch it again, or look after the disk.",
                    cause: result == 0 ? nil : SystemError.last())
            }
            done += result
        }
    }

    /// Lets the system fetch bytes from the disk that will be read soon. A wish, so it can't fail.
    func willRead(at offset: Int, count: Int) {
        #if os(Linux)
        if descriptor >= 0 { _ = posix_fadvise(descriptor, off_t(offset), off_t(count), POSIX_FADV_WILLNEED) }
        #endif
    }
}

/// What the file system says of a file's content without reading it. Bytes in memory have the time 0.
package struct FileStamp: Hashable, Sendable {
    package let byteCount: Int
    /// Since 1970.
    package let modifiedNanoseconds: Int64
    /// Another one when a file was replaced; 0 for bytes in memory.
    package var inode: UInt64 = 0
}

extension stat {
    fileprivate var modifiedNanoseconds: Int64 {
        #if canImport(Darwin)
        let time = st_mtimespec
        #else
        let time = st_mtim
        #endif
        return Int64(time.tv_sec) &* 1_000_000_000 &+ Int64(time.tv_nsec)
    }
}

extension SystemError {
    /// The error of the C call just made.
    static func last() -> SystemError {
        let number = errno
        return SystemError(number: number, description: String(cString: strerror(number)))
    }
}
