#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// What reading from a disk was found to give.
package struct DiskRate: Hashable, Sendable {
    package var bytesPerSecond: Double
    /// How many bytes that was measured with.
    package var bytes: Int
    /// Files of the cache, as steps read them; else a file that was written for it a moment ago.
    package var isOfPackedFiles: Bool
}

/// Measures how fast a folder's disk is read, past the system's cache: the bound on decoding where weights are streamed from it.
///
/// It reads what steps would read, in places that nobody foresees: a disk, and a machine whose disk is another one's file, has somewhere faster
/// what was just written and what was read at the last start, and looks better there than it is. While steps stream, what they find takes the place
/// of what was found here (`StreamTotals.readNanoseconds`).
package enum DiskProbe {
    /// At most so much is read, for so long: a fast disk gets going, a slow one doesn't hold up the start.
    static let readBytesMax = 512 << 20
    static let readMs = 500
    /// Files of the cache that have less than this together are no sample of a disk.
    static let packedBytesMin = 128 << 20
    /// Where there are none: at most so much is written, for so long.
    static let writtenBytesMax = 512 << 20
    static let writtenBytesMin = 32 << 20
    static let writeMs = 1_000
    /// As `LayerStream` reads: pieces of so many bytes...
    private static let blockBytes = LayerStream.blockChunks * PackedTable.chunkBytes
    /// ... and so many that follow each other. A layer has more, but places are to be many.
    private static let runBlocks = 8

    /// Read by as many threads as stream weights. Throws `cacheUnusable` where nothing can be read or written.
    ///
    /// - Parameter seed: of the places.
    package static func rate(_ cache: PackedCache, seed: UInt64 = clockSeed) throws(EngineError) -> DiskRate {
        let room = PackedRoom(cache: cache)
        try room.makeFolder(cache.folder)
        let packed = room.wholeFiles().filter { $0.bytes >= blockBytes }.sorted { $0.path < $1.path }
        if packed.reduce(0, { $0 + $1.bytes }) >= packedBytesMin {
            let files = packed.compactMap { file -> ProbedFile? in
                let descriptor = systemOpen(file.path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0)
                return descriptor < 0 ? nil : ProbedFile(descriptor: descriptor)
            }
            if let rate = try rate(files, seed: seed, folder: cache.folder) { return DiskRate(rate, isOfPackedFiles: true) }
        }
        let own = try ownFile(in: cache.folder, room)
        guard let rate = try rate([own], seed: seed, folder: cache.folder) else { throw failure("What was written can't be read back", cache.folder) }
        return DiskRate(rate, isOfPackedFiles: false)
    }

    package static var clockSeed: UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return UInt64(bitPattern: Int64(time.tv_sec)) &* 1_000_000_000 &+ UInt64(bitPattern: Int64(time.tv_nsec))
    }

    // MARK: Reading

    /// An open file, and where to read it.
    private final class ProbedFile {
        let descriptor: Int32
        let blocks: Int

        init(descriptor: Int32) {
            self.descriptor = descriptor
            var status = stat()
            blocks = fstat(descriptor, &status) == 0 ? Int(status.st_size) / blockBytes : 0
            #if os(Linux)
                // What the file system can't read past the cache is at least not in it.
                _ = posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED)
                let flags = fcntl(descriptor, F_GETFL)
                if flags >= 0 { _ = fcntl(descriptor, F_SETFL, flags | PackedFile.direct) }
            #endif
        }

        deinit { close(descriptor) }

        /// False when it can't be read.
        func read(block: Int, to place: UnsafeMutableRawPointer) -> Bool {
            if pread(descriptor, place, blockBytes, off_t(block * blockBytes)) == blockBytes { return true }
            // Some file systems take the flag and refuse the reads.
            let flags = fcntl(descriptor, F_GETFL)
            guard errno == EINVAL, flags & PackedFile.direct != 0 else { return false }
            _ = fcntl(descriptor, F_SETFL, flags & ~PackedFile.direct)
            return pread(descriptor, place, blockBytes, off_t(block * blockBytes)) == blockBytes
        }
    }

    private struct Place {
        var file: Int
        var block: Int
    }

    /// Runs of blocks all over the files, in no order, none twice.
    private static func places(_ files: [ProbedFile], seed: UInt64) -> [Place] {
        var runs: [Range<Int>] = []
        var owners: [Int] = []
        for (index, file) in files.enumerated() {
            for start in stride(from: 0, to: file.blocks, by: runBlocks) {
                runs.append(start..<min(start + runBlocks, file.blocks))
                owners.append(index)
            }
        }
        var state = seed
        var places: [Place] = []
        for drawn in runs.indices {
            guard places.count * blockBytes < readBytesMax else { break }
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            let other = drawn + Int((state >> 33) % UInt64(runs.count - drawn))
            runs.swapAt(drawn, other)
            owners.swapAt(drawn, other)
            places += runs[drawn].map { Place(file: owners[drawn], block: $0) }
        }
        return places
    }

    /// nil when nothing could be read.
    private static func rate(_ files: [ProbedFile], seed: UInt64, folder: String) throws(EngineError) -> (bytes: Int, seconds: Double)? {
        let places = places(files, seed: seed)
        let pool = try ComputePool(threads: LayerStream.readers)
        let memory = try AlignedMemory(byteCount: LayerStream.readers * blockBytes, for: "the disk probe")
        memset(memory.base, 1, memory.byteCount)
        var blocks = [Int](repeating: 0, count: pool.threads)
        var sums = [UInt64](repeating: 0, count: pool.threads)
        let started = ContinuousClock.now
        func readAll(_ blocks: UnsafeMutableBufferPointer<Int>, _ sums: UnsafeMutableBufferPointer<UInt64>) {
            pool.runEach { thread, threads in
                for index in stride(from: thread, to: places.count, by: threads) {
                    guard ContinuousClock.now - started < .milliseconds(readMs) else { return }
                    let place = places[index]
                    let memory = memory.base + thread * blockBytes
                    guard files[place.file].read(block: place.block, to: memory) else { return }
                    // As it is done with every read of a step.
                    sums[thread] &+= PackedChecksum.of(UnsafeRawBufferPointer(start: memory, count: blockBytes))
                    blocks[thread] += 1
                }
            }
        }
        blocks.withUnsafeMutableBufferPointer { blocks in sums.withUnsafeMutableBufferPointer { readAll(blocks, $0) } }
        let seconds = (ContinuousClock.now - started) / .seconds(1)
        let bytes = blocks.reduce(0, +) * blockBytes
        return bytes == 0 ? nil : (bytes, max(seconds, 1e-6))
    }

    // MARK: Writing

    /// Without a name: it goes with its descriptor.
    private static func ownFile(in folder: String, _ room: PackedRoom) throws(EngineError) -> ProbedFile {
        var name = Array("\(folder)/probe-XXXXXX".utf8CString)
        let descriptor = mkstemp(&name)
        guard descriptor >= 0 else { throw failure("No file can be made", folder) }
        unlink(name)
        var isWritten = false
        defer { if !isWritten { close(descriptor) } }
        // Not zeros, which some disks don't write.
        let block = try AlignedMemory(byteCount: blockBytes, for: "the disk probe")
        var random: UInt64 = 1
        for offset in stride(from: 0, to: blockBytes, by: 8) {
            random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            block.base.storeBytes(of: random, toByteOffset: offset, as: UInt64.self)
        }
        // No more than a small part of what is free.
        let bytesMax = max(writtenBytesMin, min(writtenBytesMax, room.freeBytes() / 16))
        let started = ContinuousClock.now
        for offset in stride(from: 0, to: bytesMax, by: blockBytes) {
            if offset >= writtenBytesMin, ContinuousClock.now - started >= .milliseconds(writeMs) { break }
            guard pwrite(descriptor, block.base, blockBytes, off_t(offset)) == blockBytes else {
                throw failure("\(writtenBytesMin) bytes can't be written", folder)
            }
            // So that the time is the disk's.
            if (offset / blockBytes) % runBlocks == runBlocks - 1, fsync(descriptor) != 0 { throw failure("What was written can't be brought to the disk", folder) }
        }
        guard fsync(descriptor) == 0 else { throw failure("What was written can't be brought to the disk", folder) }
        isWritten = true
        return ProbedFile(descriptor: descriptor)
    }

    private static func failure(_ what: String, _ folder: String) -> EngineError {
        let number = errno
        return EngineError(
            .cacheUnusable,
            "The disk of the cache '\(folder)' was to be measured, because weights may be streamed from it (--weights-memory). \(what): \(String(cString: strerror(number))). Name a folder on another disk with --cache.")
    }
}

extension DiskRate {
    fileprivate init(_ read: (bytes: Int, seconds: Double), isOfPackedFiles: Bool) {
        self.init(bytesPerSecond: Double(read.bytes) / read.seconds, bytes: read.bytes, isOfPackedFiles: isOfPackedFiles)
    }
}
