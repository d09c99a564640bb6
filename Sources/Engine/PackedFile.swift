#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// A file of the cache, opened for reading and known to be the one that is wanted; its weights are not checked yet.
///
/// The file is never changed under its name, only replaced or removed, so whoever has it open keeps what was found. While
/// it is open a shared lock says so to those who look for files to remove. (A person who cuts the file short while a
/// worker has it mapped ends that worker, as with any mapping.)
final class PackedFile: @unchecked Sendable {
    let table: PackedTable
    let descriptor: Int32
    private let checksums: [UInt64]
    /// Changed by the loading thread only, while no other one uses this object.
    private var mapping: UnsafeRawBufferPointer?
    private var reserved: UnsafeMutableRawBufferPointer?

    /// nil when there is none.
    static func open(_ path: String, table: PackedTable) -> Result<PackedFile?, PackedRefusal> {
        // Non-blocking, so that a pipe is refused and not waited for.
        let descriptor = systemOpen(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0)
        guard descriptor >= 0 else { return errno == ENOENT || errno == ENOTDIR ? .success(nil) : .failure(.unreadable) }
        switch checksums(descriptor, table: table) {
        case .failure(let refusal):
            close(descriptor)
            return .failure(refusal)
        case .success(let checksums):
            // The time of the last use, by which files are chosen for removal. Not ours to set on a read-only disk.
            _ = flock(descriptor, LOCK_SH | LOCK_NB)
            _ = futimens(descriptor, nil)
            return .success(PackedFile(table: table, descriptor: descriptor, checksums: checksums))
        }
    }

    private static func checksums(_ descriptor: Int32, table: PackedTable) -> Result<[UInt64], PackedRefusal> {
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return .failure(.unreadable) }
        guard status.st_uid == geteuid() || status.st_uid == 0 else { return .failure(.foreignOwner) }
        guard Int(status.st_size) == table.fileBytes else { return .failure(.wrongSize) }
        var bytes = [UInt8](repeating: 0, count: table.tableBytes)
        let isRead = bytes.withUnsafeMutableBytes { readAll(descriptor, at: table.tableOffset, into: $0) }
        return isRead ? table.checksums(in: bytes) : .failure(.unreadable)
    }

    private init(table: PackedTable, descriptor: Int32, checksums: [UInt64]) {
        self.table = table
        self.descriptor = descriptor
        self.checksums = checksums
    }

    deinit {
        unmap()
        close(descriptor)
    }

    // MARK: Mapped

    /// Maps the weights where a huge page begins and asks for huge pages, which file systems with large folios give. Other
    /// processes that map the file have the same pages. False when the system refuses.
    func map() -> Bool {
        if mapping != nil { return true }
        let room = table.fileBytes + AlignedMemory.hugePageBytes
        guard let start = mmap(nil, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), start != MAP_FAILED else { return false }
        let aligned = start.alignedUp(toMultipleOf: AlignedMemory.hugePageBytes)
        guard let base = mmap(aligned, table.fileBytes, PROT_READ, MAP_SHARED | MAP_FIXED, descriptor, 0), base != MAP_FAILED else {
            munmap(start, room)
            return false
        }
        #if os(Linux)
            _ = madvise(base, table.fileBytes, MADV_HUGEPAGE)
        #endif
        reserved = UnsafeMutableRawBufferPointer(start: start, count: room)
        mapping = UnsafeRawBufferPointer(start: base, count: table.dataBytes)
        return true
    }

    /// Gives the mapping up, which nobody may use any more.
    func unmap() {
        if let reserved { munmap(reserved.baseAddress!, reserved.count) }
        reserved = nil
        mapping = nil
    }

    /// The mapped weights, which keep this file open.
    var mapped: WeightBytes {
        guard let mapping else { preconditionFailure("a file that was not mapped") }
        return WeightBytes(base: mapping.baseAddress!, byteCount: table.dataBytes, owner: self)
    }

    /// Fetches a chunk of the mapping and compares its checksum. Any thread.
    func isIntact(chunk index: Int) -> Bool {
        guard let mapping else { preconditionFailure("a file that was not mapped") }
        let range = table.chunk(index)
        let chunk = UnsafeRawBufferPointer(rebasing: mapping[range])
        #if os(Linux)
            // Fetches all pages at once, and says what reading would answer with a signal: a bad disk, a shorter file. Before
            // Linux 5.14 it is an invalid argument, and the pages come one by one below.
            let populateRead: Int32 = 22
            if madvise(UnsafeMutableRawPointer(mutating: chunk.baseAddress!), chunk.count, populateRead) != 0, errno != EINVAL { return false }
        #endif
        return PackedChecksum.of(chunk) == checksums[index]
    }

    /// The same for a chunk that somebody read.
    func isIntact(_ index: Int, _ bytes: UnsafeRawBufferPointer) -> Bool { PackedChecksum.of(bytes) == checksums[index] }

    // MARK: Copied

    /// Reads a chunk to its place in the unit's memory at `base` and compares its checksum. Any thread.
    func read(chunk index: Int, to base: UnsafeMutableRawPointer) -> Bool {
        let range = table.chunk(index)
        let place = UnsafeMutableRawBufferPointer(start: base + range.lowerBound, count: range.count)
        guard Self.readAll(descriptor, at: range.lowerBound, into: place) else { return false }
        return PackedChecksum.of(UnsafeRawBufferPointer(place)) == checksums[index]
    }

    private static func readAll(_ descriptor: Int32, at offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Bool {
        var done = 0
        while done < buffer.count {
            let result = pread(descriptor, buffer.baseAddress! + done, buffer.count - done, off_t(offset + done))
            if result < 0, errno == EINTR { continue }
            guard result > 0 else { return false }
            done += result
        }
        return true
    }
}

/// The C call, whose name methods here hide.
func systemOpen(_ path: String, _ flags: Int32, _ mode: mode_t) -> Int32 { open(path, flags, mode) }
