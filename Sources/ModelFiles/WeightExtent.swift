import Crypto

/// A run of bytes of a model that is hashed and handed on as one: the header of a part, or one tensor.
///
/// Extents follow from the headers alone, in an order of their own: part after part, of each the header, then its tensors as they
/// lie in the file. So whoever has a model's headers numbers its bytes as everybody else does. Padding belongs to none, nor do tensors that
/// no stage needs.
package struct WeightExtent: Sendable, Equatable {
    /// The tensor's name; empty for a header.
    package let name: String
    /// GGUF's number of the tensor's type; 0 for a header.
    package let type: Int32
    /// As in the file; empty for a header.
    package let shape: [Int]
    package let part: Int
    /// Where it begins in that part.
    package let offset: Int
    package let byteCount: Int
}

extension ModelSource {
    /// All extents, in the order described at `WeightExtent`.
    package var extents: [WeightExtent] {
        var byPart = headers.enumerated().map { part, header in
            [WeightExtent(name: "", type: 0, shape: [], part: part, offset: 0, byteCount: header.count)]
        }
        for tensor in weights.sorted(by: { ($0.part, $0.fileOffset) < ($1.part, $1.fileOffset) }) {
            byPart[tensor.part].append(
                WeightExtent(
                    name: tensor.name, type: tensor.type.rawValue, shape: tensor.shape, part: tensor.part, offset: tensor.fileOffset,
                    byteCount: tensor.byteCount))
        }
        return byPart.flatMap { $0 }
    }
}

extension GGUFFile {
    /// The paths of a model of `count` parts in `folder`, as `init(path:)` looks for them.
    package static func partPaths(in folder: String, count: Int) -> [String] {
        precondition((1...ModelFileLimits.partsMax).contains(count), "\(count) parts")
        guard count > 1 else { return ["\(folder)/model.gguf"] }
        return (1...count).map { SplitName(prefix: "\(folder)/model", number: $0, count: count).path }
    }
}

/// SHA-256, for targets that do not hash themselves.
package enum ContentHash {
    package static let byteCount = 32

    /// 32 bytes.
    package static func sha256(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
        var hash = SHA256()
        hash.update(bufferPointer: bytes)
        return Array(hash.finalize())
    }

    /// 32 bytes.
    package static func sha256(_ bytes: [UInt8]) -> [UInt8] { bytes.withUnsafeBytes(sha256) }
}
