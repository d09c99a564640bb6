import ClusterCore
import Foundation

/// The folder of fetched slices: one folder below it for each manifest. Whoever was used longest ago goes when room is needed; what a process
/// uses stays.
package struct SliceCache: Sendable, Hashable {
    /// What all of it may take: two slices of an eighth of a 405B model of 4 bits.
    package static let bytesMaxDefault = 64 << 30
    /// What is always left free on the disk.
    package static let freeBytesMinDefault = 1 << 30

    package let folder: String
    package let bytesMax: Int
    package let freeBytesMin: Int

    package init(folder: String, bytesMax: Int = bytesMaxDefault, freeBytesMin: Int = freeBytesMinDefault) {
        self.folder = folder
        self.bytesMax = bytesMax
        self.freeBytesMin = freeBytesMin
    }

    func folder(of manifest: ContentDigest) -> String { "\(folder)/\(manifest.description.prefix(32))" }

    private struct Kept {
        var path: String
        var bytes: Int
        /// When it was last used.
        var used: timespec
    }

    /// Removes slices until `bytes` more fit: first the chunks of `slice` that `wanted` leaves out where nobody else uses it, then other
    /// slices. Throws `diskFull` when it is not enough.
    func makeRoom(_ bytes: Int, for slice: SliceFile, wanted: [Int]) throws {
        guard bytes > 0 else { return }
        var others = kept().filter { $0.path != slice.folder }
            .sorted { ($0.used.tv_sec, $0.used.tv_nsec, $0.path) > ($1.used.tv_sec, $1.used.tv_nsec, $1.path) }
        var isTrimmed = false
        while true {
            let used = kept().reduce(0) { $0 + $1.bytes }
            let free = freeBytes()
            let isOver = used + bytes > bytesMax
            if !isOver, free - bytes >= freeBytesMin { return }
            if let oldest = others.popLast() {
                remove(oldest.path)
            } else if !isTrimmed {
                isTrimmed = true
                trim(slice, to: wanted)
            } else {
                throw NodeError(
                    .diskFull,
                    isOver
                        ? "the slice lacks \(bytes) bytes, and \(folder) holds \(used) already that are in use; its limit is \(bytesMax): raise --slices-limit"
                        : "the slice lacks \(bytes) bytes, and the disk of \(folder) has \(free) free, of which \(freeBytesMin) stay: free some, or choose another disk with --cache"
                )
            }
        }
    }

    private func trim(_ slice: SliceFile, to wanted: [Int]) {
        guard slice.isUsedHereOnly() else { return }
        let keep = Set(wanted)
        let held = slice.held
        slice.drop((0..<held.count).filter { held.contains($0) && !keep.contains($0) })
    }

    private func remove(_ path: String) {
        let record = open("\(path)/\(SliceFile.recordName)", O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        if record >= 0, flock(record, LOCK_EX | LOCK_NB) != 0 {
            close(record)
            return
        }
        try? FileManager.default.removeItem(atPath: path)
        if record >= 0 { close(record) }
    }

    private func freeBytes() -> Int {
        var status = statvfs()
        guard statvfs(folder, &status) == 0 else { return .max / 2 }
        return Int(clamping: UInt64(status.f_bavail).multipliedReportingOverflow(by: UInt64(status.f_frsize)).partialValue)
    }

    private func kept() -> [Kept] {
        let files = FileManager.default
        return ((try? files.contentsOfDirectory(atPath: folder)) ?? []).compactMap { name in
            // Only what looks like ours.
            guard name.count == 32, name.allSatisfy(\.isHexDigit) else { return nil }
            let path = "\(folder)/\(name)"
            var status = stat()
            var kept = Kept(path: path, bytes: 0, used: timespec())
            // With what lies in folders below it.
            for file in (try? files.subpathsOfDirectory(atPath: path)) ?? [] where lstat("\(path)/\(file)", &status) == 0 {
                kept.bytes += Int(status.st_blocks) * 512
                if file == SliceFile.recordName { kept.used = status.st_mtim }
            }
            return kept
        }
    }
}
