import ModelFiles
import Testing

/// Metadata to configuration: what is understood, and what is refused by name.
@Suite struct ModelConfigurationTests {
    private func refused(
        _ code: ModelFileErrorCode, _ words: String, _ model: TinyModel, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        do {
            _ = try ModelConfiguration(file: model.file())
            Issue.record("accepted, but \(code) was expected", sourceLocation: sourceLocation)
        } catch let error as ModelFileError {
            #expect(error.code == code, "\(error)", sourceLocation: sourceLocation)
            #expect(words.isEmpty || error.message.contains(words), "\(error.message)", sourceLocation: sourceLocation)
        } catch {
            Issue.record(error, sourceLocation: sourceLocation)
        }
    }

    private func configuration(_ model: TinyModel) throws -> ModelConfiguration {
        try ModelConfiguration(file: model.file())
    }

    // MARK: Families

    @Test func llama() throws {
        let model = try configuration(TinyModel())
        let expected = try ModelConfiguration(
            name: "Tiny", hidden: 32, layers: 2, heads: 4, kvHeads: 2, headDimension: 8, feedForward: 64, vocabulary: 12,
            contextLength: 64, normEpsilon: 1e-5,
            rope: .init(base: 100_000, dimensions: 8, pairing: .adjacent, scaling: .none))
        #expect(model == expected)
        #expect((model.queryWidth, model.kvWidth) == (32, 16))
        #expect(model.attentionScale == Float(1 / Double(8).squareRoot()))
        #expect(model.tiedHead && !model.qkvBias)
        #expect((model.embeddingScale, model.residualScale, model.logitDivisor) == (1, 1, 1))
    }

    @Test func llamaWithItsOwnHead() throws {
        #expect(try configuration(TinyModel(tied: false)).tiedHead == false)
    }

    @Test func qwen2() throws {
        let model = try configuration(TinyModel(architecture: "qwen2", bias: true))
        #expect(model.architecture == .qwen2)
        #expect(model.rope.pairing == .halves)
        #expect(model.qkvBias)
    }

    @Test func granite() throws {
        var tiny = TinyModel(architecture: "granite")
        tiny.metadata.set("granite.attention.scale", .float32(0.015625))
        tiny.metadata.set("granite.embedding_scale", .float32(12))
        tiny.metadata.set("granite.residual_scale", .float32(0.22))
        tiny.metadata.set("granite.logit_scale", .float32(8))
        let model = try configuration(tiny)
        #expect(model.rope.pairing == .adjacent)
        #expect((model.attentionScale, model.embeddingScale, model.residualScale, model.logitDivisor) == (0.015625, 12, 0.22, 8))
    }

    @Test func defaultsOfAbsentKeys() throws {
        var tiny = TinyModel()
        tiny.metadata.remove("llama.rope.freq_base")
        tiny.metadata.remove("general.name")
        let model = try configuration(tiny)
        #expect(model.rope.base == 10_000)
        #expect(model.name == "llama")
    }

    /// Mistral-Nemo's way: heads that are not hidden / heads wide.
    @Test func explicitHeadDimension() throws {
        var tiny = TinyModel()
        tiny.metadata.set("llama.attention.key_length", .uint32(16))
        tiny.metadata.set("llama.attention.value_length", .uint32(16))
        for index in tiny.tensors.indices {
            let name = tiny.tensors[index].name
            if name.hasSuffix("attn_q.weight") { tiny.tensors[index].shape = [32, 64] }
            if name.hasSuffix("attn_k.weight") || name.hasSuffix("attn_v.weight") { tiny.tensors[index].shape = [32, 32] }
            if name.hasSuffix("attn_output.weight") { tiny.tensors[index].shape = [64, 32] }
        }
        let model = try configuration(tiny)
        #expect((model.headDimension, model.queryWidth, model.kvWidth, model.rope.dimensions) == (16, 64, 32, 16))
        tiny.metadata.set("llama.attention.value_length", .uint32(8))
        refused(.unsupportedFeature, "value_length", tiny)
    }

    // MARK: RoPE

