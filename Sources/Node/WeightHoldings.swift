import ClusterCore
import ModelFiles
import Synchronization

/// What this process can hand on to others: model files that it has, and slices that it fetched. Any thread.
final class WeightHoldings: Sendable {
    /// Models that are offered at once; the one that was held longest ago goes first.
    static let modelsMax = 4

    /// One model's bytes, all or some.
    final class Holding: Sendable {
        let model: ClusterCore.ModelDigest
        let places: [WeightManifest.Place]
        private let source: Source
        private let manifest = Mutex<[UInt8]?>(nil)

        fileprivate enum Source: Sendable {
            case file(any ModelSource)
            case slice(SliceFile)
        }

        fileprivate init(model: ClusterCore.ModelDigest, places: [WeightManifest.Place], source: Source, manifest: [UInt8]?) {
            self.model = model
            self.places = places
            self.source = source
            self.manifest.withLock { $0 = manifest }
        }

        /// The manifest's encoding, where it is known.
        var manifestBytes: [UInt8]? { manifest.withLock { $0 } }

        func know(_ bytes: [UInt8]) { manifest.withLock { $0 = bytes } }

        var held: ChunkSet {
            switch source {
            case .file: ChunkSet(count: places.count, full: true)
            case .slice(let slice): slice.held
            }
        }

        /// Fills `buffer`, which is as long as the chunk. Throws when the disk fails or the file became shorter.
        func read(chunk index: Int, into buffer: UnsafeMutableRawBufferPointer) throws {
            let place = places[index]
            switch source {
            case .file(let file): try file.read(part: place.part, at: place.offset, into: buffer)
            case .slice(let slice): try slice.read(chunk: index, into: buffer)
            }
        }
    }

    private let holdings = Mutex<[Holding]>([])

    subscript(model: ClusterCore.ModelDigest) -> Holding? { holdings.withLock { $0.first { $0.model == model } } }

    /// Offers a whole model. Its weights are not hashed here: who fetches them does that.
    @discardableResult
    func hold(_ file: any ModelSource, manifest: EncodedManifest? = nil) -> Holding {
        let places = file.extents.flatMap { extent in
            stride(from: 0, to: extent.byteCount, by: WeightManifest.chunkBytes).map {
                WeightManifest.Place(part: extent.part, offset: extent.offset + $0, byteCount: min(WeightManifest.chunkBytes, extent.byteCount - $0))
            }
        }
        let digest = ClusterCore.ModelDigest(bytes: ModelFiles.ModelDigest(file).bytes)!
        return put(Holding(model: digest, places: places, source: .file(file), manifest: manifest?.bytes))
    }

    /// Offers what was fetched of a model, also while more is.
    func hold(_ slice: SliceFile) {
        let manifest = slice.manifest.manifest
        put(
            Holding(
                model: manifest.modelDigest, places: (0..<manifest.chunkCount).map(manifest.place), source: .slice(slice),
                manifest: slice.manifest.bytes))
    }

    @discardableResult
    private func put(_ holding: Holding) -> Holding {
        holdings.withLock { holdings in
            holdings.removeAll { $0.model == holding.model }
            holdings.append(holding)
            if holdings.count > Self.modelsMax { holdings.removeFirst() }
        }
        return holding
    }
}
