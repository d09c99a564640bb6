import ClusterCore
import Foundation
import ModelFiles
import Synchronization

/// A model's files of which only some chunks are there: they have the model's sizes and names and each byte has its place, so that who reads
/// layers of it reads it as any model; the rest is a hole that takes no room.
///
/// Beside it lie the manifest and a record of the chunks that were found right, one a line: `chunk 17` behind each that was written,
/// `sealed N` when all that the record's first N bytes say is on the disk, `dropped 17` when room was made. What stands before the last
/// seal is trusted; what stands behind is hashed again, because after a loss of power the record may be ahead of the bytes. A line that is
/// cut off or damaged says nothing. Several processes may write at once: each writes only right bytes, and lines go in whole.
///
/// Any thread may read; one stores.
final class SliceFile: Sendable {
    static let recordName = "verified"
    private static let manifestName = "manifest"
    /// Parts with names are in a folder of their own, where they meet no file of ours.
    private static let partsName = "model"
    private static let recordBytesMax = 64 << 20

    let manifest: EncodedManifest
    let folder: String
    private let parts: [Int32]
    private let record: Int32
    private let state: Mutex<State>

    private struct State {
        var held: ChunkSet
        /// Of `held`: not behind a seal yet.
        var unsealed: Set<Int>
        /// Of these: neither written nor looked at by this object.
        var doubtful: Set<Int>
        /// Stored by this object.
        var stored: Set<Int> = []
    }

    /// Opens what is there of the manifest's model in `folder`, or begins it. Throws `NodeError` when the folder can't be used.
    init(folder: String, manifest: EncodedManifest) throws {
        self.folder = folder
        self.manifest = manifest
        do {
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
            if !manifest.manifest.partNames.isEmpty {
                try FileManager.default.createDirectory(
                    atPath: folder + "/" + Self.partsName, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
            }
            let kept = folder + "/" + Self.manifestName
            if FileManager.default.contents(atPath: kept).map([UInt8].init) != manifest.bytes {
                try Data(manifest.bytes).write(to: URL(fileURLWithPath: kept), options: .atomic)
            }
        } catch {
            throw NodeError(.weightsUnusable, "the folder \(folder) for fetched weights can't be written: choose another with --cache", cause: error)
        }
        var opened: [Int32] = []
        do {
            record = try Self.open(folder + "/" + Self.recordName, O_RDWR | O_APPEND)
            opened.append(record)
            // Held while anybody uses the folder, so that nobody makes room of it.
            guard flock(record, LOCK_SH | LOCK_NB) == 0 else {
                throw NodeError(.weightsUnusable, "\(folder) is just being removed by another process: try again")
            }
            for (path, bytes) in zip(Self.paths(folder, manifest.manifest), manifest.manifest.partBytes) {
                let part = try Self.open(path, O_RDWR)
                opened.append(part)
                guard ftruncate(part, off_t(bytes)) == 0 else { throw Self.failure("\(path) can't be given its size") }
            }
        } catch {
            for descriptor in opened { close(descriptor) }
            throw error
        }
        parts = Array(opened.dropFirst())
        _ = futimens(record, nil)
        state = Mutex(Self.recorded(record, count: manifest.manifest.chunkCount))
        setTime()
    }

    deinit { for descriptor in parts + [record] { close(descriptor) } }

    private static func open(_ path: String, _ flags: Int32) throws -> Int32 {
        let descriptor = Glibc.open(path, flags | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw failure("\(path) can't be opened") }
        return descriptor
    }

    private static func paths(_ folder: String, _ manifest: WeightManifest) -> [String] {
        guard manifest.partNames.isEmpty else { return manifest.partNames.map { "\(folder)/\(partsName)/\($0)" } }
        return GGUFFile.partPaths(in: folder, count: manifest.partBytes.count)
    }

    /// What a model reader opens: a file, or a folder.
    var path: String { manifest.manifest.partNames.isEmpty ? Self.paths(folder, manifest.manifest)[0] : "\(folder)/\(Self.partsName)" }

    /// The manifest that is kept in `folder`, if it is this one.
    static func keptManifest(in folder: String, digest: ContentDigest) -> EncodedManifest? {
        guard let data = FileManager.default.contents(atPath: folder + "/" + manifestName), data.count <= Limits.manifestBytesMax else { return nil }
        guard let kept = try? [UInt8](data).withUnsafeBytes(EncodedManifest.init(bytes:)), kept.digest == digest else { return nil }
        return kept
    }

    // MARK: - The record

    private static func recorded(_ record: Int32, count: Int) -> State {
        var bytes = [UInt8](repeating: 0, count: Int(min(lseek(record, 0, SEEK_END), off_t(recordBytesMax))))
        let read = bytes.withUnsafeMutableBytes { pread(record, $0.baseAddress, $0.count, 0) }
        var held = ChunkSet(count: count)
        var since: [Int: Int] = [:]
        var sealedBytes = 0
        var end = 0
        for line in bytes.prefix(max(0, read)).split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).dropLast() {
            end += line.count + 1
            let words = String(decoding: line, as: UTF8.self).split(separator: " ")
            guard words.count == 2, let number = Int(words[1]), number >= 0 else { continue }
            switch words[0] {
            case "chunk" where number < count:
                held.insert(number)
                since[number] = end
            case "dropped" where number < count: held.remove(number)
            case "sealed" where number < end: sealedBytes = max(sealedBytes, number)
            default: continue
            }
        }
        let unsealed = since.filter { $0.value > sealedBytes && held.contains($0.key) }.keys
        // A line that was cut off must neither swallow the next one nor become whole.
        if read > 0, bytes[read - 1] != UInt8(ascii: "\n") { _ = write(record, "?\n", 2) }
        return State(held: held, unsealed: Set(unsealed), doubtful: Set(unsealed))
    }