    @Test func ropeScalings() throws {
        let divided = TinyModel(divisors: true)
        let divisors = try #require(divided.file().tensor(ModelTensors.ropeDivisors)).dequantized()
        #expect(try configuration(divided).rope.scaling == .divisors(divisors))
        var tiny = TinyModel()
        tiny.metadata.set("llama.rope.scaling.type", .string("linear"))
        refused(.missingKey, "rope.scaling.factor", tiny)
        tiny.metadata.set("llama.rope.scaling.factor", .float32(4))
        #expect(try configuration(tiny).rope.scaling == .linear(factor: 4))
        tiny.metadata.set("llama.rope.scaling.factor", .float32(1))
        #expect(try configuration(tiny).rope.scaling == .none)
        tiny.metadata.set("llama.rope.scaling.type", .string("none"))
        #expect(try configuration(tiny).rope.scaling == .none)
        tiny.metadata.set("llama.rope.scaling.factor", .float32(4))
        refused(.contradiction, "rope.scaling.type' is 'none'", tiny)
        tiny.metadata.remove("llama.rope.scaling.type")
        #expect(try configuration(tiny).rope.scaling == .linear(factor: 4))
        tiny.metadata.remove("llama.rope.scaling.factor")
        tiny.metadata.set("llama.rope.scale_linear", .float32(8))
        #expect(try configuration(tiny).rope.scaling == .linear(factor: 8))
        for factor: Float in [0, -1, .nan, .infinity] {
            tiny.metadata.set("llama.rope.scaling.type", .string("linear"))
            tiny.metadata.set("llama.rope.scaling.factor", .float32(factor))
            refused(.contradiction, "scaling factor", tiny)
        }
    }

    @Test func yarn() throws {
        var tiny = TinyModel()
        tiny.metadata.set("llama.rope.scaling.type", .string("yarn"))
        refused(.missingKey, "rope.scaling.factor", tiny)
        tiny.metadata.set("llama.rope.scaling.factor", .float32(4))
        refused(.missingKey, "rope.scaling.original_context_length", tiny)
        tiny.metadata.set("llama.rope.scaling.original_context_length", .uint32(16))
        #expect(try configuration(tiny).rope.scaling == .yarn(.init(factor: 4, originalContext: 16, magnitude: 1.1386294)))
        tiny.metadata.set("llama.rope.scaling.attn_factor", .float32(0.5))
        tiny.metadata.set("llama.rope.scaling.yarn_beta_fast", .float32(16))
        #expect(try configuration(tiny).rope.scaling == .yarn(.init(factor: 4, originalContext: 16, betaFast: 16, magnitude: 0.5693147)))
        tiny.metadata.set("llama.rope.scaling.yarn_ext_factor", .float32(0.5))
        refused(.unsupportedFeature, "yarn_ext_factor' is 0.5", tiny)
        tiny.metadata.set("llama.rope.scaling.yarn_ext_factor", .float32(1))
        tiny.metadata.set("llama.rope.scaling.type", .string("linear"))
        refused(.contradiction, "the scaling is 'linear'", tiny)
        tiny.metadata.set("llama.rope.scaling.type", .string("yarn"))
        tiny.metadata.set("llama.rope.scaling.factor", .float32(0.5))
        refused(.contradiction, "scaling factor", tiny)
    }

