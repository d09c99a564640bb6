#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Writes one file of the cache.
///
/// It grows under another name and takes its own when it is whole and on the disk. The other name is the same for
/// all processes, and who writes holds its lock: a second one sees that and leaves the work to the first, and what a
/// killed one left behind has no lock and is written over.
struct PackedWriter {
    enum Outcome: Hashable {
        case written
        /// Another process writes the same file now.
        case busy
        case cancelled
    }

    static let partialSuffix = ".partial"
    /// Bytes that may wait for the disk. More of them would only take memory from others, and make the last call wait.
    private static let unwrittenBytesMax = 64 << 20

    /// What will be read past the system's cache need not stay in it.
    private let leavesNothingCached: Bool
    private let path: String
    private var partial: String { path + Self.partialSuffix }
    private let descriptor: Int32

    /// Removes what was used longest ago where there is no room. Throws `cacheUnusable` when that is not enough, or when the
    /// file can't be made.
    static func write(
        _ entry: PackedEntry, _ weights: WeightBytes, in cache: PackedCache, isCancelled: () -> Bool
    ) throws(EngineError) -> Outcome {
        do {
            return try write(entry, in: cache, isCancelled: isCancelled) { UnsafeRawBufferPointer(rebasing: weights.buffer[$0]) }
        } catch let error as EngineError {
            throw error
        } catch {
            preconditionFailure("memory that throws")
        }
    }

    /// The same for weights that are made as they are written: `chunk` gives the bytes of each chunk, in order, valid until the next call.
    static func write(
        _ entry: PackedEntry, in cache: PackedCache, leavesNothingCached: Bool = false, isCancelled: () -> Bool,
        _ chunk: (_ bytes: Range<Int>) throws -> UnsafeRawBufferPointer
    ) throws -> Outcome {
        let path = cache.path(entry)
        let room = PackedRoom(cache: cache)
        try room.makeFolder("\(cache.folder)/\(entry.model)")
        try room.make(entry.table.fileBytes, for: entry.model)
        let partial = path + partialSuffix
        let descriptor = systemOpen(partial, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw failure("The cache file '\(partial)' can't be made") }
        // Closing it gives the lock back.
        defer { close(descriptor) }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0, isStill(partial, descriptor) else { return .busy }
        let writer = PackedWriter(leavesNothingCached: leavesNothingCached, path: path, descriptor: descriptor)
        do {
            let outcome = try writer.write(entry.table, isCancelled: isCancelled, chunk)
            if outcome != .written { unlink(partial) }
            return outcome
        } catch {
            unlink(partial)
            throw error
        }
    }

    /// Between opening and locking, another process may have finished the file and given it its name.
    private static func isStill(_ partial: String, _ descriptor: Int32) -> Bool {
        var opened = stat()
        var named = stat()
        return fstat(descriptor, &opened) == 0 && lstat(partial, &named) == 0 && opened.st_ino == named.st_ino
    }

    private func write(
        _ table: PackedTable, isCancelled: () -> Bool, _ give: (Range<Int>) throws -> UnsafeRawBufferPointer
    ) throws -> Outcome {
        guard ftruncate(descriptor, 0) == 0 else { throw failure("The cache file can't be emptied") }
        var checksums: [UInt64] = []
        for index in 0..<table.chunkCount {
            if isCancelled() { return .cancelled }
            let range = table.chunk(index)
            let chunk = try give(range)
            checksums.append(PackedChecksum.of(chunk))
            try write(chunk, at: range.lowerBound)
            if range.upperBound % Self.unwrittenBytesMax == 0 { try bringToDisk() }
        }
        let bytes = table.bytes(checksums: checksums)
        // The gap before the table, if any, reads as zeros.
        try bytes.withUnsafeBytes { bytes in Result { () throws(EngineError) in try write(bytes, at: table.tableOffset) } }.get()
        try bringToDisk()
        guard fchmod(descriptor, 0o400) == 0 else { throw failure("The cache file can't be made read-only") }
        guard rename(partial, path) == 0 else { throw failure("The cache file can't take its name") }
        return .written
    }

    /// In chunks of a huge page at their own multiples: the page cache then holds them as huge pages where it can, and the
    /// next start maps these without reading the disk.
    private func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(EngineError) {
        var done = 0
        while done < bytes.count {
            let result = pwrite(descriptor, bytes.baseAddress! + done, bytes.count - done, off_t(offset + done))
            if result < 0, errno == EINTR { continue }
            guard result > 0 else { throw failure("The cache file can't be written") }
            done += result
        }
    }

    private func bringToDisk() throws(EngineError) {
        guard fsync(descriptor) == 0 else { throw failure("The cache file can't be brought to the disk") }
        #if os(Linux)
            if leavesNothingCached { _ = posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED) }
        #endif
    }

    private func failure(_ what: String) -> EngineError { Self.failure("\(what) ('\(partial)')") }

    private static func failure(_ what: String) -> EngineError {
        let number = errno
        return EngineError(
            .cacheUnusable,
            "\(what): \(String(cString: strerror(number))). Weights are packed anew at each start; give a folder that can be written to, or free its disk.")
    }
}
