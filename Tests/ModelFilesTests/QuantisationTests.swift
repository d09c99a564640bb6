import ModelFiles
import Testing

/// A model in other formats: which tensor gets which, and that values, threads and errors come through.
@Suite struct QuantisationTests {
    @Test(arguments: ConversionRecipe.Preset.known.map(\.name))
    func everyPresetKeepsTheModel(name: String) throws {
        let preset = try #require(ConversionRecipe.Preset.known.first { $0.name == name })
        let file = try GGUFFile(parts: [ModelConversion.bytes(of: TinyModel(tied: false).file(), as: .f32)])
        let recipe = ConversionRecipe(preset)
        let written = try GGUFFile(parts: [ModelConversion.bytes(of: file, as: recipe)])
        #expect(try ModelConfiguration(file: written) == ModelConfiguration(file: file))
        try ModelTensors.check(written, against: ModelConfiguration(file: written))
        for (new, old) in zip(written.tensors, file.tensors) {
            #expect(new.type == recipe.type(of: old, in: file) && new.shape == old.shape)
            let exact = old.dequantized(), found = new.dequantized()
            let error = zip(exact, found).reduce(0) { $0 + Double(($1.0 - $1.1) * ($1.0 - $1.1)) }
            let power = exact.reduce(0) { $0 + Double($1 * $1) }
            // IQ4_NL is the coarsest that a model of 32 and 64 columns can get; its error is a twelfth or so.
            #expect(error <= power * 0.015, "\(new.name) as \(new.type.name)")
        }
    }

