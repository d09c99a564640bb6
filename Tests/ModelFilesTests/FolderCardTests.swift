import ModelFiles
import Testing

/// Cards of folders that have something wrong.
@Suite struct FolderCardTests {
    private func write(_ tiny: TinyFolder, _ folder: TemporaryFolder) throws { for (name, bytes) in tiny.files { try folder.write(bytes, to: name) } }

    @Test func aFolderThatCannotBeServedSaysWhy() throws {
        let folder = try TemporaryFolder()
        try write(.sharded, folder)
        let card = try ModelCard(folder: folder.path)
        #expect(card.refusal?.contains("hidden_size") == true && card.architecture == "llama" && card.decoder == nil)
        #expect(card.paths.count == 7 && card.digest?.count == 64 && card.types.map(\.type).sorted() == ["BF16", "F16", "F32"])
        #expect(card.tokenizer == "tokenizer.json" && card.hasChatTemplate)
        #expect(card.description.contains("cannot be served"))
    }

    @Test func whatIsNoModelIsRefusedByName() throws {
        let folder = try TemporaryFolder()
        func refusal(_ path: String) -> ModelFileError? {
            do throws(ModelFileError) {
                _ = try ModelCard(folder: path)
                return nil
            } catch { return error }
        }
        #expect(refusal(folder.path)?.code == .missingFile && refusal(folder.path)?.message.contains("config.json") == true)
        try folder.write(Array("[1]".utf8), to: "config.json")
        #expect(refusal(folder.path)?.code == .invalidJSON && refusal(folder.file("config.json"))?.code == .invalidJSON)
        try folder.write(Array(#"{"model_type": "bert"}"#.utf8), to: "config.json")
        let card = try ModelCard(folder: folder.path)
        #expect(card.architecture == "bert" && card.refusal?.contains("'bert'") == true && card.parameters == 0)
        // Weights that cannot be read are an error, and not a folder without weights.
        try folder.write([1, 2, 3], to: "model.safetensors")
        #expect(refusal(folder.path)?.code == .truncated)
    }

    @Test(arguments: [
        (#""torch_dtype": "float16""#, TensorType.f16, true), (#""dtype": "float32""#, .f32, true), (#""torch_dtype": "int8""#, .bf16, false), (#""a": 1"#, .bf16, false),
    ]) func typesOfConfigurations(member: String, type: TensorType, isNamed: Bool) throws {
        let object = try #require(JSONValue(json: Array("{\(member)}".utf8), name: "config.json").object)
        #expect(GGUFFile.weightType(of: object) == (type, isNamed))
    }

    /// Counts that would take all memory, one by one.
    @Test(arguments: ["num_hidden_layers", "vocab_size", "hidden_size", "intermediate_size", "num_attention_heads", "max_position_embeddings"])
    func absurdCounts(key: String) throws {
        let folder = try TemporaryFolder()
        for value in ["16384", "9223372036854775807", "1e300", "-1", "0"] {
            var members = [
                "model_type": #""llama""#, "hidden_size": "32", "num_hidden_layers": "2", "num_attention_heads": "2", "intermediate_size": "48",
                "vocab_size": "64", "max_position_embeddings": "128", "rms_norm_eps": "1e-5", "rope_theta": "10000.0", "hidden_act": #""silu""#,
            ]
            members[key] = value
            try folder.write(Array(("{" + members.map { "\"\($0)\": \($1)" }.joined(separator: ",") + "}").utf8), to: "config.json")
            let card = try ModelCard(folder: folder.path)
            #expect(card.refusal == nil || card.refusal!.count > 20, "\(key) \(value)")
            #expect(value == "16384" || card.refusal != nil, "\(key) \(value)")
        }
    }
}
