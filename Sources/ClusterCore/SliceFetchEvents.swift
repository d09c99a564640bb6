/// A chunk that a fetch still lacks.
package struct WantedChunk: Hashable, Sendable {
    package var index: Int
    package var byteCount: Int

    package init(index: Int, byteCount: Int) {
        self.index = index
        self.byteCount = byteCount
    }
}

/// What a coordinator answers a worker that has no model file.
package struct WeightsOffer: Hashable, Sendable {
    package var modelDigest: ModelDigest
    /// `nil` while the coordinator still hashes its file.
    package var manifest: ContentDigest?
    /// How far that is; equal when it is done.
    package var hashedBytes: UInt64
    package var totalBytes: UInt64
    /// Who may have the bytes: the coordinator and other workers. They admit whoever was told of them, a moment later perhaps.
    package var sources: [StagePeer]

    package init(modelDigest: ModelDigest, manifest: ContentDigest?, hashedBytes: UInt64, totalBytes: UInt64, sources: [StagePeer]) {
        self.modelDigest = modelDigest
        self.manifest = manifest
        self.hashedBytes = hashedBytes
        self.totalBytes = totalBytes
        self.sources = sources
    }
}

/// From a worker that fetches to a source.
package enum WeightsRequest: Hashable, Sendable {
    case manifest(ModelDigest)
    /// Which chunks have you?
    case held(ModelDigest)
    case chunk(ModelDigest, Int)
}

/// From a source. Bulk bytes are the second part of the message.
package enum WeightsReply: Hashable, Sendable {
    /// The second part is the manifest's encoding.
    case manifest(ModelDigest)
    /// The second part is the `ChunkSet`'s bytes.
    case held(ModelDigest, count: Int)
    /// The second part is the chunk.
    case chunk(ModelDigest, Int)
    /// No second part. The source does not have what was asked for.
    case missing(WeightsRequest)
}

extension SliceFetch {
    package enum Event: Hashable, Sendable {
        /// First event of all.
        case start
        case offered(WeightsOffer)
        /// The manifest that an offer names is on the disk already. Before that offer, and only while none was handled that names one.
        case manifestKnown(ContentDigest, wanted: [WantedChunk])
        /// A manifest came from a source and is the one that was offered; these chunks are wanted and not on the disk yet, each once.
        case manifest(from: PeerKey, wanted: [WantedChunk])
        /// A manifest came that is another one, or none.
        case manifestRefused(from: PeerKey)
        case held(from: PeerKey, ChunkSet)
        /// A chunk came and is what the manifest says, or is not. `byteCount`: what came.
        case chunk(from: PeerKey, Int, byteCount: Int, isIntact: Bool)
        case missing(from: PeerKey, WeightsRequest)
        /// A frame that is no answer: of the wrong form, or over a limit.
        case malformed(from: PeerKey)
        /// The transport says that the source does not admit this worker, or is not there.
        case refused(by: PeerKey)
        case deadline
    }

    package enum Effect: Hashable, Sendable {
        /// Send the coordinator a `weightsQuery`.
        case query
        /// Make a socket to this source; in place of one that stands.
        case connect(StagePeer)
        case disconnect(PeerKey)
        case request(WeightsRequest, from: PeerKey)
        /// The chunk that just came: write it. It is never asked for again.
        case store(Int)
        case log(LogEntry)
        /// Nothing comes after one of these. `done`: every chunk was stored.
        case done
        case failed(Failure)
    }
}

/// What a fetch did.
package struct SliceFetchCounts: Hashable, Sendable {
    /// Chunks that were stored, and their bytes.
    package var chunks: UInt64 = 0
    package var bytes: UInt64 = 0
    /// Chunks that were not what the manifest says, and their bytes.
    package var corruptChunks: UInt64 = 0
    package var corruptBytes: UInt64 = 0
    /// Bytes of chunks that nobody waited for any more.
    package var wastedBytes: UInt64 = 0
    package var banned: UInt64 = 0
    package var timeouts: UInt64 = 0

    package init() {}

    package static func += (a: inout Self, b: Self) {
        a.chunks += b.chunks
        a.bytes += b.bytes
        a.corruptChunks += b.corruptChunks
        a.corruptBytes += b.corruptBytes
        a.wastedBytes += b.wastedBytes
        a.banned += b.banned
        a.timeouts += b.timeouts
    }
}
