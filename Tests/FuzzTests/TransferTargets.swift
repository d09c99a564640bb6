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
                var machines = Machines()
                var count = 0
                return { input in
                    try outcome {
                        let frame = try input.withUnsafeBytes { (bytes) throws(WireError) in try WireCodec.decodeTransferFrame(bytes) }
                        let again = WireCodec.encode(frame)
                        let same = try again.withUnsafeBytes { (bytes) throws(WireError) in try WireCodec.decodeTransferFrame(bytes) }
                        precondition(same == frame)
                        count += 1
                        if count % freshEvery == 0 { machines = Machines() }
                        // With bytes beside it and without, whether it should have some or not.
                        let payload = count % 3 == 0 ? nil : PayloadHandle(UInt64(count))
                        machines.tellStage(.transfer(frame, payload: payload, from: count % 2 == 0 ? Machines.other : Machines.worker))
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
                var machines = Machines()
                var count = 0
                return { input in
                    try outcome {
                        let step = try input.withUnsafeBytes { (bytes) throws(WireError) in try WireCodec.decodeFollowUp(bytes) }
                        let again = WireCodec.encodeFollowUp(step)
                        let same = try again.withUnsafeBytes { (bytes) throws(WireError) in try WireCodec.decodeFollowUp(bytes) }
                        precondition(same == step)
                        count += 1
                        if count % freshEvery == 0 { machines = Machines() }
                        machines.tellStage(.followUp(step, from: count % 2 == 0 ? Machines.other : Machines.worker))
                        return "took \(min(step.segments.count, 9)) rows"
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
                        let request = try input.withUnsafeBytes { (bytes) throws(WireError) in try WireCodec.decodeWeightsRequest(bytes) }
                        let again = WireCodec.encode(request)
                        let same = try again.withUnsafeBytes { (bytes) throws(WireError) in try WireCodec.decodeWeightsRequest(bytes) }
                        precondition(same == request)
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
                        let reply = try input.withUnsafeBytes { (bytes) throws(WireError) in try WireCodec.decodeWeightsReply(bytes) }
                        let again = WireCodec.encode(reply)
                        let same = try again.withUnsafeBytes { (bytes) throws(WireError) in try WireCodec.decodeWeightsReply(bytes) }
                        precondition(same == reply)
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
