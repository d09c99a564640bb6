import ModelFiles
import Testing

/// Weights of stages, identities and cards.
@Suite struct ModelSizesTests {
    private func sizes(_ tiny: TinyModel) throws -> (ModelSizes, GGUFFile) {
        let file = try tiny.file()
        return (ModelSizes(file: file, model: try ModelConfiguration(file: file)), file)
    }

    @Test func aSingleStageHoldsTheFileOnce() throws {
        for tiny in [TinyModel(), TinyModel(tied: false), TinyModel(architecture: "qwen2", bias: true, divisors: true)] {
            let (sizes, file) = try sizes(tiny)
            #expect(sizes.stage(layers: 0..<2) == file.tensors.reduce(0) { $0 + $1.byteCount })
            let weights = file.tensors.filter { $0.name != ModelTensors.ropeDivisors }
            #expect(sizes.parameters == weights.reduce(0) { $0 + $1.elementCount })
        }
    }

    @Test func stagesOfACut() throws {
        let (tied, file) = try sizes(TinyModel())
        let embedding = 12 * 34
        #expect(tied.embedding == embedding)
        #expect(tied.head == embedding + 128)
        #expect(tied.layers.count == 2 && tied.layers[0] == tied.layers[1])
        // A cut costs a second copy of a tied matrix, and nothing where the head is its own.
        let whole = file.tensors.reduce(0) { $0 + $1.byteCount }
        #expect(tied.stage(layers: 0..<1) + tied.stage(layers: 1..<2) == whole + embedding)
        let (own, ownFile) = try sizes(TinyModel(tied: false))
        #expect(own.stage(layers: 0..<1) + own.stage(layers: 1..<2) == ownFile.tensors.reduce(0) { $0 + $1.byteCount })
    }

    /// The figures of known models: 2 × layers × kv heads × head dimension × bytes.
    @Test func kvBytesPerToken() throws {
        func model(layers: Int, heads: Int, kvHeads: Int, headDimension: Int) throws -> ModelConfiguration {
            try ModelConfiguration(
                hidden: heads * headDimension, layers: layers, heads: heads, kvHeads: kvHeads, headDimension: headDimension,
                feedForward: 64, vocabulary: 64, contextLength: 64,
                rope: .init(base: 1e4, dimensions: headDimension, pairing: .adjacent, scaling: .none))
        }
        #expect(try model(layers: 80, heads: 64, kvHeads: 8, headDimension: 128).kvBytesPerToken(elementBytes: 2) == 327_680)
        #expect(try model(layers: 32, heads: 32, kvHeads: 8, headDimension: 128).kvBytesPerToken(elementBytes: 2) == 131_072)
        #expect(try model(layers: 126, heads: 128, kvHeads: 8, headDimension: 128).kvBytesPerToken(elementBytes: 2) == 516_096)
    }

    // MARK: Digest

    @Test func digestsTellHeadersApart() throws {
        let digest = ModelDigest(try TinyModel().file())
        #expect(digest.hexadecimal.count == 64)
        #expect(ModelDigest(try TinyModel().file()) == digest)
        #expect(ModelDigest(try TinyModel(tied: false).file()) != digest)
        var renamed = TinyModel()
        renamed.metadata.set("general.name", .string("Other"))
        #expect(ModelDigest(try renamed.file()) != digest)
        // As documented: the weights are not read.
        #expect(ModelDigest(try TinyModel().file(seed: 2)) == digest)
        #expect(ModelDigest(try GGUFFile(parts: SplitModelTests.parts())) != digest)
    }

    /// The digest of a known header, computed by `sha256sum`.
    @Test func digestOfAKnownFile() throws {
        let file = try GGUFFile(path: Fixture.path("metadata.gguf"))
        #expect(ModelDigest(file).hexadecimal == "71c998bf71da7593629b0eeb17197fe2513c2ff6861c8690c936b74531c85fa1")
    }

    @Test func digestsFromText() throws {
        let digest = ModelDigest(try TinyModel().file())
        #expect(ModelDigest(hexadecimal: digest.hexadecimal) == digest)
        #expect(ModelDigest(hexadecimal: digest.hexadecimal.uppercased()) == digest)
        #expect(ModelDigest(hexadecimal: String(digest.hexadecimal.dropLast())) == nil)
        #expect(ModelDigest(hexadecimal: String(repeating: "g", count: 64)) == nil)
        #expect(ModelDigest(hexadecimal: "") == nil)
    }

    // MARK: Card

    @Test func cardOfAModel() throws {
        let card = ModelCard(try TinyModel().file())
        #expect(card.refusal == nil)
        #expect((card.name, card.architecture, card.license) == ("Tiny", "llama", "apache-2.0"))
        #expect(card.types.reduce(0) { $0 + $1.tensors } == 20)
        #expect(card.types.map(\.bytes) == card.types.map(\.bytes).sorted(by: >))
        #expect(card.decoder?.kvBytesPerToken == 128)
        let text = card.description
        for words in [
            "licence           apache-2.0", "context           64 tokens", "vocabulary        12 tokens, gpt2",
            "decoder           2 layers, hidden 32, feed-forward 64", "KV per token      ", "RoPE              base 100000.0, default",
            "weights           BF16: 2 tensors, 8.0 KiB", "\n                  Q5_1: 2 tensors, 3.0 KiB",
        ] {
            #expect(text.contains(words), "\(words)\nin\n\(text)")
        }
        // As it lies in memory, where heads of 8 are filled up.
        let kv = try #require(card.decoder?.kvBytesPerTokenByType)
        #expect(kv.keys.sorted() == ["f16", "f32", "q8_0"] && kv["f32"] == 2 * kv["f16"]! && kv["f16"]! >= 128 && kv["q8_0"]! < kv["f32"]!)
        #expect(card.json.contains("\"kvBytesPerToken\" : 128"))
        #expect(card.json.contains("\"license\" : \"apache-2.0\""))
    }

    @Test func cardOfAModelThatCannotBeServed() throws {
        var tiny = TinyModel()
        tiny.metadata.set("llama.attn_logit_softcapping", .float32(50))
        tiny.metadata.set("general.name", .uint32(7))
        let card = ModelCard(try tiny.file())
        #expect(card.decoder == nil)
        #expect(card.description.contains("cannot be served"))
        #expect(card.json.contains("attn_logit_softcapping"))
        #expect(card.name == "llama")
        // Nothing but metadata.
        #expect(ModelCard(try GGUFFile(parts: [GGUFWriter().bytes()])).architecture == "unknown")
    }

    @Test func cardsDoNotMoveTheCursor() throws {
        var tiny = TinyModel()
        tiny.metadata.set("general.name", .string("a\u{1B}[2Jb\r\nc\u{9B}d"))
        let text = ModelCard(try tiny.file()).description
        #expect(text.contains("a [2Jb  c d"))
        #expect(!text.unicodeScalars.contains { $0.properties.generalCategory == .control && $0 != "\n" })
    }
}