    @Test func longrope() throws {
        var tiny = TinyModel(architecture: "phi3", tied: false)
        tiny.tensors.append((ModelTensors.ropeShort, .f32, [4]))
        refused(.missingTensor, "rope_factors_long.weight", tiny)
        tiny.tensors.append((ModelTensors.ropeLong, .f32, [4]))
        tiny.metadata.set("phi3.rope.scaling.original_context_length", .uint32(16))
        let file = try tiny.file()
        let factors = try [ModelTensors.ropeShort, ModelTensors.ropeLong].map { try #require(file.tensor($0)).dequantized() }
        var expected = ModelConfiguration.Rope.LongRope(short: factors[0], long: factors[1], originalContext: 16, magnitude: 1.2247449)
        #expect(try configuration(tiny).rope.scaling == .longrope(expected))
        #expect(try configuration(tiny).rope.switchesAt == 16)
        tiny.metadata.set("phi3.rope.scaling.attn_factor", .float32(1.5))
        expected.magnitude = 1.5
        #expect(try configuration(tiny).rope.scaling == .longrope(expected))
        tiny.metadata.set("phi3.rope.scaling.type", .string("linear"))
        refused(.contradiction, "rope.scaling.type' is 'linear'", tiny)
        tiny.metadata.remove("phi3.rope.scaling.type")
        tiny.tensors[tiny.tensors.count - 1].shape = [3]
        refused(.contradiction, "4 frequencies, but 3 long divisors", tiny)
    }

    @Test(arguments: ["su", "dynamic", ""])
    func otherRopeScalings(type: String) {
        var tiny = TinyModel()
        tiny.metadata.set("llama.rope.scaling.type", .string(type))
        refused(.unsupportedFeature, "rope.scaling.type' is '\(type)'", tiny)
    }

    @Test func linearScalingAndDivisors() {
        var tiny = TinyModel(divisors: true)
        tiny.metadata.set("llama.rope.scaling.type", .string("linear"))
        tiny.metadata.set("llama.rope.scaling.factor", .float32(2))
        refused(.contradiction, "rope_freqs.weight", tiny)
    }

    @Test(arguments: [0, -1, Float.nan, .infinity])
    func divisorsThatDivideNothing(value: Float) throws {
        let tiny = TinyModel(divisors: true)
        var writer = GGUFWriter(metadata: tiny.metadata)
        for (index, tensor) in tiny.tensors.enumerated() {
            let isDivisors = tensor.name == ModelTensors.ropeDivisors
            if isDivisors { writer.add(tensor.name, shape: tensor.shape, floats: [1, 2, value, 8]) }
            else { writer.add(tensor.name, type: tensor.type, shape: tensor.shape, bytes: tiny.bytes(index, seed: 1)) }
        }
        let file = try GGUFFile(parts: [writer.bytes()])
        #expect { _ = try ModelConfiguration(file: file) } throws: {
            guard let error = $0 as? ModelFileError else { return false }
            return error.code == .wrongTensor && error.message.contains("Element 2 of the tensor 'rope_freqs.weight'")
        }
    }

    // MARK: Refused by name

    @Test(arguments: ["gemma2", "mamba", "clip", ""])
    func otherArchitectures(name: String) {
        refused(.unsupportedArchitecture, "'\(name)'; these are supported: llama, qwen2, granite", TinyModel(architecture: name))
    }

    @Test func noArchitecture() {
        var tiny = TinyModel()
        tiny.metadata.remove("general.architecture")
        refused(.missingKey, "general.architecture", tiny)
    }

    @Test(arguments: [
        "llama.context_length", "llama.embedding_length", "llama.block_count", "llama.feed_forward_length",
        "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon",
    ])
    func requiredKeys(key: String) {
        var tiny = TinyModel()
        tiny.metadata.remove(key)
        refused(.missingKey, "'\(key)'", tiny)
        tiny.metadata.set(key, .string("many"))
        refused(.wrongMetadataType, "'\(key)'", tiny)
    }

    @Test func unsupportedSwitches() throws {
        func with(_ key: String, _ value: MetadataValue) -> TinyModel {
            var tiny = TinyModel()
            tiny.metadata.set(key, value)
            return tiny
        }
        refused(.contradiction, "uses 0 of 8 experts", with("llama.expert_count", .uint32(8)))
        refused(.contradiction, "there are no experts", with("llama.expert_used_count", .uint32(2)))
        refused(.unsupportedFeature, "expert_shared_feed_forward_length' is 8", with("llama.expert_shared_feed_forward_length", .uint32(8)))
        refused(.unsupportedFeature, "is not an array of 2 bools", with("llama.attention.sliding_window_pattern", .uint32(2)))
        refused(.missingKey, "attention.sliding_window'", with("llama.attention.sliding_window_pattern", .array(.bool([true, false]))))
        refused(.contradiction, "scaling is not named", with("llama.rope.scaling.attn_factor", .float32(1)))
        refused(.unsupportedFeature, "attention.causal", with("llama.attention.causal", .bool(false)))
        refused(.unsupportedFeature, "use_parallel_residual", with("llama.use_parallel_residual", .bool(true)))
        refused(.unsupportedFeature, "tensor_data_layout", with("llama.tensor_data_layout", .string("other")))
        refused(.unsupportedFeature, "llama.attn_logit_softcapping", with("llama.attn_logit_softcapping", .float32(50)))
        // Switches that say "off".
        _ = try configuration(with("llama.expert_count", .uint32(0)))
        #expect(try configuration(with("llama.attention.sliding_window", .uint32(64))).windows.isEmpty)
        #expect(try configuration(with("llama.attention.sliding_window", .uint32(32))).windows == [32, 32])
        _ = try configuration(with("llama.attention.causal", .bool(true)))
        // Another family's keys say nothing.
        _ = try configuration(with("clip.vision.block_count", .uint32(2)))
    }

