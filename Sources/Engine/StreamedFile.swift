import CKernels

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// A file of the cache from which weights are read again and again: past the system's cache where its file system allows that, so that what is
/// streamed takes no memory but the ring's.
///
/// Every chunk's checksum is compared with every read, not only with the first: a disk that answers wrongly today answered rightly yesterday, and
/// the sum costs a tenth of the time of reading.
struct StreamedFile: Sendable {
    let file: PackedFile
    let path: String

    /// Reads chunks `chunks` of the unit to `place`, which begins at a page and has room for whole pages. Any thread.
    func read(_ chunks: Range<Int>, to place: UnsafeMutableRawPointer) throws(EngineError) {
        let start = file.table.chunk(chunks.lowerBound).lowerBound
        let count = file.table.chunk(chunks.upperBound - 1).upperBound - start
        let buffer = UnsafeMutableRawBufferPointer(start: place, count: WeightResidency.pages(count))
        if let number = file.readPages(at: start, into: buffer) { throw lost(String(cString: strerror(number))) }
        for chunk in chunks {
            let range = file.table.chunk(chunk)
            let bytes = UnsafeRawBufferPointer(start: place + (range.lowerBound - start), count: range.count)
            guard file.isIntact(chunk, bytes) else { throw lost("bytes \(range) are not those that were written") }
        }
    }

    /// The file goes, so that the next load packs the unit anew; whoever else has it open finds out for himself.
    private func lost(_ why: String) -> EngineError {
        let isRemoved = file.isStill(path) && unlink(path) == 0
        return EngineError(
            .weightsLost,
            "Weights are streamed from '\(path)', but \(why). \(isRemoved ? "The file was removed, and" : "Another file has its name by now, or")"
                + " the next load packs \(file.table.unit.name) again. Look at the disk when it happens again.")
    }
}

extension PackedFile {
    /// `O_DIRECT`, whose name is not everywhere.
    #if arch(arm64)
        static let direct: Int32 = 0o200000
    #else
        static let direct: Int32 = 0o40000
    #endif

    /// From here on reads go past the system's cache, where the file system has that.
    func openDirectly() {
        #if os(Linux)
            let flags = fcntl(descriptor, F_GETFL)
            if flags >= 0 { _ = fcntl(descriptor, F_SETFL, flags | Self.direct) }
        #endif
    }

    /// Reads whole pages. The number of the error, nil for none.
    fileprivate func readPages(at start: Int, into buffer: UnsafeMutableRawBufferPointer) -> Int32? {
        precondition(start % PackedTable.pageBytes == 0 && start + buffer.count <= table.fileBytes, "whole pages of the file")
        var done = 0
        while done < buffer.count {
            let result = pread(descriptor, buffer.baseAddress! + done, buffer.count - done, off_t(start + done))
            if result < 0, errno == EINTR { continue }
            if result < 0, errno == EINVAL, isDirect {
                readThroughCache()
                continue
            }
            guard result > 0 else { return result == 0 ? EIO : errno }
            done += result
        }
        #if os(Linux)
            if !isDirect { _ = posix_fadvise(descriptor, off_t(start), off_t(buffer.count), POSIX_FADV_DONTNEED) }
        #endif
        return nil
    }

    private var isDirect: Bool {
        #if os(Linux)
            return fcntl(descriptor, F_GETFL) & Self.direct != 0
        #else
            return false
        #endif
    }

    /// Some file systems take the flag and refuse the reads.
    private func readThroughCache() {
        let flags = fcntl(descriptor, F_GETFL)
        if flags >= 0 { _ = fcntl(descriptor, F_SETFL, flags & ~Self.direct) }
    }

    /// Whether the name still belongs to the file that is open here.
    fileprivate func isStill(_ path: String) -> Bool {
        var opened = stat()
        var named = stat()
        return fstat(descriptor, &opened) == 0 && lstat(path, &named) == 0 && opened.st_ino == named.st_ino && opened.st_dev == named.st_dev
    }
}
