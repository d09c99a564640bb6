import ClusterCore
import Testing

@testable import Wire

private func decode<Value>(_ bytes: [UInt8], _ take: (UnsafeRawBufferPointer) throws(WireError) -> Value) throws(WireError) -> Value {
    let result: Result<Value, WireError> = bytes.withUnsafeBytes { buffer in Result { () throws(WireError) in try take(buffer) } }
    return try result.get()
}

func decodeWeightsRequest(_ bytes: [UInt8]) throws(WireError) -> WeightsRequest { try decode(bytes, WireCodec.decodeWeightsRequest) }
func decodeWeightsReply(_ bytes: [UInt8]) throws(WireError) -> WeightsReply { try decode(bytes, WireCodec.decodeWeightsReply) }
func decodeWeightManifest(_ bytes: [UInt8]) throws(WireError) -> WeightManifest { try decode(bytes, WireCodec.decodeWeightManifest) }

@Suite struct WeightsCodecTests {
    static let seed: UInt64 = 0x3E16

    @Test func roundTrips() throws {
        var random = Seeded(Self.seed)
        for round in 0..<2_000 {
            let request = random.weightsRequest(), reply = random.weightsReply()
            #expect(try decodeWeightsRequest(WireCodec.encode(request)) == request, "seed \(Self.seed), round \(round)")
            #expect(try decodeWeightsReply(WireCodec.encode(reply)) == reply, "seed \(Self.seed), round \(round)")
        }
        for round in 0..<300 {
            let manifest = random.weightManifest()
            #expect(try decodeWeightManifest(WireCodec.encode(manifest)) == manifest, "seed \(Self.seed), round \(round)")
        }
    }

    /// A manifest has one encoding: whoever says the same in other bytes is refused, or two digests would name one manifest.
    @Test func aManifestHasOneEncoding() throws {
        var random = Seeded(Self.seed)
        let bytes = WireCodec.encode(random.weightManifest())
        // An unknown field; a field that is given twice.
        for addition in [[0xC0, 0x3E, 5], [0x10, 0x80, 0x80, 0x80, 0x02]] as [[UInt8]] {
            let error = try #require(throws: WireError.self) { try decodeWeightManifest(bytes + addition) }
            #expect(error.code == .malformed)
        }
    }

    @Test func aManifestKeepsItsRules() {
        var random = Seeded(Self.seed)
        let good = random.weightManifest()
        func refuses(_ change: (inout [Int], inout [WeightManifest.Extent]) -> Void) -> Bool {
            var (parts, extents) = (good.partBytes, good.extents)
            change(&parts, &extents)
            return WeightManifest(modelDigest: good.modelDigest, partBytes: parts, extents: extents) == nil
        }
        #expect(!refuses { _, _ in })
        #expect(refuses { parts, _ in parts[0] = good.extents[0].byteCount - 1 })
        #expect(refuses { parts, _ in parts.append(100) })
        #expect(refuses { parts, _ in parts = [] })
        #expect(refuses { _, extents in extents[0].name = "x" })
        #expect(refuses { _, extents in extents[0].offset = 1 })
        #expect(refuses { _, extents in extents[0].byteCount = 0 })
        #expect(refuses { _, extents in extents[0].byteCount += WeightManifest.chunkBytes })
        #expect(refuses { _, extents in extents[0].chunkHashes.removeLast() })
        #expect(refuses { _, extents in extents[0].part = 1 })
        #expect(refuses { _, extents in extents.append(extents[0]) })
        #expect(refuses { _, extents in extents = [] })
    }

    /// A name becomes a file's on the disk of whoever takes the manifest.
    @Test(arguments: ["..", "../x", "a/b", "", ".x", "x\u{1}", String(repeating: "n", count: 256), "same"]) func hostileNamesAreRefused(name: String) throws {
        var random = Seeded(Self.seed)
        var manifest = random.weightManifest()
        while manifest.partBytes.count < 2 { manifest = random.weightManifest() }
        let arena = PackArena()
        let message = arena.weightManifest(manifest)
        let names = manifest.partBytes.indices.map { $0 == 1 ? name : $0 == 0 ? "same" : "part \($0)" }
        (message.pointee.n_part_names, message.pointee.part_names) = (names.count, arena.copy(names.map { arena.data(Array($0.utf8)) }))
        let error = try #require(throws: WireError.self) { try decodeWeightManifest(WireCodec.pack(message, .weightManifest, arena)) }
        #expect(error.field.hasSuffix("part_names"), "\(error)")
    }

    /// A manifest without names is, to the byte, what releases before them read and write.
    @Test func aManifestOfFilesIsAsItWas() throws {
        var random = Seeded(Self.seed)
        for _ in 0..<50 {
            let manifest = random.weightManifest()
            let bytes = WireCodec.encode(manifest)
            // Field 170, of bytes.
            let has = bytes.indices.dropLast().contains { bytes[$0] == 0xD2 && bytes[$0 + 1] == 0x0A } && !manifest.partNames.isEmpty
            #expect(has == !manifest.partNames.isEmpty)
            guard !manifest.partNames.isEmpty else { continue }
            let plain = try #require(WeightManifest(modelDigest: manifest.modelDigest, partBytes: manifest.partBytes, extents: manifest.extents))
            #expect(bytes.starts(with: WireCodec.encode(plain)))
        }
    }

    /// Every chunk has its place in its extent, and the numbers go through.
    @Test func chunksCoverTheirExtents() {
        var random = Seeded(Self.seed)
        for _ in 0..<50 {
            let manifest = random.weightManifest()
            let chunks = manifest.extents.flatMap { extent in
                stride(from: 0, to: extent.byteCount, by: WeightManifest.chunkBytes).enumerated().map { number, start in
                    let byteCount = min(WeightManifest.chunkBytes, extent.byteCount - start)
                    let place = WeightManifest.Place(part: extent.part, offset: extent.offset + start, byteCount: byteCount)
                    return (place, Array(extent.chunkHashes[number * 32..<number * 32 + 32]))
                }
            }
            #expect(manifest.chunkCount == chunks.count)
            for (index, (place, hash)) in chunks.enumerated() {
                #expect(manifest.place(of: index) == place && Array(manifest.hash(of: index)) == hash)
            }
            #expect(manifest.chunks { _ in true } == Array(0..<chunks.count))
        }
    }
}