    @Test(arguments: [
        ("llama.attention.head_count", 0), ("llama.attention.head_count", 3), ("llama.attention.head_count", -1),
        ("llama.attention.head_count_kv", 3), ("llama.attention.head_count_kv", 0), ("llama.embedding_length", 0),
        ("llama.embedding_length", -32), ("llama.block_count", 0), ("llama.block_count", Int32.max),
        ("llama.context_length", 0), ("llama.context_length", -5), ("llama.feed_forward_length", 0),
        ("llama.rope.dimension_count", 7), ("llama.rope.dimension_count", 10), ("llama.rope.dimension_count", 0),
        ("llama.vocab_size", 11), ("llama.vocab_size", -1),
    ] as [(String, Int32)])
    func countsThatCannotBe(key: String, value: Int32) {
        var tiny = TinyModel()
        tiny.metadata.set(key, .int32(value))
        refused(.contradiction, "", tiny)
    }

    @Test func numbersThatCannotBe() {
        for (key, value) in [
            ("llama.attention.layer_norm_rms_epsilon", Float.nan), ("llama.attention.layer_norm_rms_epsilon", -1),
            ("llama.rope.freq_base", 0), ("llama.rope.freq_base", .infinity), ("llama.attention.scale", .nan),
            ("llama.residual_scale", .infinity), ("llama.logit_scale", .nan),
        ] {
            var tiny = TinyModel()
            tiny.metadata.set(key, .float32(value))
            refused(.contradiction, "", tiny)
        }
    }

    @Test func moreTokensThanRows() {
        var tiny = TinyModel()
        tiny.metadata.set("tokenizer.ggml.tokens", .array(.string(StringArray((0..<13).map { "\($0)" }))))
        refused(.contradiction, "lists 13 tokens, but the embedding has 12 rows", tiny)
    }

    // MARK: Tensors against the configuration

    @Test func everyTensorIsNeeded() throws {
        let whole = TinyModel(architecture: "qwen2", tied: false, bias: true, divisors: true)
        for index in whole.tensors.indices {
            var tiny = whole
            let name = tiny.tensors.remove(at: index).name
            switch name {
            // Without these the file is another, complete model.
            case "output.weight": #expect(try configuration(tiny).tiedHead)
            case "rope_freqs.weight": #expect(try configuration(tiny).rope.scaling == .none)
            default: refused(.missingTensor, "'\(name)'", tiny)
            }
        }
    }

    @Test func everyShapeIsChecked() {
        let whole = TinyModel(tied: false)
        for index in whole.tensors.indices where whole.tensors[index].name != "token_embd.weight" {
            var tiny = whole
            tiny.tensors[index].shape[tiny.tensors[index].shape.count - 1] += 32
            refused(.wrongTensor, "'\(tiny.tensors[index].name)'", tiny)
        }
    }

    @Test func normsAreFloats() {
        var tiny = TinyModel()
        tiny.tensors[1].type = .q8_0
        refused(.wrongTensor, "'output_norm.weight' has the type Q8_0", tiny)
    }

    @Test(arguments: ["blk.0.attn_q_norm.weight", "blk.2.attn_norm.weight", "blk.0.ffn_gate_inp.weight", "mm.0.weight", "rope_factors_long.weight.bias"])
    func unknownTensorsAreRefused(name: String) {
        var tiny = TinyModel()
        tiny.tensors.append((name, .f32, [32]))
        refused(.unknownTensor, "'\(name)'", tiny)
    }

