import ModelFiles

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// A folder of packed weights, so that a worker's second start reads what its first start made. A value: it holds no file
/// open and may be used by any thread and by several processes at once.
///
/// Below the folder each model has one of its own, named by its digest and by its files' sizes and times, with one file
/// for each `WeightUnit`. Whatever is wrong with the cache costs time, never a right answer: a file that is not exactly
/// the one wanted is refused and made anew, and where none can be written a worker runs without.
package struct PackedCache: Sendable, Hashable {
    package struct Limits: Sendable, Hashable {
        /// What all files of the folder may take: four 72B models of 4 bits. Before more is written, those used longest ago go.
        package var bytesMax = 160 << 30
        /// What is always left free on the disk.
        package var freeBytesMin = 4 << 30
        package init() {}
    }

    package let folder: String
    package let limits: Limits

    /// The folder is made when the first file is written. It must be one that only this user may write to.
    package init(folder: String, limits: Limits = Limits()) {
        self.folder = folder
        self.limits = limits
    }

    static let suffix = ".packed"

    /// Where a unit of this model lies, and what must be in it.
    func entry(_ layout: WeightLayout, of file: any ModelSource, digest: ModelDigest) throws(ModelFileError) -> PackedEntry {
        let stamps = file.stamps
        var numbers: [UInt8] = []
        for stamp in stamps {
            withUnsafeBytes(of: UInt64(stamp.byteCount).littleEndian) { numbers += $0 }
            withUnsafeBytes(of: stamp.modifiedNanoseconds.littleEndian) { numbers += $0 }
        }
        let stamp = String(PackedChecksum.of(numbers), radix: 16)
        return PackedEntry(
            model: "\(digest.hexadecimal.prefix(32))-\(String(repeating: "0", count: 16 - stamp.count))\(stamp)",
            table: try PackedTable(layout, digest: digest, stamps: stamps))
    }

    func path(_ entry: PackedEntry) -> String { "\(folder)/\(entry.model)/\(entry.table.unit.name)\(Self.suffix)" }

    func open(_ entry: PackedEntry) -> Result<PackedFile?, PackedRefusal> { PackedFile.open(path(entry), table: entry.table) }
}

/// A file that the cache has or could have.
struct PackedEntry: Sendable {
    /// Name of the model's folder.
    let model: String
    let table: PackedTable
}
