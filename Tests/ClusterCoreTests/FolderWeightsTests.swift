import Testing

@testable import ClusterCore

/// Weights of a model that is a folder: which parts of it a stage needs, and who cannot fetch it.
@Suite struct FolderWeightsTests {
    private static func manifest(_ names: [String], hasHead: Bool = true, parts: Int = 2) -> WeightManifest? {
        var tensors = ["model.embed_tokens.weight", "model.norm.weight", "model.layers.10.mlp.up_proj.weight", "model.layers.2.input_layernorm.weight"]
        if hasHead { tensors.append("lm_head.weight") }
        func extent(_ name: String, _ part: Int, _ offset: Int, _ bytes: Int) -> WeightManifest.Extent {
            let hash = [UInt8](repeating: 7, count: bytes == 0 ? 0 : 32)
            return WeightManifest.Extent(
                name: name, type: 0, shape: name.isEmpty ? [] : [2], part: part, offset: offset, byteCount: bytes,
                digest: ContentDigest(bytes: [UInt8](repeating: 1, count: 32))!, chunkHashes: hash)
        }
        var extents = (0..<parts - 1).map { extent("", $0, 0, $0 == 0 ? 5 : 0) } + [extent("", parts - 1, 0, 9)]
        extents += tensors.enumerated().map { extent($1, parts - 1, 9 + 8 * $0, 8) }
        let sizes = (0..<parts - 1).map { $0 == 0 ? 5 : 0 } + [9 + 8 * tensors.count]
        let digest = ModelDigest(bytes: [UInt8](repeating: 2, count: 32))!
        return WeightManifest(modelDigest: digest, partBytes: sizes, partNames: names, extents: extents)
    }

    private static func wanted(_ manifest: WeightManifest, _ layers: Range<Int>, first: Bool, last: Bool) -> Set<String> {
        let chunks = manifest.chunks(ofLayers: layers, isFirst: first, isLast: last)
        return Set(chunks.compactMap { chunk in manifest.extents.first { $0.offset == manifest.place(of: chunk).offset && !$0.isHeader }?.name })
    }

    @Test func aStageTakesItsOwnTensorsOfAFolder() throws {
        let manifest = try #require(Self.manifest(["config.json", "model.safetensors"]))
        #expect(Self.wanted(manifest, 0..<3, first: true, last: false) == ["model.embed_tokens.weight", "model.layers.2.input_layernorm.weight"])
        #expect(Self.wanted(manifest, 3..<10, first: false, last: false) == [])
        #expect(Self.wanted(manifest, 10..<11, first: false, last: true) == ["model.layers.10.mlp.up_proj.weight", "model.norm.weight", "lm_head.weight"])
        // A tied head is the embedding.
        let tied = try #require(Self.manifest(["config.json", "model.safetensors"], hasHead: false))
        #expect(Self.wanted(tied, 10..<11, first: false, last: true) == ["model.layers.10.mlp.up_proj.weight", "model.norm.weight", "model.embed_tokens.weight"])
        // Headers go to everybody, and an empty text has nothing to fetch.
        let withEmpty = try #require(Self.manifest(["config.json", "chat_template.jinja", "model.safetensors"], parts: 3))
        #expect(withEmpty.chunks(ofLayers: 3..<4, isFirst: false, isLast: false).map { withEmpty.place(of: $0).byteCount } == [5, 9])
    }

    @Test("names of files that are none of one folder", arguments: [
        "", ".", "..", ".hidden", "a/b", "/etc/passwd", "../x", "a\\b", "a\u{0}b", "a\nb", "a\u{7F}", String(repeating: "a", count: 256), "config.json",
    ]) func hostileNames(name: String) {
        #expect(Self.manifest(["config.json", name]) == nil)
        #expect(Self.manifest([name, "config.json"]) == nil)
    }

    @Test func namesAreForAllPartsOrNone() {
        #expect(Self.manifest(["config.json"]) == nil)
        #expect(Self.manifest(["a", "b", "c"]) == nil)
        #expect(Self.manifest(["config.json", String(repeating: "é", count: 127)]) != nil)
        // Parts of GGUF files have no names and are never empty.
        #expect(Self.manifest([]) != nil && Self.manifest([], parts: 3) == nil)
    }

    @Test func aWorkerThatKnowsNoPartsIsToldSo() {
        let (worker, now) = (ToyCluster.key(0), Instant(nanoseconds: 0))
        for (minor, isTold) in [(UInt32(2), true), (ProtocolVersion.namedPartsMinor, false)] {
            for isFolder in [false, true] {
                let model = ToyModel().profile
                var configuration = CoordinatorConfiguration(session: 1, model: model, modelPath: "/m", expectedWorkers: 2, contextTokens: 64)
                if isFolder { configuration.weightsMinor = ProtocolVersion.namedPartsMinor }
                var coordinator = Coordinator(configuration: configuration, at: now)
                var effects: [Coordinator.Effect] = []
                let hello = WorkerHello(
                    version: ProtocolVersion(major: ProtocolVersion.current.major, minor: minor), session: 1, name: "w",
                    capabilities: WorkerCapabilities(
                        memoryBytes: 7_000, threads: 1, isa: "portable", readBytesPerSecond: 1_000, opsPerSecond: 1_000),
                    dataEndpoint: "tcp://w:1", holding: nil, lastEpoch: Epoch(0))
                coordinator.handle(.received(.workerHello(hello), from: worker, role: .worker), at: now, into: &effects)
                effects = []
                coordinator.handle(.received(.weightsQuery(model.digest), from: worker, role: .worker), at: now, into: &effects)
                let refusal = effects.compactMap { effect -> Failure? in
                    if case .send(.refused(let failure), worker) = effect { failure } else { nil }
                }.first
                #expect((refusal != nil) == (isTold && isFolder))
                #expect(effects.contains(.hashWeights) == (refusal == nil))
                guard let refusal else { continue }
                #expect(refusal.code == .versionMismatch && refusal.message.contains("2.3") && refusal.message.contains("copy the folder"))
            }
        }
    }
}
