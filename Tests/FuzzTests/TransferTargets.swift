import ClusterCore

@testable import Wire

// What workers say to each other beside steps: keys and values of a hand-over, and weights.

extension FuzzTarget {
    static let transfers: [FuzzTarget] = [
        FuzzTarget(
            name: "transfer-frame",
            seeds: {
                var random = Seeded(4)
                return (0..<16).map { _ in WireCodec.encode(random.transferFrame()) }
            }, headerBytes: FrameHeader.byteCount,
            make: {
                var work = AtWork()
                return { input in
                    try outcome {
                        let frame = try roundTrip(input, WireCodec.decodeTransferFrame) { WireCodec.encode($0) }
                        work.countOne()
                        // With bytes beside it and without, whether it should have some or not.
                        let payload = work.count % 3 == 0 ? nil : PayloadHandle(UInt64(work.count))
                        work.machines.tellStage(.transfer(frame, payload: payload, from: work.count % 2 == 0 ? Machines.other : Machines.worker))
                        return "took \(name(of: frame))"
                    }
                }
            }),
        FuzzTarget(
            name: "follow-up",
            seeds: {
                var random = Seeded(9)
                return (0..<16).map { _ in WireCodec.encodeFollowUp(random.followUp()) }
            }, headerBytes: FrameHeader.byteCount,
            make: {
                var work = AtWork()
                return { input in
                    try outcome {
                        let step = try roundTrip(input, WireCodec.decodeFollowUp) { WireCodec.encodeFollowUp($0) }
                        work.countOne()
                        work.machines.tellStage(.followUp(step, from: work.count % 2 == 0 ? Machines.other : Machines.worker))
                        return "took \(min(step.segments.count, 9)) rows"
                    }
                }
            }),
        FuzzTarget(
            name: "foretold",
            seeds: {
                var random = Seeded(10)
                return (0..<16).map { _ in WireCodec.encodeForetold(random.followUp()) }
            }, headerBytes: FrameHeader.byteCount,
            make: {
                var work = AtWork()
                return { input in
                    try outcome {
                        let step = try roundTrip(input, WireCodec.decodeForetold) { WireCodec.encodeForetold($0) }
                        work.countOne()
                        return "took \(min(step.segments.count, 9)) rows, \(work.machines.canBegin(step))"
                    }
                }
            }),
        FuzzTarget(
            name: "weights-request",
            seeds: {
                var random = Seeded(5)
                return (0..<16).map { _ in WireCodec.encode(random.weightsRequest()) }
            }, headerBytes: FrameHeader.byteCount,
            make: {
                { input in
                    try outcome {
                        let request = try roundTrip(input, WireCodec.decodeWeightsRequest) { WireCodec.encode($0) }
                        return "took \(name(of: request))"
                    }
                }
            }),
        FuzzTarget(
            name: "weights-reply",
            seeds: {
                var random = Seeded(6)
                return (0..<16).map { _ in WireCodec.encode(random.weightsReply()) }
            }, headerBytes: FrameHeader.byteCount,
            make: {
                { input in
                    try outcome {
                        let reply = try roundTrip(input, WireCodec.decodeWeightsReply) { WireCodec.encode($0) }
                        return "took \(name(of: reply))"
                    }
                }
            }),
        FuzzTarget(
            name: "weight-manifest",
            seeds: {
                var random = Seeded(7)
                return (0..<8).map { _ in WireCodec.encode(random.weightManifest()) }
            }, dictionary: ["..", "../", "/etc", ".", "\\", "model.layers.1.a.weight", "model.embed_tokens.weight", "lm_head.weight", "blk.0.x"], headerBytes: FrameHeader.byteCount,
            make: {
                { input in
                    try outcome {
                        let manifest = try input.withUnsafeBytes { (bytes) throws(WireError) in try WireCodec.decodeWeightManifest(bytes) }
                        // One manifest has one encoding: its digest names it.
                        precondition(WireCodec.encode(manifest) == input)
                        // Names become files' names on the disk of whoever takes it.
                        precondition(manifest.partNames.allSatisfy { !$0.contains("/") && !$0.hasPrefix(".") && (1...255).contains($0.utf8.count) })
                        precondition(Set(manifest.partNames).count == manifest.partNames.count)
                        for chunk in manifest.chunks(ofLayers: 0..<2, isFirst: true, isLast: true) { _ = manifest.place(of: chunk) }
                        return "took \(min(manifest.chunkCount, 9)) chunks"
                    }
                }
            }),
    ]
}
