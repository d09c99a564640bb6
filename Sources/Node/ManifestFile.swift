import ClusterCore
import Foundation
import ModelFiles
import Wire

/// A model's manifest with its encoding, which is what travels and what lies on disks.
struct EncodedManifest: Sendable {
    let manifest: WeightManifest
    let bytes: [UInt8]
    let digest: ContentDigest

    init(_ manifest: WeightManifest) {
        self.manifest = manifest
        bytes = WireCodec.encode(manifest)
        digest = ContentDigest(bytes: ContentHash.sha256(bytes))!
    }

    /// Throws `WireError` for what is no manifest, `NodeError` where an extent's digest is not that of its chunks.
    init(bytes: UnsafeRawBufferPointer) throws {
        manifest = try WireCodec.decodeWeightManifest(bytes)
        for extent in manifest.extents where ContentHash.sha256(extent.chunkHashes) != extent.digest.bytes {
            throw NodeError(.weightsUnusable, "a manifest contradicts itself at the tensor '\(extent.name)': it was damaged or forged")
        }
        self.bytes = Array(bytes)
        digest = ContentDigest(bytes: ContentHash.sha256(bytes))!
    }
}

extension WeightManifest {
    /// `hashes` as `WeightHasher` gives them. Throws `weightsUnusable` for a model beyond what a manifest may say (`Limits`).
    init(_ file: any ModelSource, hashes: [[UInt8]]) throws {
        let extents = zip(file.extents, hashes).map { extent, hashes in
            Extent(
                name: extent.name, type: Int(extent.type), shape: extent.shape, part: extent.part, offset: extent.offset,
                byteCount: extent.byteCount, digest: ContentDigest(bytes: ContentHash.sha256(hashes))!, chunkHashes: hashes)
        }
        let digest = ClusterCore.ModelDigest(bytes: ModelFiles.ModelDigest(file).bytes)!
        guard let made = WeightManifest(modelDigest: digest, partBytes: file.partBytes, partNames: file.partNames, extents: extents) else {
            let chunks = extents.reduce(0) { $0 + $1.chunkCount }
            throw NodeError(
                .weightsUnusable,
                "its \(file.partBytes.count) parts make \(chunks) chunks, at most \(Limits.modelPartsMax) and \(Limits.manifestChunksMax) can be handed on: copy the model to each worker's box"
            )
        }
        self = made
    }
}

/// A manifest that was made once and is kept: beside the model where its folder can be written to, else in a folder of our own.
///
/// It is a line for the format and one for each part of the model (bytes, time of the last change, inode), then an empty one, then the
/// manifest's encoding. Where a part's line is another one than the file system's, the file is hashed anew.
struct ManifestFile {
    private static let format = "staffel-manifest 1"
    private static let suffix = ".staffel-manifest"
    private static let linesBytesMax = 1 << 20

    private let model: any ModelSource
    private let paths: [String]

    /// `fallback`: the folder to keep it in where that of the model is read-only.
    init(of model: any ModelSource, fallback: String?) {
        self.model = model
        let digest = ModelFiles.ModelDigest(model).hexadecimal.prefix(32)
        paths = [model.paths[0] + Self.suffix] + (fallback.map { ["\($0)/\(digest)\(Self.suffix)"] } ?? [])
    }

    /// `nil` when none is kept, or none of this very file.
    func read() -> EncodedManifest? {
        for path in paths {
            guard let data = FileManager.default.contents(atPath: path), data.count <= Limits.manifestBytesMax + Self.linesBytesMax,
                data.starts(with: head)
            else { continue }
            let body = [UInt8](data.dropFirst(head.count))
            guard let encoded = try? body.withUnsafeBytes(EncodedManifest.init(bytes:)), encoded.manifest.fits(model) else { continue }
            return encoded
        }
        return nil
    }

    /// Keeps it at the first place that can be written to; where that is none, it is made anew at the next start, which the answer says.
    func write(_ manifest: EncodedManifest) -> Bool {
        paths.contains { path in
            let draft = path + ".\(getpid()).new"
            try? FileManager.default.createDirectory(
                atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
            guard (try? Data(head + manifest.bytes).write(to: URL(fileURLWithPath: draft))) != nil, rename(draft, path) == 0 else {
                unlink(draft)
                return false
            }
            return true
        }
    }

    private var head: [UInt8] {
        let parts = model.stamps.map { "\($0.byteCount) \($0.modifiedNanoseconds) \($0.inode)\n" }.joined()
        return Array("\(Self.format)\n\(parts)\n".utf8)
    }
}

extension WeightManifest {
    /// Whether it speaks of this file's bytes, whatever these are.
    func fits(_ file: any ModelSource) -> Bool {
        modelDigest.bytes == ModelFiles.ModelDigest(file).bytes && partBytes == file.partBytes && partNames == file.partNames
            && extents.map { [$0.part, $0.offset, $0.byteCount] } == file.extents.map { [$0.part, $0.offset, $0.byteCount] }
    }
}
