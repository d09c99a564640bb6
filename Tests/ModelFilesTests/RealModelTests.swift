import ModelFiles
import Testing

/// SmolLM2-135M-Instruct (Q4_1), where `STAFFEL_TEST_MODEL` says it lies; ops/test sets it.
@Suite(.enabled(if: Fixture.realModel != nil, "STAFFEL_TEST_MODEL is not set")) struct RealModelTests {
    private func open() throws -> GGUFFile { try GGUFFile(path: try #require(Fixture.realModel)) }

    @Test func configuration() throws {
        let model = try ModelConfiguration(file: open())
        #expect(model.architecture == .llama)
        #expect((model.hidden, model.layers, model.heads, model.kvHeads) == (576, 30, 9, 3))
        #expect((model.headDimension, model.feedForward, model.vocabulary) == (64, 1536, 49152))
        #expect(model.rope == .init(base: 100_000, dimensions: 64, pairing: .adjacent, scaling: .none))
        #expect(model.attentionScale == 0.125)
        #expect(model.tiedHead && !model.qkvBias)
    }

    @Test func tensorsAndVocabulary() throws {
        let file = try open()
        #expect(file.tensors.count == 272)
        #expect(file.tensors.reduce(0) { $0 + $1.elementCount } == 134_515_008)
        #expect(file.tensor("token_embd.weight")?.type == .q8_0)
        #expect(file.tensor("blk.29.ffn_up.weight")?.type == .q4_1)
        let tokens = try #require(try file.metadata.stringArray("tokenizer.ggml.tokens"))
        #expect(tokens.count == 49152)
        #expect(tokens[1] == "<|im_start|>")
        #expect(try Metadata(ggufHeaderBytes: file.headerBytes).keys == file.metadata.keys)
    }

    /// Every weight is a number of a plausible size: a wrong layout gives wild values somewhere.
    @Test func everyWeightIsSane() throws {
        for tensor in try open().tensors where tensor.name.hasPrefix("blk.0.") || tensor.name.hasPrefix("blk.29.") {
            let values = tensor.dequantized()
            #expect(values.allSatisfy { $0.isFinite && abs($0) < 100 }, "\(tensor.name)")
            #expect(values.contains { $0 != 0 }, "\(tensor.name)")
        }
    }

    @Test func sizesAndCard() throws {
        let file = try open()
        let model = try ModelConfiguration(file: file)
        let sizes = ModelSizes(file: file, model: model)
        #expect(sizes.stage(layers: 0..<30) == file.tensors.reduce(0) { $0 + $1.byteCount })
        #expect(model.kvBytesPerToken(elementBytes: 2) == 23_040)
        print(ModelCard(file))
    }
}
