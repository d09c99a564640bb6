import ClusterCore
import ModelFiles
import Prompt

@testable import Gateway

// Model files, which come from anywhere, and the header of one, which a gateway is sent by its coordinator.

extension FuzzTarget {
    static let files: [FuzzTarget] = [
        FuzzTarget(
            name: "model-header", seeds: { [TinyModel.header(), TinyModel.header(template: nil)] },
            dictionary: ["GGUF", "tokenizer.ggml.tokens", "{{", "}}", "{%", "%}", "<|im_start|>", "llama", "gpt2"], headerBytes: 4, inputs: 400,
            make: {
                { input in
                    do {
                        let model = try ServedModel(welcome: TinyModel.welcome(), header: input, names: [])
                        let tokens = model.tokenizer.encode("the end <|im_end|> é", addSpecial: true, parseSpecial: true)
                        _ = model.tokenizer.text(of: tokens, skipSpecialTokens: false)
                        return "took \(model.tokenizer.vocabularySize) words"
                    } catch {
            // What is quoted comes from the input.
            let words = "\(error)".split(separator: "'", omittingEmptySubsequences: false).enumerated().filter { $0.offset % 2 == 0 }
            return String(words.map(\.element).joined().filter { !$0.isNumber }.prefix(120))
        }
                }
            }),
        // `Corpus/gguf` has whole files; `ModelFilesTests` damages ten thousand more.
        FuzzTarget(
            name: "gguf", seeds: { [] }, dictionary: ["GGUF", "general.architecture", "general.alignment", "split.count", "llama", "qwen2"], headerBytes: 8,
            make: {
                { input in
                    do {
                        try readAll(input)
                        return "took it"
                    } catch let error as ModelFileError { return error.code.rawValue }
                }
            }),
    ]

    static let folders: [FuzzTarget] = [
        FuzzTarget(
            name: "safetensors", seeds: { [Self.safetensors] },
            dictionary: ["\"F32\"", "\"BF16\"", "\"I64\"", "\"dtype\"", "\"shape\"", "\"data_offsets\"", "__metadata__", "[0,8]", "9223372036854775807", "NaN"], headerBytes: 8,
            inputs: 4000,
            make: {
                { input in
                    do {
                        let folder = try HFFolder(name: "fuzz", files: ["config.json": Array("{}".utf8), "model.safetensors": input])
                        for tensor in folder.tensors { precondition(tensor.dequantized().count == tensor.elementCount) }
                        precondition(folder.extents.reduce(0) { $0 + $1.byteCount } == folder.fileBytes)
                        return "took it"
                    } catch let error as ModelFileError { return error.code.rawValue }
                }
            }),
        FuzzTarget(
            name: "safetensors-index", seeds: { [Self.index] },
            dictionary: ["\"weight_map\"", "\"a\"", "\"b\"", "\"one.safetensors\"", "\"two.safetensors\"", "\"../one.safetensors\"", "\"/etc/x.safetensors\"", "\"config.json\"", "{}", "[", "null"],
            inputs: 4000,
            make: {
                { input in
                    do {
                        let files = ["config.json": Array("{}".utf8), "one.safetensors": shard("a"), "two.safetensors": shard("b")]
                        let index = ["model.safetensors.index.json": input]
                        let folder = try HFFolder(name: "fuzz", files: files.merging(index) { a, _ in a })
                        precondition(folder.fileNames.allSatisfy(WeightManifest.isPartName) && folder.tensors.count == 2)
                        return "took it"
                    } catch let error as ModelFileError { return error.code.rawValue }
                }
            }),
        FuzzTarget(
            name: "config-json", seeds: { configurations.map { Array($0.utf8) } },
            dictionary: [
                "\"model_type\"", "\"llama\"", "\"qwen2\"", "\"phi3\"", "\"mixtral\"", "\"rope_scaling\"", "\"type\"", "\"longrope\"", "\"yarn\"", "\"linear\"", "0", "-1", "16384", "1e300",
                "9223372036854775807", "null", "[]", "{}", "NaN",
            ], inputs: 1500,
            make: {
                { input in
                    do {
                        guard let config = try JSONValue(json: input, name: "config.json").object else { return "no object" }
                        let type = GGUFFile.weightType(of: config).type
                        let outline = try GGUFFile.outline(config: config, name: "fuzz", path: "config.json", type: type)
                        let model = try ModelConfiguration(file: outline)
                        precondition(model.parameterCount > 0 && ModelSizes(file: outline, model: model).stage(layers: 0..<model.layers) > 0)
                        return "took \(model.architecture.rawValue)"
                    } catch let error as ModelFileError { return error.code.rawValue }
                }
            }),
        FuzzTarget(
            name: "tokenizer-json", seeds: { tokenizers.map { Array($0.utf8) } },
            dictionary: [
                "\"BPE\"", "\"Unigram\"", "\"ByteLevel\"", "\"Metaspace\"", "\"Split\"", "\"Regex\"", "\"NFKC\"", "\"Replace\"", "\"Fuse\"", "\"Strip\"", "\\\\s+", "(a|b)*", "null", "-1",
            ], inputs: 1500,
            make: { { input in reading(HFKey.tokenizer, .string(String(decoding: input, as: UTF8.self))) } }),
        FuzzTarget(
            name: "tokenizer-model", seeds: { [sentencePiece(model: 1), sentencePiece(model: 2)] }, dictionary: ["<0x41>", "<unk>", "▁"], inputs: 1500,
            make: { { input in reading(HFKey.sentencePiece, .array(.uint8(input))) } }),
    ]

