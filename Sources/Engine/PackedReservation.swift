import CKernels

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// A file of the cache that this process is about to write: the name under which it grows, the lock that keeps others from it, and the disk that
/// it will take.
///
/// The other name is the same for all processes, so a second one sees the lock and leaves the work to the first; what a killed one left behind has no
/// lock and is written over. Disk is taken before the first byte is written, and by one process after the other: several that begin at once
/// learn at once whether there is room for all they have to write, and not after hours of it.
final class PackedReservation {
    static let partialSuffix = ".partial"

    let entry: PackedEntry
    let path: String
    var partial: String { path + Self.partialSuffix }
    let descriptor: Int32
    private var isKept = false

    /// For each entry, in order; `nil` where another process writes that file now. All of them, or none and an error. Removes what was used longest
    /// ago where there is no room. Throws `cacheUnusable` when that is not enough, or when the files can't be made.
    static func make(_ entries: [PackedEntry], in cache: PackedCache) throws(EngineError) -> [PackedReservation?] {
        let room = PackedRoom(cache: cache)
        for model in Set(entries.map(\.model)).sorted() { try room.makeFolder("\(cache.folder)/\(model)") }
        // Between looking for room and taking it nobody else may take it. Without the lock, the disk itself still says when it is full.
        let turn = systemOpen(cache.folder, O_RDONLY | O_CLOEXEC | O_DIRECTORY, 0)
        defer { if turn >= 0 { close(turn) } }
        while turn >= 0, flock(turn, LOCK_EX) != 0, errno == EINTR {}
        var made: [PackedReservation?] = []
        for entry in entries { made.append(try PackedReservation(entry, in: cache)) }
        let own = made.compactMap { $0 }
        let needed = own.reduce(0) { $0 + $1.entry.table.fileBytes }
        guard let model = own.first?.entry.model else { return made }
        try room.make(needed, for: model)
        for reservation in own { try reservation.takeDisk(needed, room) }
        return made
    }

    /// `nil`: another process has it.
    private init?(_ entry: PackedEntry, in cache: PackedCache) throws(EngineError) {
        let path = cache.path(entry)
        let partial = path + Self.partialSuffix
        let descriptor = systemOpen(partial, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw Self.failure("The cache file '\(partial)' can't be made") }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0, Self.isStill(partial, descriptor) else {
            close(descriptor)
            return nil
        }
        self.entry = entry
        self.path = path
        self.descriptor = descriptor
        guard ftruncate(descriptor, 0) == 0 else { throw Self.failure("The cache file '\(partial)' can't be emptied") }
    }

    /// A file that did not become whole goes; closing it gives the lock back.
    deinit {
        if !isKept { unlink(partial) }
        close(descriptor)
    }

    /// Between opening and locking, another process may have finished the file and given it its name.
    private static func isStill(_ partial: String, _ descriptor: Int32) -> Bool {
        var opened = stat()
        var named = stat()
        return fstat(descriptor, &opened) == 0 && lstat(partial, &named) == 0 && opened.st_ino == named.st_ino
    }

    /// - Parameter all: what this and the files beside it need, for people.
    private func takeDisk(_ all: Int, _ room: PackedRoom) throws(EngineError) {
        let number = sk_file_reserve(descriptor, Int64(entry.table.fileBytes))
        // Not every file system can: then there was room a moment ago, and writing says the rest.
        guard number != 0, number != EOPNOTSUPP, number != ENOSYS else { return }
        let free = room.freeBytes()
        errno = number
        throw Self.failure("\(entry.table.fileBytes) bytes for the cache file '\(partial)', of \(all) in all, can't be had; the disk has \(free) bytes free")
    }

    /// It is whole, and has its own name from here on.
    func finish() throws(EngineError) {
        guard fchmod(descriptor, 0o400) == 0 else { throw failure("The cache file can't be made read-only") }
        guard rename(partial, path) == 0 else { throw failure("The cache file can't take its name") }
        isKept = true
    }

    func failure(_ what: String) -> EngineError { Self.failure("\(what) ('\(partial)')") }

    /// With what the system says.
    private static func failure(_ what: String) -> EngineError {
        let number = errno
        return EngineError(
            .cacheUnusable,
            "\(what): \(String(cString: strerror(number))). Weights are packed anew at each start; give a folder that can be written to, or free its disk.")
    }
}