    private func append(_ line: String) throws {
        let bytes = Array((line + "\n").utf8)
        guard write(record, bytes, bytes.count) == bytes.count else { throw Self.failure("the record of \(folder) can't be written") }
    }

    // MARK: - Chunks

    var held: ChunkSet { state.withLock { $0.held } }

    /// Whether the bytes are those of the manifest.
    func isIntact(_ index: Int, _ bytes: UnsafeRawBufferPointer) -> Bool {
        bytes.count == manifest.manifest.place(of: index).byteCount && ContentHash.sha256(bytes).elementsEqual(manifest.manifest.hash(of: index))
    }

    /// Copies a chunk into all of `buffer`.
    func read(chunk index: Int, into buffer: UnsafeMutableRawBufferPointer) throws {
        let place = manifest.manifest.place(of: index)
        precondition(buffer.count == place.byteCount)
        var done = 0
        while done < buffer.count {
            let count = pread(parts[place.part], buffer.baseAddress! + done, buffer.count - done, off_t(place.offset + done))
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw Self.failure("a chunk of \(folder) can't be read") }
            done += count
        }
    }

    /// Of `wanted`, what is not here. Chunks of which it is not sure are hashed; `tick` hears the bytes of each and may throw.
    func lacking(_ wanted: [Int], tick: (_ bytes: Int) throws -> Void) throws -> [Int] {
        var lacking: [Int] = []
        for index in wanted {
            let (isHeld, isSure) = state.withLock { ($0.held.contains(index), !$0.doubtful.contains(index)) }
            if isHeld, !isSure {
                let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: manifest.manifest.place(of: index).byteCount, alignment: 64)
                defer { buffer.deallocate() }
                try tick(buffer.count)
                let isRead = (try? read(chunk: index, into: buffer)) != nil
                if isRead, isIntact(index, UnsafeRawBufferPointer(buffer)) {
                    state.withLock { _ = $0.doubtful.remove(index) }
                    continue
                }
                drop([index])
            } else if isHeld {
                continue
            }
            lacking.append(index)
        }
        return lacking
    }

    /// Writes a chunk that `isIntact` and records it. Throws `diskFull` or `weightsUnusable`.
    func store(_ index: Int, _ bytes: UnsafeRawBufferPointer) throws {
        let place = manifest.manifest.place(of: index)
        var done = 0
        while done < bytes.count {
            let count = pwrite(parts[place.part], bytes.baseAddress! + done, bytes.count - done, off_t(place.offset + done))
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                let error = Self.failure("a chunk of \(place.byteCount) bytes can't be written to \(folder)")
                punch(place)
                throw error
            }
            done += count
        }
        try append("chunk \(index)")
        state.withLock { state in
            state.held.insert(index)
            state.unsealed.insert(index)
            state.doubtful.remove(index)
            state.stored.insert(index)
        }
        setTime()
    }

    /// Brings all to the disk: from now on it is trusted without being hashed. What nobody has looked at since it was in doubt is given up.
    func seal() throws {
        drop(state.withLock { $0.doubtful }.sorted())
        guard !state.withLock({ $0.unsealed.isEmpty }) else { return }
        let end = lseek(record, 0, SEEK_END)
        for part in parts { guard fsync(part) == 0 else { throw Self.failure("\(folder) can't be brought to the disk") } }
        try append("sealed \(end)")
        guard fsync(record) == 0 else { throw Self.failure("the record of \(folder) can't be brought to the disk") }
        state.withLock { $0.unsealed = [] }
    }

    /// Gives back the room of chunks. What is sealed leaves the record first, or a loss of power could leave holes that are trusted; what is
    /// not would be found out in any case, and a full disk takes no more lines before there is room.
    func drop(_ indices: some Sequence<Int>) {
        var sealed: [Int] = []
        for index in indices {
            let isSealed = state.withLock { state in
                state.held.remove(index)
                state.doubtful.remove(index)
                return state.unsealed.remove(index) == nil
            }
            if isSealed {
                if (try? append("dropped \(index)")) != nil { sealed.append(index) }
            } else {
                punch(manifest.manifest.place(of: index))
                try? append("dropped \(index)")
            }
        }
        if !sealed.isEmpty, fsync(record) == 0 { for index in sealed { punch(manifest.manifest.place(of: index)) } }
        setTime()
    }

    /// Whether no other process, and nothing else in this one, has it open. An exclusive lock says so; taking it over the shared one and
    /// going back is no more than a moment in which somebody may remove what nobody uses.
    func isUsedHereOnly() -> Bool {
        let isAlone = flock(record, LOCK_EX | LOCK_NB) == 0
        _ = flock(record, LOCK_SH | LOCK_NB)
        return isAlone
    }

    /// Drops what this object stored and did not seal: a fetch that failed for want of room leaves the disk as it found it.
    func rollBack() { drop(state.withLock { $0.stored.intersection($0.unsealed) }.sorted()) }

    /// Makes a hole of the pages that are the chunk's alone; those at its edges stay. A wish: where the file system can't, room is lost.
    private func punch(_ place: WeightManifest.Place) {
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        let start = (place.offset + page - 1) / page * page
        let count = (place.offset + place.byteCount) / page * page - start
        guard count > 0, let base = mmap(nil, count, PROT_READ | PROT_WRITE, MAP_SHARED, parts[place.part], off_t(start)), base != MAP_FAILED
        else { return }
        // MADV_REMOVE: Glibc's own call for holes is hidden from Swift.
        _ = madvise(base, count, 9)
        munmap(base, count)
    }

    /// The same content has the same time, whoever fetched it and when: what was packed from it is found again.
    private func setTime() {
        let seconds = manifest.digest.bytes.prefix(4).reduce(0) { $0 << 8 | Int($1) }
        let times = [timespec](repeating: timespec(tv_sec: seconds, tv_nsec: 0), count: 2)
        for part in parts { _ = futimens(part, times) }
    }

    private static func failure(_ what: String) -> NodeError {
        let number = errno
        let isFull = number == ENOSPC || number == EDQUOT
        return NodeError(
            isFull ? .diskFull : .weightsUnusable,
            "\(what): \(String(cString: strerror(number))). \(isFull ? "Free some room, or give the cache another disk with --cache" : "Look after the disk")")
    }
}