    private static func reading(_ key: String, _ value: MetadataValue) -> String {
        var metadata = Metadata()
        metadata.set(key, value)
        do throws(PromptError) {
            let tokenizer = try Tokenizer(metadata: metadata)
            let tokens = tokenizer.encode("the end <s>  é\u{0301} ab", addSpecial: true, parseSpecial: true)
            precondition(tokens.allSatisfy { $0 >= 0 && $0 < tokenizer.vocabularySize })
            _ = tokenizer.text(of: tokens, skipSpecialTokens: false)
            return "took \(tokenizer.vocabularySize) words"
        } catch {
            // What is quoted comes from the input.
            let words = "\(error)".split(separator: "'", omittingEmptySubsequences: false).enumerated().filter { $0.offset % 2 == 0 }
            return String(words.map(\.element).joined().filter { !$0.isNumber }.prefix(120))
        }
    }

    /// Two tensors of two elements.
    private static var safetensors: [UInt8] {
        let header = #"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[2],"data_offsets":[8,12]}}"#
        return withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Array($0) } + Array(header.utf8) + [UInt8](repeating: 1, count: 12)
    }

    private static let index = Array(#"{"metadata":{"total_size":8},"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}"#.utf8)

    private static func shard(_ name: String) -> [UInt8] {
        let header = #"{"\#(name)":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}"#
        return withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Array($0) } + Array(header.utf8) + [0, 0, 0, 0]
    }

    private static let configurations = [
        #"{"model_type":"llama","architectures":["LlamaForCausalLM"],"hidden_size":32,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"intermediate_size":48,"vocab_size":64,"max_position_embeddings":128,"rms_norm_eps":1e-5,"rope_theta":10000.0,"hidden_act":"silu","rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":32},"torch_dtype":"bfloat16"}"#,
        #"{"model_type":"mixtral","hidden_size":32,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"intermediate_size":48,"vocab_size":64,"max_position_embeddings":128,"rms_norm_eps":1e-5,"rope_theta":1e6,"num_local_experts":4,"num_experts_per_tok":2,"sliding_window":null}"#,
        #"{"model_type":"phi3","hidden_size":32,"num_hidden_layers":2,"num_attention_heads":4,"intermediate_size":48,"vocab_size":64,"max_position_embeddings":128,"original_max_position_embeddings":32,"rms_norm_eps":1e-5,"rope_theta":1e4,"sliding_window":40,"rope_scaling":{"type":"longrope","short_factor":[1.0,1.1,1.2,1.3],"long_factor":[1.0,2.0,3.0,4.0]}}"#,
    ]

    private static let tokenizers = [
        #"{"added_tokens":[{"id":4,"content":"<s>","special":true,"lstrip":true}],"normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Replace","pattern":{"Regex":" {2,}"},"content":" "}]},"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"\\s+|[^\\s]+"},"behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]},"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"special_tokens":{"<s>":{"id":"<s>","ids":[4],"tokens":["<s>"]}}},"decoder":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2,"Ġ":3},"merges":[["a","b"]]}}"#,
        #"{"normalizer":{"type":"NFKC"},"pre_tokenizer":{"type":"Metaspace","replacement":"▁","prepend_scheme":"first"},"decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]},"model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0.0],["▁",-2.5],["a",-3.0],["b",-3.5],["▁a",-4.0],["<0x41>",0.0]],"byte_fallback":true}}"#,
    ]

    /// A ModelProto of a few pieces.
    private static func sentencePiece(model: UInt8) -> [UInt8] {
        func field(_ number: UInt8, _ bytes: [UInt8]) -> [UInt8] { [number << 3 | 2, UInt8(bytes.count)] + bytes }
        func piece(_ text: String, _ score: Float, _ type: UInt8) -> [UInt8] {
            var bytes = field(1, Array(text.utf8))
            bytes.append(2 << 3 | 5)
            bytes += withUnsafeBytes(of: score.bitPattern.littleEndian) { Array($0) }
            bytes += [3 << 3, type]
            return field(1, bytes)
        }
        let pieces: [(String, Float, UInt8)] = [
            ("<unk>", 0, 2), ("<s>", 0, 3), ("</s>", 0, 3), ("▁", -1, 1), ("a", -2, 1), ("▁a", -0.5, 1), ("<x>", 0, 4),
        ]
        var bytes = pieces.flatMap { piece($0.0, $0.1, $0.2) }
        bytes += field(2, [3 << 3, model])
        return bytes + field(3, [3 << 3, 1, 4 << 3, 1])
    }

    private static func readAll(_ bytes: [UInt8]) throws {
        let file = try GGUFFile(parts: [bytes])
        precondition(file.reservedBytesMax <= bytes.count, "\(file.reservedBytesMax) bytes reserved for \(bytes.count)")
        for tensor in file.tensors { precondition(tensor.dequantized().count == tensor.elementCount) }
        _ = try Metadata(ggufHeaderBytes: file.headerBytes)
        precondition(!ModelCard(file).description.isEmpty)
        let model = try ModelConfiguration(file: file)
        precondition(ModelSizes(file: file, model: model).stage(layers: 0..<model.layers) > 0)
    }
}
