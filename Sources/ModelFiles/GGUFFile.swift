/// A GGUF model, of one file or of several parts, mapped read-only and checked as a whole before anyone sees it:
/// every tensor lies inside its file, aligned, in whole blocks, claimed once.
package final class GGUFFile: Sendable {
    /// Paths of all parts in order.
    package let paths: [String]
    /// The format version of the first part: 2 or 3.
    package let version: Int
    /// The data alignment of the first part in bytes.
    package let alignment: Int
    /// Bytes of all parts together.
    package let fileBytes: Int
    /// The metadata of the first part, which is the model's.
    package let metadata: Metadata
    /// All tensors in file order, part after part.
    package let tensors: [Tensor]
    private let tensorIndex: [String: Int]
    private let parts: [GGUFPart]

    /// Opens the model at `path`: a .gguf file, or any part of a split one (`NAME-00001-of-00003.gguf`), whose other
    /// parts are expected beside it.
    package convenience init(path: String) throws(ModelFileError) {
        var files: [FileBytes] = []
        let partPaths = try SplitName.allParts(of: path)
        for part in partPaths {
            do {
                files.append(try FileBytes(mapping: part))
            } catch where error.code == .cannotOpen && part != path {
                throw ModelFileError(
                    .missingPart,
                    "'\(path)' is one of \(partPaths.count) parts of a model, but '\(part)' cannot be opened. Put all parts into one folder under their original names.",
                    cause: error)
            }
        }
        try self.init(files: files)
    }

    /// The same from memory, one element a part, in order; the bytes are copied.
    package convenience init(parts: [[UInt8]], name: String = "model.gguf") throws(ModelFileError) {
        try self.init(files: parts.map { FileBytes(copying: $0, name: name) })
    }

    init(files: [FileBytes]) throws(ModelFileError) {
        precondition(!files.isEmpty, "a model without a file")
        var parts: [GGUFPart] = []
        var tensors: [Tensor] = []
        var index: [String: Int] = [:]
        for (number, file) in files.enumerated() {
            let part = try GGUFPart(file: file, number: number)
            for tensor in part.tensors {
                guard index.updateValue(tensors.count, forKey: tensor.name) == nil else {
                    throw ModelFileError(
                        .duplicateTensor,
                        "\(file.name): the tensor '\(tensor.name)' appears twice. The file is damaged or was put together wrongly; fetch it again.")
                }
                tensors.append(tensor)
            }
            parts.append(part)
        }
        try SplitName.checkParts(parts, tensorCount: tensors.count)

        self.parts = parts
        self.tensors = tensors
        tensorIndex = index
        paths = files.map(\.name)
        fileBytes = files.reduce(0) { $0 + $1.bytes.count }
        version = parts[0].version
        alignment = parts[0].alignment
        metadata = parts[0].metadata
    }

    package func tensor(_ name: String) -> Tensor? {
        tensorIndex[name].map { tensors[$0] }
    }

    /// The first part's bytes from the magic to the end of its metadata: what `Metadata(ggufHeaderBytes:)` takes.
    package var headerBytes: [UInt8] {
        Array(parts[0].file.bytes[..<parts[0].metadataEnd])
    }

    /// Magic, metadata and tensor descriptions of each part, which name the model (`ModelDigest`).
    /// Valid while this object is alive.
    package var headers: [UnsafeRawBufferPointer] {
        parts.map { UnsafeRawBufferPointer(rebasing: $0.file.bytes[..<$0.headerEnd]) }
    }

    /// Copies bytes of one part into all of `buffer`, without touching the mapping. `part` and the range must lie in the file.
    package func read(part: Int, at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(ModelFileError) {
        try parts[part].file.read(at: offset, into: buffer)
    }

    /// Bytes of each part, in order.
    package var partBytes: [Int] { parts.map(\.file.bytes.count) }

    /// Size and time of each part, in order: another file under the same path has another one, whatever its header says.
    package var stamps: [FileStamp] { parts.map(\.file.stamp) }

    /// The most memory that reading any one part's header reserved for its contents, in bytes; never more than that
    /// part's size (tests hold it to that).
    package var reservedBytesMax: Int { parts.map(\.reservedBytes).max() ?? 0 }
}
