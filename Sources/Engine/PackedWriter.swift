import CKernels

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Writes one file of the cache: under another name, until it is whole and on the disk (`PackedReservation`).
struct PackedWriter {
    enum Outcome: Hashable {
        case written
        /// Another process writes the same file now.
        case busy
        case cancelled
    }

    /// What will be read past the system's cache need not stay in it.
    private let leavesNothingCached: Bool
    private let file: PackedReservation
    private var behind = WriteBehind()
    /// Some file systems don't know the calls; then nothing is done before the end.
    private var isBringing = true

    /// Removes what was used longest ago where there is no room. Throws `cacheUnusable` when that is not enough, or when the
    /// file can't be made.
    static func write(
        _ entry: PackedEntry, _ weights: WeightBytes, in cache: PackedCache, isCancelled: () -> Bool
    ) throws(EngineError) -> Outcome {
        guard let file = try PackedReservation.make([entry], in: cache)[0] else { return .busy }
        do {
            return try write(file, isCancelled: isCancelled) { UnsafeRawBufferPointer(rebasing: weights.buffer[$0]) }
        } catch let error as EngineError {
            throw error
        } catch {
            preconditionFailure("memory that throws")
        }
    }

    /// The same for weights that are made as they are written: `chunk` gives the bytes of each chunk, in order, valid until the next call.
    static func write(
        _ file: PackedReservation, leavesNothingCached: Bool = false, isCancelled: () -> Bool,
        _ chunk: (_ bytes: Range<Int>) throws -> UnsafeRawBufferPointer
    ) throws -> Outcome {
        var writer = PackedWriter(leavesNothingCached: leavesNothingCached, file: file)
        return try writer.write(file.entry.table, isCancelled: isCancelled, chunk)
    }

    private init(leavesNothingCached: Bool, file: PackedReservation) {
        self.leavesNothingCached = leavesNothingCached
        self.file = file
    }

    private mutating func write(
        _ table: PackedTable, isCancelled: () -> Bool, _ give: (Range<Int>) throws -> UnsafeRawBufferPointer
    ) throws -> Outcome {
        var checksums: [UInt64] = []
        for index in 0..<table.chunkCount {
            if isCancelled() { return .cancelled }
            let range = table.chunk(index)
            let chunk = try give(range)
            checksums.append(PackedChecksum.of(chunk))
            try write(chunk, at: range.lowerBound)
            for call in behind.wrote(upTo: range.upperBound) { try perform(call) }
        }
        let bytes = table.bytes(checksums: checksums)
        // The gap before the table, if any, reads as zeros.
        try bytes.withUnsafeBytes { bytes in Result { () throws(EngineError) in try write(bytes, at: table.tableOffset) } }.get()
        guard fsync(file.descriptor) == 0 else { throw file.failure("The cache file can't be brought to the disk") }
        if leavesNothingCached { forget(0..<0) }
        try file.finish()
        return .written
    }

    /// In chunks of a huge page at their own multiples: the page cache then holds them as huge pages where it can, and the
    /// next start maps these without reading the disk.
    private func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(EngineError) {
        var done = 0
        while done < bytes.count {
            let result = pwrite(file.descriptor, bytes.baseAddress! + done, bytes.count - done, off_t(offset + done))
            if result < 0, errno == EINTR { continue }
            guard result > 0 else { throw file.failure("The cache file can't be written") }
            done += result
        }
    }

    private mutating func perform(_ call: WriteBehind.Call) throws(EngineError) {
        guard isBringing else { return }
        let number: Int32
        switch call {
        case .begin(let range): number = sk_file_begin_writing(file.descriptor, Int64(range.lowerBound), Int64(range.count))
        case .finish(let range):
            number = sk_file_finish_writing(file.descriptor, Int64(range.lowerBound), Int64(range.count))
            if number == 0, leavesNothingCached { forget(range) }
        }
        switch number {
        case 0: return
        case ENOSYS, EINVAL, EOPNOTSUPP, ESPIPE: isBringing = false
        default:
            errno = number
            throw file.failure("The cache file can't be brought to the disk")
        }
    }

    /// An empty range is the whole file.
    private func forget(_ range: Range<Int>) {
        #if os(Linux)
            _ = posix_fadvise(file.descriptor, off_t(range.lowerBound), off_t(range.count), POSIX_FADV_DONTNEED)
        #endif
    }
}
