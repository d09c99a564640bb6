#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Makes room in a cache folder: those files go that were used longest ago.
struct PackedRoom {
    private struct Kept {
        let path: String
        let bytes: Int
        /// When it was last used.
        let seconds: Int
        let nanoseconds: Int
    }

    let cache: PackedCache

    /// Removes files until `bytes` more fit under both limits. Files of `model` stay, because they belong to the same slice,
    /// and so do files that a process has open. Throws `cacheUnusable` when it is not enough.
    func make(_ bytes: Int, for model: String) throws(EngineError) {
        let all = kept()
        var used = all.reduce(0) { $0 + $1.bytes }
        var oldest = all.filter { !$0.path.hasPrefix("\(cache.folder)/\(model)/") }
            .sorted { ($0.seconds, $0.nanoseconds, $0.path) > ($1.seconds, $1.nanoseconds, $1.path) }
        while true {
            let free = freeBytes()
            let isFull = used + bytes > cache.limits.bytesMax
            if !isFull, free - bytes >= cache.limits.freeBytesMin { return }
            guard let victim = oldest.popLast() else {
                throw EngineError(
                    .cacheUnusable,
                    isFull
                        ? "The cache '\(cache.folder)' holds \(used) bytes of this model or in use; \(bytes) more pass its limit of \(cache.limits.bytesMax). Raise the limit."
                        : "The disk of the cache '\(cache.folder)' has \(free) bytes free; \(bytes) more would leave less than \(cache.limits.freeBytesMin). Free some, or give the cache another folder."
                )
            }
            if remove(victim.path) { used -= victim.bytes }
        }
    }

    /// Files that are whole, in no order that means anything.
    func wholeFiles() -> [(path: String, bytes: Int)] {
        kept().filter { $0.path.hasSuffix(PackedCache.suffix) }.map { ($0.path, $0.bytes) }
    }

    /// Makes a folder, and those above it, for this user alone.
    func makeFolder(_ path: String) throws(EngineError) {
        guard mkdir(path, 0o700) != 0, errno != EEXIST else { return }
        let parent = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? ""
        if errno == ENOENT, !parent.isEmpty {
            try makeFolder(parent)
            if mkdir(path, 0o700) == 0 || errno == EEXIST { return }
        }
        throw EngineError(
            .cacheUnusable,
            "The cache folder '\(path)' can't be made: \(String(cString: strerror(errno))). Weights are packed anew at each start; give a folder that can be written to."
        )
    }

    /// False when a process has it open.
    private func remove(_ path: String) -> Bool {
        let descriptor = systemOpen(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0)
        guard descriptor >= 0 else { return unlink(path) == 0 }
        defer { close(descriptor) }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0, unlink(path) == 0 else { return false }
        // Works only for a folder that has become empty.
        rmdir(String(path[..<path.lastIndex(of: "/")!]))
        return true
    }

    /// On the disk, for this user.
    func freeBytes() -> Int {
        var status = statvfs()
        guard statvfs(cache.folder, &status) == 0 else { return .max / 2 }
        return Int(clamping: UInt64(status.f_bavail).multipliedReportingOverflow(by: UInt64(status.f_frsize)).partialValue)
    }

    /// Whole files and what killed writers left; nothing else that lies in the folder is ours.
    private func kept() -> [Kept] {
        var kept: [Kept] = []
        for model in names(in: cache.folder) {
            for name in names(in: "\(cache.folder)/\(model)") {
                guard name.hasSuffix(PackedCache.suffix) || name.hasSuffix(PackedCache.suffix + PackedReservation.partialSuffix) else { continue }
                let path = "\(cache.folder)/\(model)/\(name)"
                var status = stat()
                guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { continue }
                kept.append(
                    Kept(path: path, bytes: Int(status.st_blocks) * 512, seconds: status.st_mtim.tv_sec, nanoseconds: status.st_mtim.tv_nsec))
            }
        }
        return kept
    }

    private func names(in folder: String) -> [String] {
        guard let stream = opendir(folder) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { name in
                name.withMemoryRebound(to: CChar.self, capacity: MemoryLayout.size(ofValue: name.pointee)) { String(cString: $0) }
            }
            if !name.hasPrefix(".") { names.append(name) }
        }
        return names
    }
}