    /// From metadata alone, as a coordinator or gateway without the file reads it.
    @Test func withoutAFile() throws {
        let tiny = TinyModel()
        #expect(try ModelConfiguration(metadata: tiny.metadata, tensors: .init()) == configuration(tiny))
    }

    // MARK: Experts and fused tensors

    /// The tensors of a mixture of four experts, stacked or one by one.
    private func mixture(stacked: Bool) -> TinyModel {
        var tiny = TinyModel()
        tiny.metadata.set("llama.expert_count", .uint32(4))
        tiny.metadata.set("llama.expert_used_count", .uint32(2))
        tiny.tensors.removeAll { $0.name.contains("ffn_gate") || $0.name.contains("ffn_up") || $0.name.contains("ffn_down") }
        for layer in 0..<TinyModel.layers {
            tiny.tensors.append(("blk.\(layer).ffn_gate_inp.weight", .f32, [32, 4]))
            for (role, shape) in [("gate", [32, 64]), ("up", [32, 64]), ("down", [64, 32])] {
                if stacked { tiny.tensors.append(("blk.\(layer).ffn_\(role)_exps.weight", .q8_0, shape + [4])) }
                else { for expert in 0..<4 { tiny.tensors.append(("blk.\(layer).ffn_\(role).\(expert).weight", .q8_0, shape)) } }
            }
        }
        return tiny
    }

    @Test(arguments: [true, false]) func experts(stacked: Bool) throws {
        let whole = mixture(stacked: stacked)
        let model = try configuration(whole)
        #expect(model.experts == .init(count: 4, used: 2, router: .softmaxOfAll))
        let file = try whole.file()
        #expect(ModelSizes(file: file, model: model).stage(layers: 0..<2) == file.tensors.reduce(0) { $0 + $1.byteCount })
        #expect(model.parameterCount == file.tensors.reduce(0) { $0 + $1.elementCount })
        for index in whole.tensors.indices where whole.tensors[index].name.hasPrefix("blk.0.ffn") {
            var tiny = whole
            // The first of several is looked for under the name of all.
            let name = tiny.tensors.remove(at: index).name.replacing(".0.weight", with: "_exps.weight")
            refused(.missingTensor, "'\(name)'", tiny)
            tiny = whole
            tiny.tensors[index].shape[tiny.tensors[index].shape.count - 1] += 1
            refused(.wrongTensor, "'\(whole.tensors[index].name)'", tiny)
        }
    }

    @Test func fusedTensors() throws {
        var tiny = TinyModel(architecture: "phi3", tied: false)
        tiny.tensors.removeAll { $0.name.hasSuffix("attn_q.weight") || $0.name.hasSuffix("attn_k.weight") || $0.name.contains("ffn_gate") }
        for index in tiny.tensors.indices {
            let name = tiny.tensors[index].name
            if name.hasSuffix("attn_v.weight") { tiny.tensors[index] = (name.replacing("attn_v", with: "attn_qkv"), .f32, [32, 64]) }
            if name.hasSuffix("ffn_up.weight") { tiny.tensors[index] = (name, .q8_0, [32, 128]) }
        }
        let model = try configuration(tiny)
        #expect(model.architecture == .phi3 && model.rope.pairing == .halves)
        let file = try tiny.file()
        let all = try #require(file.tensor("blk.1.attn_qkv.weight")).dequantized()
        let wanted = ModelTensors.WantedLayer(1, model)
        #expect(try ModelTensors.find(wanted.query, in: file).tensors[0].dequantized() == Array(all[..<1024]))
        #expect(try ModelTensors.find(wanted.key, in: file).tensors[0].dequantized() == Array(all[1024..<1536]))
        #expect(try ModelTensors.find(wanted.value, in: file).tensors[0].dequantized() == Array(all[1536...]))
        #expect(ModelSizes(file: file, model: model).stage(layers: 0..<2) == file.tensors.reduce(0) { $0 + $1.byteCount })
        // A file that has both says two things.
        tiny.tensors.append(("blk.0.attn_q.weight", .f32, [32, 32]))
        refused(.unknownTensor, "'blk.0.attn_q.weight'", tiny)
    }
}
