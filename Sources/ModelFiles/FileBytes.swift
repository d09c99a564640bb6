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
    private let isMapped: Bool

    init(mapping path: String) throws(ModelFileError) {
        // Non-blocking, so that a pipe is refused below and does not hang here.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            throw ModelFileError(
                .cannotOpen, "The model file '\(path)' cannot be opened for reading. Check the path and its permissions.",
                cause: SystemError.last())
        }
        defer { close(descriptor) }

        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            throw ModelFileError(.cannotRead, "The size of '\(path)' cannot be read.", cause: SystemError.last())
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw ModelFileError(
                .notAFile, "A model file was asked for, but '\(path)' is not a regular file. Give the path of a .gguf file.")
        }
        name = path
        isMapped = status.st_size > 0
        guard status.st_size > 0 else {
            bytes = UnsafeRawBufferPointer(start: nil, count: 0)
            return
        }
        let size = Int(status.st_size)
        guard let start = mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0), start != MAP_FAILED else {
            throw ModelFileError(
                .cannotRead, "The model file '\(path)' (\(size) bytes) cannot be mapped into memory.",
                cause: SystemError.last())
        }
        bytes = UnsafeRawBufferPointer(start: start, count: size)
    }

    init(copying source: [UInt8], name: String) {
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: source.count, alignment: 64)
        copy.copyBytes(from: source)
        bytes = UnsafeRawBufferPointer(copy)
        self.name = name
        isMapped = false
    }

    deinit {
        if isMapped {
            munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress!), bytes.count)
        } else {
            bytes.deallocate()
        }
    }
}

extension SystemError {
    /// The error of the C call just made.
    static func last() -> SystemError {
        let number = errno
        return SystemError(number: number, description: String(cString: strerror(number)))
    }
}
