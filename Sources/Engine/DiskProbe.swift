#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Measures how fast a folder's disk is read, past the system's cache: the bound on decoding where weights are streamed from it.
package enum DiskProbe {
    /// Written once, read once. Enough that a disk gets going, little enough that a slow one takes some seconds.
    private static let probeBytes = 256 << 20
    /// As `LayerStream` reads.
    private static let blockBytes = LayerStream.blockChunks * PackedTable.chunkBytes

    /// Bytes in a second, read in blocks by as many threads as stream weights, from a file that it writes and removes. A disk that keeps somewhere
    /// faster what was just written looks better than it is. Throws `cacheUnusable` where nothing can be written.
    package static func bytesPerSecond(_ cache: PackedCache) throws(EngineError) -> Double {
        try PackedRoom(cache: cache).makeFolder(cache.folder)
        let descriptor = try ownFile(in: cache.folder)
        defer { close(descriptor) }
        return try rate(descriptor, folder: cache.folder)
    }

    /// Without a name: it goes with its descriptor.
    private static func ownFile(in folder: String) throws(EngineError) -> Int32 {
        var name = Array("\(folder)/probe-XXXXXX".utf8CString)
        let descriptor = mkstemp(&name)
        guard descriptor >= 0 else { throw failure("No file can be made", folder) }
        unlink(name)
        // Not zeros, which some disks don't write.
        let block = try AlignedMemory(byteCount: blockBytes, for: "the disk probe")
        var random: UInt64 = 1
        for offset in stride(from: 0, to: blockBytes, by: 8) {
            random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            block.base.storeBytes(of: random, toByteOffset: offset, as: UInt64.self)
        }
        for offset in stride(from: 0, to: probeBytes, by: blockBytes) {
            guard pwrite(descriptor, block.base, blockBytes, off_t(offset)) == blockBytes else {
                let error = failure("\(probeBytes) bytes can't be written", folder)
                close(descriptor)
                throw error
            }
        }
        guard fsync(descriptor) == 0 else {
            let error = failure("What was written can't be brought to the disk", folder)
            close(descriptor)
            throw error
        }
        return descriptor
    }

    private static func rate(_ descriptor: Int32, folder: String) throws(EngineError) -> Double {
        #if os(Linux)
            // What the file system can't read past the cache is at least not in it.
            _ = posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED)
            let flags = fcntl(descriptor, F_GETFL)
            _ = fcntl(descriptor, F_SETFL, flags | PackedFile.direct)
        #endif
        let pool = try ComputePool(threads: LayerStream.readers)
        let memory = try AlignedMemory(byteCount: LayerStream.readers * blockBytes, for: "the disk probe")
        var errors = [Int32](repeating: 0, count: pool.threads)
        let time = ContinuousClock().measure {
            errors.withUnsafeMutableBufferPointer { errors in
                pool.runEach { thread, threads in
                    for offset in stride(from: thread * blockBytes, to: probeBytes, by: threads * blockBytes) {
                        if pread(descriptor, memory.base + thread * blockBytes, blockBytes, off_t(offset)) != blockBytes { errors[thread] = errno }
                    }
                }
            }
        }
        if let number = errors.first(where: { $0 != 0 }) {
            errno = number
            throw failure("What was written can't be read back", folder)
        }
        return Double(probeBytes) / max(time / .seconds(1), 1e-6)
    }

    private static func failure(_ what: String, _ folder: String) -> EngineError {
        let number = errno
        return EngineError(
            .cacheUnusable,
            "The disk of the cache '\(folder)' was to be measured, because weights may be streamed from it (--weights-memory). \(what): \(String(cString: strerror(number))). Name a folder on another disk with --cache.")
    }
}
