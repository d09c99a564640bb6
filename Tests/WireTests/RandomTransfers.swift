import ClusterCore

@testable import Wire

// Random values as in `RandomValues`: of what passes between workers beside steps.

extension Seeded {
    mutating func transferFrame() -> TransferFrame {
        bool() ? .blocks(kvFrame()) : .receipt(KVReceipt(epoch: epoch(), number: UInt64.random(in: 0...WireLimits.counterMax, using: &self)))
    }

    mutating func kvFrame() -> KVFrame {
        let blocks = many(1...Limits.kvFrameBlocksMax) { BlockID(UInt32($0.int(0...WireLimits.kvBlocksMax - 1))) }
        return KVFrame(
            epoch: epoch(), number: UInt64.random(in: 0...WireLimits.counterMax, using: &self), layers: layers(),
            blocks: Array(Set(blocks)).shuffled(using: &self))
    }

    mutating func handoverOrder() -> HandoverOrder {
        switch int(0...3) {
        case 0:
            .prepare(assignment(), sources: Array(Set(many(0...5) { $0.key() })).sorted().map { StagePeer(key: $0, endpoint: endpoint()) })
        case 1:
            .send(
                KVOrder(
                    epoch: epoch(), round: int(1...WireLimits.handoverRoundMax),
                    blocks: Array(Set(many(1...300) { BlockID(UInt32($0.int(0...100_000))) })).sorted(),
                    targets: many(1...4) { KVTarget(peer: StagePeer(key: $0.key(), endpoint: $0.endpoint()), layers: $0.layers()) },
                    blockBytes: int(1...Limits.kvBlockBytesMax)))
        case 2: .adopt(epoch())
        default: .abandon(epoch())
        }
    }

    mutating func handoverReport() -> HandoverReport {
        let bytes = UInt64.random(in: 0...WireLimits.bytesMax, using: &self)
        return switch int(0...4) {
        case 0: .prepared(epoch())
        case 1: .progress(epoch(), bytesSent: bytes)
        case 2: .sent(epoch(), round: int(1...WireLimits.handoverRoundMax), bytesSent: bytes)
        case 3: .switched(epoch())
        default: .failed(epoch(), failure())
        }
    }
}

extension Seeded {
    mutating func contentDigest() -> ContentDigest { ContentDigest(bytes: digest().bytes)! }

    mutating func weightsOffer() -> WeightsOffer {
        let total = UInt64.random(in: 0...WireLimits.bytesMax, using: &self)
        return WeightsOffer(
            modelDigest: digest(), manifest: maybe { $0.contentDigest() }, hashedBytes: UInt64.random(in: 0...total, using: &self), totalBytes: total,
            sources: many(0...4) { StagePeer(key: $0.key(), endpoint: $0.endpoint()) })
    }

    mutating func weightsRequest() -> WeightsRequest {
        switch next() % 3 {
        case 0: .manifest(digest())
        case 1: .held(digest())
        default: .chunk(digest(), int(0...Limits.manifestChunksMax - 1))
        }
    }

    mutating func weightsReply() -> WeightsReply {
        switch next() % 4 {
        case 0: .manifest(digest())
        case 1: .held(digest(), count: int(0...Limits.manifestChunksMax))
        case 2: .chunk(digest(), int(0...Limits.manifestChunksMax - 1))
        default: .missing(weightsRequest())
        }
    }

    mutating func weightManifest() -> WeightManifest {
        var parts: [Int] = []
        var extents: [WeightManifest.Extent] = []
        for part in 0..<int(1...3) {
            var end = 0
            for number in 0..<int(1...5) {
                let offset = number == 0 ? 0 : end + int(0...64)
                let byteCount = int(1...3 * WeightManifest.chunkBytes)
                let chunks = (byteCount + WeightManifest.chunkBytes - 1) / WeightManifest.chunkBytes
                extents.append(
                    WeightManifest.Extent(
                        name: number == 0 ? "" : "t" + name(), type: number == 0 ? 0 : int(0...40),
                        shape: number == 0 ? [] : many(1...4) { $0.int(1...9) },
                        part: part, offset: offset, byteCount: byteCount, digest: contentDigest(),
                        chunkHashes: (0..<chunks).flatMap { _ in digest().bytes }))
                end = offset + byteCount
            }
            parts.append(end + int(0...64))
        }
        let names = next() % 2 == 0 ? [] : parts.indices.map { "part \($0)" + name().filter { $0 != "/" && $0 != "\\" }.prefix(8) }
        return WeightManifest(modelDigest: digest(), partBytes: parts, partNames: names, extents: extents)!
    }
}
