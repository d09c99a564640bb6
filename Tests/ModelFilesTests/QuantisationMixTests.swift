import ModelFiles
import Testing

/// The rules of the known mixes, against tables of what they give.
@Suite struct QuantisationMixTests {
    /// Sixteen layers; `sharing` query heads for each head of keys and values.
    private func model(sharing: Int = 2, experts: Int = 0, layers: Int = 16) throws -> GGUFFile {
        var writer = GGUFWriter()
        writer.metadata.set("general.architecture", .string("llama"))
        writer.metadata.set("llama.block_count", .uint32(UInt32(layers)))
        writer.metadata.set("llama.attention.head_count", .uint32(UInt32(8 * sharing)))
        writer.metadata.set("llama.attention.head_count_kv", .uint32(8))
        if experts > 0 { writer.metadata.set("llama.expert_count", .uint32(UInt32(experts))) }
        let zeros = [Float](repeating: 0, count: 256)
        for layer in 0..<layers {
            for name in ["attn_q", "attn_k", "attn_v", "attn_qkv", "attn_output", "ffn_up", "ffn_down", "ffn_down_exps"] {
                writer.add("blk.\(layer).\(name).weight", shape: [256, 1], floats: zeros)
            }
        }
        return try GGUFFile(parts: [writer.bytes()])
    }

    private func types(_ mix: QuantisationMix, _ name: String, _ file: GGUFFile, hasImportance: Bool = false) throws -> [TensorType] {
        try (0..<16).map { layer in
            ConversionRecipe(.mix(mix)).type(of: try #require(file.tensor("blk.\(layer).\(name).weight")), in: file, hasImportance: hasImportance)
        }
    }

    private func all(_ type: TensorType) -> [TensorType] { [TensorType](repeating: type, count: 16) }

    private func first(_ count: Int, _ type: TensorType, then rest: TensorType) -> [TensorType] {
        [TensorType](repeating: type, count: count) + [TensorType](repeating: rest, count: 16 - count)
    }

    @Test func valuesAndWaysDownGetMore() throws {
        let file = try model()
        #expect(try types(.q2_K, "attn_v", file) == all(.q3_K))
        #expect(try types(.q2_K, "attn_v", model(sharing: 4)) == all(.q4_K))
        #expect(try types(.q2_K, "ffn_down", file) == all(.q3_K))
        #expect(try types(.q3_K_S, "attn_v", file) == all(.q3_K))
        #expect(try types(.q3_K_M, "attn_v", file) == first(2, .q5_K, then: .q4_K))
        #expect(try types(.q3_K_M, "ffn_down", file) == first(1, .q5_K, then: .q4_K))
        #expect(try types(.q3_K_L, "ffn_down_exps", file) == all(.q5_K))
        #expect(try types(.q4_K_S, "attn_v", file) == first(4, .q5_K, then: .q4_K))
        #expect(try types(.q4_K_S, "ffn_down", file) == first(2, .q5_K, then: .q4_K))
        let generous = try types(.q4_K_M, "ffn_down", file).indices.filter { try types(.q4_K_M, "ffn_down", file)[$0] == .q6_K }
        #expect(generous == [0, 1, 4, 7, 10, 13, 14, 15])
        #expect(try types(.q5_K_M, "attn_v", file).indices.filter { try types(.q5_K_M, "attn_v", file)[$0] == .q6_K } == generous)
        #expect(try types(.q6_K, "attn_v", file) == all(.q6_K))
    }

    @Test func theOtherMatricesOfALayer() throws {
        let file = try model()
        for (mix, output, fused) in [
            (QuantisationMix.q2_K, TensorType.q3_K, TensorType.q2_K), (.q3_K_S, .q3_K, .q3_K), (.q3_K_M, .q4_K, .q4_K), (.q3_K_L, .q5_K, .q4_K),
            (.q4_K_S, .q4_K, .q4_K), (.q4_K_M, .q4_K, .q5_K), (.q5_K_M, .q5_K, .q6_K), (.q8_0, .q8_0, .q8_0),
        ] {
            #expect(try types(mix, "attn_output", file) == all(output), "\(mix)")
            #expect(try types(mix, "attn_qkv", file) == all(fused), "\(mix)")
            #expect(try types(mix, "attn_q", file) == all(mix.type), "\(mix)")
            #expect(try types(mix, "ffn_up", file) == all(mix.type), "\(mix)")
        }
    }

    @Test func eightExpertsShareTheirAttention() throws {
        let file = try model(experts: 8)
        for mix in [QuantisationMix.q2_K, .q4_K_M, .iq4_XS] {
            #expect(try types(mix, "attn_v", file) == all(.q8_0))
            #expect(try types(mix, "attn_k", file) == all(.q8_0))
            #expect(try types(mix, "attn_output", file) == all(.q5_K))
        }
        #expect(try types(.q5_K_M, "attn_output", file) == all(.q5_K))
    }

    @Test func modelsOfEightyLayersSpendMoreOnValues() throws {
        let file = try model(sharing: 8, layers: 80)
        #expect(try types(.q3_K_S, "attn_v", file) == all(.q5_K))
        #expect(try types(.q4_K_M, "attn_v", file).prefix(10).allSatisfy { $0 == .q6_K })
        #expect(try types(.q4_K_M, "attn_v", file)[10] == .q5_K)
    }

    @Test func importanceChangesSomeMixes() throws {
        let file = try model()
        #expect(try types(.iq4_XS, "ffn_down", file) == first(2, .q5_K, then: .iq4_XS))
        #expect(try types(.iq4_XS, "ffn_down", file, hasImportance: true) == all(.iq4_XS))
        #expect(try types(.q4_0, "ffn_down", file) == all(.q4_0))
        #expect(try types(.q4_0, "ffn_down", file, hasImportance: true) == first(2, .q4_1, then: .q4_0))
        #expect(try types(.q5_0, "ffn_down", file, hasImportance: true) == first(2, .q5_1, then: .q5_0))
    }

    @Test func namesInEitherCase() {
        #expect(QuantisationMix(named: "Q4_K_M") == .q4_K_M && QuantisationMix(named: "q4_k") == .q4_K_M)
        #expect(QuantisationMix(named: "Q3_K") == .q3_K_M && QuantisationMix(named: "q2_k") == .q2_K)
        #expect(QuantisationMix(named: "q9") == nil)
        #expect(ConversionRecipe.Preset.usual(named: "BF16") == .all(.bf16) && ConversionRecipe.Preset.usual(named: "q4_0") == .mix(.q4_0))
        #expect(Set(ConversionRecipe.Preset.known.map(\.name)).count == ConversionRecipe.Preset.known.count)
    }
}
