/// Where a model's weights are found by name.
package protocol TensorSource: Sendable {
    /// All tensors in file order, part after part.
    var tensors: [Tensor] { get }
    /// The tensor of this name, nil where there is none.
    func tensor(_ name: String) -> Tensor?
}

/// A model on disk, as whoever serves it sees it: a GGUF file (`GGUFFile`) or a Hugging Face folder (`HFFolder`).
///
/// A model is some files ("parts") whose bytes are numbered through: of each part a header, then tensors. So the same code hashes, hands on
/// and names either kind.
package protocol ModelSource: TensorSource {
    /// Paths of all parts in order.
    var paths: [String] { get }
    /// What the model says of itself beside its weights, under GGUF's keys. A folder has its tokenizer, chat template and generation
    /// defaults here, and no keys of an architecture: these are in `HFFolder.config`.
    var metadata: Metadata { get }
    /// `metadata` as the head of a GGUF file, which `Metadata(ggufHeaderBytes:)` reads: how a process without the model learns its vocabulary.
    var headerBytes: [UInt8] { get }
    /// What names the model (`ModelDigest`), a piece for each part. Valid while this object is alive.
    var headers: [UnsafeRawBufferPointer] { get }
    /// What tells the parts' headers apart where they do not say it themselves; the digest covers it.
    var partsDescription: [UInt8] { get }
    /// The file names by which this model's reader finds the parts in one folder; empty where their numbers say that (GGUF).
    var partNames: [String] { get }
    /// Of `tensors`, those that the model is computed with.
    var weights: [Tensor] { get }
    /// Bytes of each part, in order.
    var partBytes: [Int] { get }
    /// Size and time of each part, in order.
    var stamps: [FileStamp] { get }
    /// Copies bytes of one part into all of `buffer`, without touching a mapping. `part` and the range must lie in the file.
    func read(part: Int, at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(ModelFileError)
}

extension ModelSource {
    /// Bytes of all parts together.
    package var fileBytes: Int { partBytes.reduce(0, +) }
    package var partNames: [String] { [] }
    package var weights: [Tensor] { tensors }
}

extension GGUFFile: ModelSource {
    /// GGUF headers say where they end.
    package var partsDescription: [UInt8] { [] }
}
