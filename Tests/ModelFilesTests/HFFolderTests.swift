import ModelFiles
import Testing

/// Folders as Hugging Face publishes them: what is read of a sound one, and what is said of one that is not.
@Suite struct HFFolderTests {
    @Test(arguments: [TinyFolder(), TinyFolder.sharded])
    func tensors(folder: TinyFolder) throws {
        let source = try folder.open()
        #expect(source.tensors.map(\.name).sorted() == ["lm_head.weight", "model.embed_tokens.weight", "model.norm.weight"])
        let embedding = try #require(source.tensor("model.embed_tokens.weight"))
        #expect(embedding.shape == [4, 6] && embedding.type == .f32 && embedding.rows == 6)
        #expect(embedding.dequantized() == (0..<24).map { Float($0) / 8 })
        #expect(try #require(source.tensor("model.norm.weight")).dequantized() == [1, 2, -3, 0])
        #expect(try #require(source.tensor("lm_head.weight")).dequantized() == [1, 2, -3, 0x1p-24, 65504, -0.0])
        #expect(source.tensor("lm_head") == nil)
    }

    @Test("data that begins anywhere")
    func misaligned() throws {
        for padding in 0..<8 {
            var folder = TinyFolder()
            folder.files["model.safetensors"] = TinyFolder.safetensors(TinyFolder.weights, padding: padding)
            let head = try #require(folder.open().tensor("lm_head.weight"))
            #expect(head.dequantized() == [1, 2, -3, 0x1p-24, 65504, -0.0])
        }
    }

    @Test func metadataOfTheTexts() throws {
        let metadata = try TinyFolder().open().metadata
        #expect(try metadata.string(HFKey.tokenizer) == TinyFolder.tokenizer)
        #expect(try metadata.string(HFKey.specialToken("bos")) == "<s>")
        #expect(try metadata.string(HFKey.specialToken("eos")) == "</s>")
        #expect(try metadata.bool(HFKey.addBOS) == true)
        #expect(try metadata.string(HFKey.chatTemplate) == "{{ 1 }}")
        // generation_config.json counts more than config.json.
        #expect(try metadata.ints(HFKey.endTokens) == [5])
        let defaults = try SamplingDefaults(metadata)
        #expect(defaults.temperature == 0.6 && defaults.topP == 0.9 && defaults.topK == 40 && defaults.maxTokens == 100)
        #expect(defaults.minP == nil && defaults.repetitionPenalty == nil)
        // What a gateway gets is the same.
        let header = try Metadata(ggufHeaderBytes: TinyFolder().open().headerBytes)
        #expect(header.keys == metadata.keys && header.keys.allSatisfy { header[$0] == metadata[$0] })
    }