    @Test func smallerBlocksStandIn() {
        #expect(TensorType.allCases.allSatisfy { ConversionRecipe.fitting($0, columns: 512) == $0 })
        let expected: [TensorType: TensorType] = [
            .q2_K: .iq4_NL, .q3_K: .iq4_NL, .iq4_XS: .iq4_NL, .q4_K: .q5_0, .q5_K: .q5_1, .q6_K: .q8_0,
        ]
        for type in TensorType.allCases { #expect(ConversionRecipe.fitting(type, columns: 576) == expected[type] ?? type) }
        for type in TensorType.allCases { #expect(ConversionRecipe.fitting(type, columns: 40) == (type.isFloat ? type : .f16)) }
    }

    /// 16 layers, so that eighths and thirds can be told apart.
    @Test func theMixKnowsItsTensors() throws {
        let file = try GGUFFile(parts: [mixedModel(head: true)])
        let mix = ConversionRecipe(.q4_K_M)
        func type(_ name: String, _ recipe: ConversionRecipe) throws -> TensorType { recipe.type(of: try #require(file.tensor(name)), in: file) }
        #expect(try type("token_embd.weight", mix) == .q4_K)
        #expect(try type("output.weight", mix) == .q6_K)
        #expect(try type("blk.0.ffn_gate_inp.weight", mix) == .f32)
        #expect(try type("blk.0.attn_norm.weight", mix) == .f32)
        let generous = try (0..<16).filter { try type("blk.\($0).ffn_down.weight", mix) == .q6_K }
        #expect(generous == [0, 1, 4, 7, 10, 13, 14, 15])
        #expect(try (0..<16).filter { try type("blk.\($0).attn_v.weight", mix) == .q6_K } == generous)
        #expect(try (0..<16).allSatisfy { try type("blk.\($0).attn_q.weight", mix) == .q4_K })
        #expect(try type("blk.0.attn_v.weight", ConversionRecipe(.q5_K_M)) == .q6_K)
        #expect(try type("blk.2.attn_v.weight", ConversionRecipe(.q5_K_M)) == .q5_K)

        #expect(try type("output.weight", ConversionRecipe(.all(.q4_0))) == .q6_K)
        #expect(try type("output.weight", ConversionRecipe(.all(.q8_0))) == .q8_0)
        #expect(try type("output.weight", .bf16) == .bf16)
        let chosen = ConversionRecipe(.all(.q4_0), tokenEmbedding: .q8_0, output: .f16)
        #expect(try type("token_embd.weight", chosen) == .q8_0)
        #expect(try type("output.weight", chosen) == .f16)
    }

    @Test func aTiedEmbeddingIsTheHead() throws {
        let file = try GGUFFile(parts: [mixedModel(head: false)])
        let embedding = try #require(file.tensor("token_embd.weight"))
        #expect(ConversionRecipe(.all(.q4_K)).type(of: embedding, in: file) == .q6_K)
        #expect(ConversionRecipe(.all(.q4_K), output: .q8_0).type(of: embedding, in: file) == .q8_0)
        #expect(ConversionRecipe(.all(.q4_K), tokenEmbedding: .q5_K, output: .q8_0).type(of: embedding, in: file) == .q5_K)
    }

    @Test func threadsDoNotChangeTheBytes() throws {
        let file = try TinyModel(tied: false).file()
        for preset in [ConversionRecipe.Preset.all(.q5_1), .q4_K_M] {
            let one = try ModelConversion.bytes(of: file, as: ConversionRecipe(preset))
            for threads in [2, 5] { #expect(try ModelConversion.bytes(of: file, as: ConversionRecipe(preset), threads: threads) == one) }
        }
    }

    @Test func whatHasItsFormatIsCopied() throws {
        let file = try TinyModel().file()
        let written = try GGUFFile(parts: [ModelConversion.bytes(of: file, as: ConversionRecipe(.all(.q5_0)))])
        let old = try #require(file.tensor("blk.0.attn_v.weight")), new = try #require(written.tensor("blk.0.attn_v.weight"))
        #expect(old.type == .q5_0 && Array(old.bytes) == Array(new.bytes))
    }

    @Test func metadataSaysWhatTheFileIs() throws {
        var writer = TinyModel().writer()
        writer.metadata.set("general.file_type", .uint32(3))
        writer.metadata.set("general.quantization_version", .uint32(2))
        writer.metadata.set("quantize.imatrix.file", .string("old.dat"))
        let file = try GGUFFile(parts: [writer.bytes()])
        let mixed = try GGUFFile(parts: [ModelConversion.bytes(of: file, as: ConversionRecipe(.q4_K_M))]).metadata
        #expect(try mixed.int("general.file_type") == 15 && mixed.int("general.quantization_version") == 2)
        #expect(mixed["quantize.imatrix.file"] == nil)
        let floats = try GGUFFile(parts: [ModelConversion.bytes(of: file, as: .f32)]).metadata
        #expect(try floats.int("general.file_type") == 0)
        #expect(floats["general.quantization_version"] == nil)
    }

    @Test func progressEndsWithEverything() throws {
        let folder = try TemporaryFolder()
        let file = try TinyModel().file()
        var seen: [ModelConversion.Progress] = []
        try ModelConversion.convert(file, to: .f32, path: folder.file("out.gguf"), threads: 2) { seen.append($0) }
        let last = try #require(seen.last)
        #expect(last.tensorsDone == last.tensors && last.elementsDone == last.elements && last.tensors == file.tensors.count)
        #expect(zip(seen, seen.dropFirst()).allSatisfy { $0.elementsDone < $1.elementsDone })
    }

    /// An error names tensor and row, the same for any number of threads, and leaves no file.
    @Test(arguments: [1, 3])
    func aWeightWithoutACodeIsAnError(threads: Int) throws {
        let folder = try TemporaryFolder()
        for (value, word) in [(Float.nan, "NaN"), (1e30, "too large")] {
            var weights = [Float](repeating: 0.5, count: 32 * 9)
            weights[32 * 4 + 3] = value
            weights[32 * 8] = value
            var writer = GGUFWriter()
            writer.add("some.weight", shape: [32, 9], floats: weights)
            let file = try GGUFFile(parts: [writer.bytes()])
            let error = #expect(throws: ModelFileError.self) {
                try ModelConversion.convert(file, to: ConversionRecipe(.all(.q4_0)), path: folder.file("no.gguf"), threads: threads)
            }
            #expect(error?.code == .invalidValue)
            #expect(error?.message.contains("Row 4 of the tensor 'some.weight'") == true && error?.message.contains(word) == true)
            #expect(throws: ModelFileError.self) { try GGUFFile(path: folder.file("no.gguf")) }
        }
    }

    private func mixedModel(head: Bool) throws -> [UInt8] {
        var writer = GGUFWriter()
        let zeros = [Float](repeating: 0, count: 256 * 2)
        writer.add("token_embd.weight", shape: [256, 2], floats: zeros)
        if head { writer.add("output.weight", shape: [256, 2], floats: zeros) }
        for layer in 0..<16 {
            writer.add("blk.\(layer).attn_norm.weight", shape: [256], floats: Array(zeros[..<256]))
            writer.add("blk.\(layer).ffn_gate_inp.weight", shape: [256, 2], floats: zeros)
            for name in ["attn_q", "attn_v", "ffn_down"] { writer.add("blk.\(layer).\(name).weight", shape: [256, 2], floats: zeros) }
        }
        return try writer.bytes()
    }
}
