import CKernels
import ModelFiles

/// What a cache file says of itself, and so the file's format. Numbers are little-endian; the file is
///
///     the unit's packed bytes, as `WeightLayout` lays them out        data bytes
///     zeros to a multiple of 4096
///     the table                                                      a multiple of 4096
///
/// The weights come first, so that they begin at a page, and at a huge page, wherever the file is mapped. The table is
///
///      0   8  "STFLPACK"
///      8   4  version of this format
///     12   4  SK_PACKED_VERSION: how matrices are packed
///     16   8  bytes of the table
///     24   8  data bytes
///     32   8  bytes of a chunk
///     40   8  unit: kind (0 layer, 1 embedding, 2 head), layer
///     48  32  digest of the model file's headers (`ModelDigest`)
///     80   8  number of the model file's parts, number of places
///     88      for each part: bytes (8), time of the last change in nanoseconds since 1970 (8)
///             for each place: kind (0 matrix, 1 floats) and GGUF type (4 + 4), rows, columns, offset (8 each), checksum of
///             `sampleBytes` from the middle of its tensor (8), bytes of the tensor's name (8), the name, zeros to a multiple of 8
///             for each chunk of the data, the last one shorter: its checksum (8)
///             checksum of the table so far (8)
///             zeros
///
/// All before the chunks' checksums is known from the model file alone, so a reader doesn't parse: it compares. The
/// digest names the model, but not its weights: another training of the same model has the same headers. Its parts'
/// sizes and times tell the two apart, and the samples do where somebody set the times.
struct PackedTable {
    static let formatVersion: UInt32 = 1
    static let pageBytes = 4096
    /// A huge page: what one thread fetches and checks at a time, and what is written at once.
    static let chunkBytes = AlignedMemory.hugePageBytes
    /// Read of each tensor to recognise it, at its middle.
    static let sampleBytes = 4096

    let unit: WeightUnit
    let dataBytes: Int
    /// What `identity` must be for the file to be used.
    private let identity: [UInt8]

    /// Reads a sample of each tensor. Throws `ModelFileError` when the model file can't be read.
    init(_ layout: WeightLayout, digest: ModelDigest, stamps: [FileStamp]) throws(ModelFileError) {
        unit = layout.unit
        dataBytes = layout.byteCount
        var body = Bytes()
        for stamp in stamps {
            body.append(UInt64(stamp.byteCount))
            body.append(UInt64(bitPattern: stamp.modifiedNanoseconds))
        }
        for source in layout.matrices {
            let place = source.place
            body.append(kind: 0, type: place.type.rawValue, rows: place.rows, columns: place.columns, offset: place.offset)
            body.append(name: source.tensor.name, sample: try Self.sample(of: source.tensor))
        }
        for source in layout.vectors {
            let place = source.place
            body.append(kind: 1, type: UInt32(source.tensor.type.rawValue), rows: 1, columns: place.count, offset: place.offset)
            body.append(name: source.tensor.name, sample: try Self.sample(of: source.tensor))
        }

        let chunks = (dataBytes + Self.chunkBytes - 1) / Self.chunkBytes
        let tableBytes = Self.pages(Self.headBytes + body.bytes.count + 8 * chunks + 8)
        var head = Bytes()
        head.bytes += Self.magic
        head.append(Self.formatVersion)
        head.append(UInt32(SK_PACKED_VERSION))
        head.append(UInt64(tableBytes))
        head.append(UInt64(dataBytes))
        head.append(UInt64(Self.chunkBytes))
        head.append(layout.unit.code.kind)
        head.append(layout.unit.code.layer)
        head.bytes += digest.bytes
        head.append(UInt32(stamps.count))
        head.append(UInt32(layout.matrices.count + layout.vectors.count))
        precondition(head.bytes.count == Self.headBytes, "the table's head as the format has it")
        identity = head.bytes + body.bytes
        self.tableBytes = tableBytes
    }

    private static let magic = Array("STFLPACK".utf8)
    private static let headBytes = 88

    let tableBytes: Int
    var tableOffset: Int { Self.pages(dataBytes) }
    var fileBytes: Int { tableOffset + tableBytes }
    var chunkCount: Int { (dataBytes + Self.chunkBytes - 1) / Self.chunkBytes }

    /// The bytes of the data that chunk `index` covers.
    func chunk(_ index: Int) -> Range<Int> { index * Self.chunkBytes..<min((index + 1) * Self.chunkBytes, dataBytes) }

    /// The table as it is written, with the checksums of all chunks.
    func bytes(checksums: [UInt64]) -> [UInt8] {
        precondition(checksums.count == chunkCount, "a checksum for each chunk")
        var table = Bytes(bytes: identity)
        for checksum in checksums { table.append(checksum) }
        table.append(PackedChecksum.of(table.bytes))
        table.bytes += [UInt8](repeating: 0, count: tableBytes - table.bytes.count)
        return table.bytes
    }

    /// The chunks' checksums from a table that was read, `tableBytes` long; or why that file is not to be used.
    func checksums(in table: [UInt8]) -> Result<[UInt64], PackedRefusal> {
        precondition(table.count == tableBytes, "the whole table")
        guard table.starts(with: Self.magic) else { return .failure(.foreign) }
        guard table[8..<16] == identity[8..<16] else { return .failure(.otherVersion) }
        guard table.starts(with: identity) else { return .failure(.otherWeights) }
        let end = identity.count + 8 * chunkCount
        let numbers = table.withUnsafeBytes { bytes in
            stride(from: identity.count, through: end, by: 8).map { UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: $0, as: UInt64.self)) }
        }
        guard numbers.last == PackedChecksum.of(Array(table[..<end])) else { return .failure(.damagedTable) }
        return .success(numbers.dropLast())
    }

    private static func sample(of tensor: Tensor) throws(ModelFileError) -> UInt64 {
        let count = min(sampleBytes, tensor.byteCount)
        let start = (tensor.byteCount - count) / 2
        let sample = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 8)
        defer { sample.deallocate() }
        try tensor.read(start..<start + count, into: sample)
        return PackedChecksum.of(UnsafeRawBufferPointer(sample))
    }

    private static func pages(_ bytes: Int) -> Int { (bytes + pageBytes - 1) / pageBytes * pageBytes }
}

/// Why a file of the cache is not used. It is made anew in each case.
package enum PackedRefusal: String, Error, Sendable, CaseIterable {
    /// It can't be opened or read.
    case unreadable
    /// Another user's, whom nothing keeps from changing it while it is mapped.
    case foreignOwner = "foreign_owner"
    /// No file of this cache.
    case foreign
    /// Cut short, or too long.
    case wrongSize = "wrong_size"
    /// Of another version of the program.
    case otherVersion = "other_version"
    /// Packed from a model file with the same headers but other weights, or from another place of it.
    case otherWeights = "other_weights"
    case damagedTable = "damaged_table"
    /// The weights are not those that were written.
    case damagedWeights = "damaged_weights"
}

/// Little-endian numbers, end to end.
private struct Bytes {
    var bytes: [UInt8] = []

    mutating func append(_ number: some FixedWidthInteger) { withUnsafeBytes(of: number.littleEndian) { bytes += $0 } }

    mutating func append(kind: UInt32, type: UInt32, rows: Int, columns: Int, offset: Int) {
        append(kind)
        append(type)
        append(UInt64(rows))
        append(UInt64(columns))
        append(UInt64(offset))
    }

    mutating func append(name: String, sample: UInt64) {
        let name = Array(name.utf8)
        append(sample)
        append(UInt64(name.count))
        bytes += name + [UInt8](repeating: 0, count: (8 - name.count % 8) % 8)
    }
}