    @Test func namedTemplatesAndTemplateFiles() throws {
        var folder = TinyFolder()
        folder.set("tokenizer_config.json", #"{"chat_template":[{"name":"default","template":"D"},{"name":"tool_use","template":"T"}]}"#)
        var metadata = try folder.open().metadata
        #expect(try metadata.string(HFKey.chatTemplate) == "D")
        #expect(try metadata.string(HFKey.chatTemplate(named: "tool_use")) == "T")
        folder.set("chat_template.json", #"{"chat_template":"J"}"#)
        #expect(try folder.open().metadata.string(HFKey.chatTemplate) == "J")
        folder.set("chat_template.jinja", "F")
        metadata = try folder.open().metadata
        #expect(try metadata.string(HFKey.chatTemplate) == "F")
        #expect(try metadata.string(HFKey.chatTemplate(named: "tool_use")) == "T")
    }

    @Test("the licence stands at the head of README.md", arguments: [
        ("---\nlicense: apache-2.0\n---\n# x", "apache-2.0"), ("---\r\nlicense: \"mit\"\r\n---\r\n", "mit"),
        ("---\nlicense: other\nlicense_name: tongyi-qianwen\n---\n", "tongyi-qianwen"), ("# no head\nlicense: mit\n", nil), ("---\nlicense: mit\n", nil),
    ] as [(String, String?)])
    func license(text: String, license: String?) throws {
        var folder = TinyFolder()
        folder.set("README.md", text)
        #expect(try folder.open().metadata.string("general.license") == license)
    }

    @Test func digestsTellFoldersApart() throws {
        let plain = try ModelDigest(TinyFolder().open())
        #expect(try ModelDigest(TinyFolder().open()) == plain)
        #expect(try ModelDigest(TinyFolder.sharded.open()) != plain)
        var other = TinyFolder()
        other.set("generation_config.json", "{}")
        #expect(try ModelDigest(other.open()) != plain)
    }

    @Test func everyByteIsHeaderOrTensor() throws {
        let source = try TinyFolder.sharded.open()
        let extents = source.extents
        for (part, count) in source.partBytes.enumerated() {
            var end = 0
            for extent in extents where extent.part == part {
                #expect(extent.offset == end)
                end += extent.byteCount
            }
            #expect(end == count, "\(source.fileNames[part])")
        }
        let hashes = try WeightHasher(source, chunkBytes: 16).hashes(threads: 2) { _, _ in }
        #expect(hashes.count == extents.count)
        #expect(source.fileBytes == source.partBytes.reduce(0, +))
    }

    @Test func openedFromDisk() throws {
        let folder = try TemporaryFolder()
        for (name, bytes) in TinyFolder.sharded.files { try folder.write(bytes, to: name) }
        let source = try HFFolder(path: folder.path + "/")
        #expect(source.tensors.count == 3)
        #expect(try ModelDigest(source) == ModelDigest(TinyFolder.sharded.open()))
        #expect(try source.metadata.string("general.name") == folder.path.split(separator: "/").last.map(String.init))
        #expect(ModelOpener.isFolder(folder.path) && !ModelOpener.isFolder(folder.file("config.json")))
    }

    // MARK: Refusals

    private func refusal(_ change: (inout TinyFolder) -> Void, of folder: TinyFolder = TinyFolder()) -> ModelFileErrorCode? {
        var folder = folder
        change(&folder)
        do {
            _ = try folder.open()
            return nil
        } catch {
            #expect(error.message.count > 20)
            return error.code
        }
    }

    @Test func missingFiles() {
        #expect(refusal { $0.files["config.json"] = nil } == .missingFile)
        #expect(refusal { $0.files["model.safetensors"] = nil } == .missingFile)
        #expect(refusal({ $0.files["model-00002-of-00002.safetensors"] = nil }, of: .sharded) == .missingPart)
    }

    @Test("headers that cannot be", arguments: [
        (#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"t":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}"#, 16, ModelFileErrorCode.duplicateTensor),
        (#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"u":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#, 12, .overlappingTensors),
        (#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"u":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}}"#, 20, .unclaimedBytes),
        (#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 12, .trailingBytes),
        (#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 4, .tensorOutsideFile),
        (#"{"t":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8, .invalidShape),
        (#"{"t":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#, 0, .invalidShape),
        (#"{"t":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#, 8, .invalidShape),
        (#"{"t":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}"#, 8, .invalidShape),
        (#"{"t":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}"#, 8, .invalidShape),
        (#"{"t":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#, 0, .invalidShape),
        (#"{"t":{"dtype":"F32","shape":[1,1,1,1,2],"data_offsets":[0,8]}}"#, 8, .invalidShape),
        (#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, 8, .invalidValue),
        (#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}"#, 8, .invalidValue),
        (#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,1e1]}}"#, 10, .invalidValue),
        (#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}}"#, 8, .invalidValue),
        (#"{"t":{"dtype":"F32","shape":[2]}}"#, 8, .invalidValue),
        (#"{"t":7}"#, 0, .invalidValue),
        (#"{"t":{"dtype":"I32","shape":[2],"data_offsets":[0,8]}}"#, 8, .unknownTensorType),
        (#"{"t":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}}"#, 8, .unknownTensorType),
        (#"{"":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 8, .limitExceeded),
        (#"{"__metadata__":{"a":1}}"#, 0, .invalidValue), (#"{"__metadata__":"a"}"#, 0, .invalidValue),
        ("{", 0, .invalidJSON), ("[]", 0, .invalidJSON), ("", 0, .invalidJSON), (#"{"t":{}} x"#, 0, .invalidJSON),
        (#"{"t":"# + String(repeating: "[", count: 200), 0, .nestedTooDeep),
    ] as [(String, Int, ModelFileErrorCode)])
    func headers(header: String, dataBytes: Int, code: ModelFileErrorCode) {
        #expect(refusal { $0.files["model.safetensors"] = TinyFolder.file(header: header, data: [UInt8](repeating: 0, count: dataBytes)) } == code, "\(header)")
    }

    @Test func lengths() {
        #expect(refusal { $0.files["model.safetensors"] = [1, 2, 3] } == .truncated)
        #expect(refusal { $0.files["model.safetensors"] = [UInt8](repeating: 0xFF, count: 64) } == .absurdCount)
        #expect(refusal { $0.files["model.safetensors"] = Array("version https://git-lfs.github.com/spec/v1\n".utf8) } == .absurdCount)
        var text = TinyFolder.safetensors(TinyFolder.weights)
        text[9] = 0xC3
        #expect(refusal { $0.files["model.safetensors"] = text } == .invalidJSON)
    }

    @Test("names of shards", arguments: [
        "../model.safetensors", "/etc/passwd", "a/b.safetensors", "..", "..safetensors", "model.bin", "a\\\\b.safetensors", "a\\u0000.safetensors", ".safetensors",
        String(repeating: "x", count: 300) + ".safetensors",
    ])
    func shardNames(name: String) {
        #expect(refusal({ $0.setIndex([("t", name)]) }, of: .sharded) == .invalidFileName)
    }

    @Test func indices() {
        let first = "model-00001-of-00002.safetensors"
        let second = "model-00002-of-00002.safetensors"
        #expect(refusal({ $0.setIndex([("model.embed_tokens.weight", first)]) }, of: .sharded) == nil)
        #expect(refusal({ $0.setIndex([("model.embed_tokens.weight", first), ("lm_head.weight", second)]) }, of: .sharded) == .contradiction)
        #expect(refusal({ $0.setIndex([("model.embed_tokens.weight", first), ("ghost", first)]) }, of: .sharded) == .missingTensor)
        #expect(refusal({ $0.setIndex([("model.embed_tokens.weight", second), ("model.norm.weight", second), ("lm_head.weight", second)]) }, of: .sharded) == .missingTensor)
        #expect(refusal({ $0.setIndex([]) }, of: .sharded) == .invalidValue)
        #expect(refusal({ $0.set("model.safetensors.index.json", #"{"weight_map":{"t":3}}"#) }, of: .sharded) == .invalidValue)
        #expect(refusal({ $0.files[second] = $0.files[first] }, of: .sharded) == .contradiction)
    }

    @Test func texts() {
        #expect(refusal { $0.set("config.json", "[]") } == .invalidJSON)
        #expect(refusal { $0.set("config.json", #"{"a":1,"a":2}"#) } == .duplicateKey)
        #expect(refusal { $0.set("config.json", #"{"eos_token_id":"x"}"#); $0.files["generation_config.json"] = nil } == .invalidValue)
        #expect(refusal { $0.set("tokenizer_config.json", #"{"bos_token":3}"#) } == .invalidValue)
        #expect(refusal { $0.set("tokenizer_config.json", #"{"add_bos_token":"yes"}"#) } == .invalidValue)
        #expect(refusal { $0.set("tokenizer_config.json", #"{"chat_template":[{"name":"a"}]}"#) } == .invalidValue)
        #expect(refusal { $0.set("generation_config.json", #"{"temperature":-1}"#) } == .invalidValue)
        #expect(refusal { $0.set("generation_config.json", #"{"top_p":NaN}"#) } == .invalidValue)
        #expect(refusal { $0.set("generation_config.json", #"{"eos_token_id":-1}"#) } == .invalidValue)
        #expect(refusal { $0.files["chat_template.jinja"] = [0xFF, 0x41] } == .invalidText)
    }
}
