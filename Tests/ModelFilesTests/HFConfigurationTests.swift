import ModelFiles
import Testing

/// config.json to configuration: what is understood, and what is refused by name.
@Suite struct HFConfigurationTests {
    /// A small Llama, with members added, replaced, or taken out (an empty text).
    private func config(_ changes: [String: String] = [:]) -> String {
        var members = [
            "architectures": #"["LlamaForCausalLM"]"#, "hidden_act": #""silu""#, "hidden_size": "32", "intermediate_size": "64",
            "max_position_embeddings": "64", "model_type": #""llama""#, "num_attention_heads": "4", "num_hidden_layers": "2",
            "num_key_value_heads": "2", "rms_norm_eps": "1e-05", "rope_theta": "100000.0", "tie_word_embeddings": "true", "vocab_size": "12",
        ]
        for (key, value) in changes { members[key] = value.isEmpty ? nil : value }
        return "{" + members.sorted { $0.key < $1.key }.map { "\"\($0.key)\": \($0.value)" }.joined(separator: ", ") + "}"
    }

    private func family(_ type: String, _ name: String, _ changes: [String: String] = [:]) -> String {
        config(changes.merging(["model_type": "\"\(type)\"", "architectures": "[\"\(name)\"]"]) { own, _ in own })
    }

    private func configuration(_ text: String) throws -> ModelConfiguration {
        try ModelConfiguration(config: #require(JSONValue(json: Array(text.utf8), name: "config.json").object), name: "Tiny")
    }

    private func refused(_ code: ModelFileErrorCode, _ words: String, _ text: String, sourceLocation: SourceLocation = #_sourceLocation) {
        do {
            _ = try configuration(text)
            Issue.record("accepted, but \(code) was expected", sourceLocation: sourceLocation)
        } catch let error as ModelFileError {
            #expect(error.code == code, "\(error)", sourceLocation: sourceLocation)
            #expect(error.message.contains(words), "\(error.message)", sourceLocation: sourceLocation)
        } catch {
            Issue.record(error, sourceLocation: sourceLocation)
        }
    }

    @Test func llama() throws {
        let expected = try ModelConfiguration(
            name: "Tiny", hidden: 32, layers: 2, heads: 4, kvHeads: 2, headDimension: 8, feedForward: 64, vocabulary: 12, contextLength: 64,
            rope: .init(base: 100_000, dimensions: 8, pairing: .adjacent, scaling: .none))
        #expect(try configuration(config()) == expected)
    }

    @Test func harmlessMembersAndNulls() throws {
        let plain = try configuration(config())
        #expect(try configuration(config(["torch_dtype": #""bfloat16""#, "bos_token_id": "1", "use_cache": "false", "something_new": "null"])) == plain)
    }

    // MARK: Refused by name

    @Test(arguments: [
        "attn_logit_softcapping", "quantization_config", "use_qk_norm", "sliding_window", "num_local_experts", "rope_local_base_freq", "hidden_activation",
    ]) func unknownMembers(key: String) { refused(.unsupportedFeature, "'\(key)' is not understood for a 'llama' model", config([key: "1"])) }

    @Test(arguments: [
        "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size", "max_position_embeddings", "rms_norm_eps",
    ]) func missingMembers(key: String) {
        refused(.missingKey, "lacks the member '\(key)'", config([key: ""]))
        refused(.missingKey, "lacks the member '\(key)'", config([key: "null"]))
    }

    @Test(arguments: [
        ("hidden_size", #""32""#), ("hidden_size", "32.5"), ("rms_norm_eps", "true"), ("tie_word_embeddings", "1"), ("architectures", #""Llama""#),
        ("rope_scaling", "2"), ("model_type", "7"), ("hidden_act", "[]"),
    ]) func wrongTypes(key: String, value: String) { refused(.wrongMetadataType, "'\(key)' should be", config([key: value])) }

    @Test func otherFamiliesAndHeads() {
        refused(.unsupportedArchitecture, "model_type is 'gemma2'; these are supported: llama, mistral", family("gemma2", "Gemma2ForCausalLM"))
        refused(.unsupportedArchitecture, "LlamaForSequenceClassification", family("llama", "LlamaForSequenceClassification"))
        refused(.unsupportedArchitecture, "MistralForCausalLM", family("llama", "MistralForCausalLM"))
    }

    @Test func switchesThatAreOn() {
        refused(.unsupportedFeature, "'hidden_act' is 'gelu'", config(["hidden_act": #""gelu""#]))
        refused(.unsupportedFeature, "'mlp_bias' is true", config(["mlp_bias": "true"]))
        refused(.unsupportedFeature, "'shared_intermediate_size' is 8", family(
            "granitemoe", "GraniteMoeForCausalLM", ["num_local_experts": "4", "num_experts_per_tok": "2", "shared_intermediate_size": "8"]))
    }

    @Test func contradictions() {
        refused(.contradiction, "'num_attention_heads' is 5", config(["num_attention_heads": "5"]))
        refused(.contradiction, "cannot share 3 key-value heads", config(["num_key_value_heads": "3"]))
        refused(.contradiction, "'num_attention_heads' is 0", config(["num_attention_heads": "0"]))
        refused(.contradiction, "uses 5 of 4 experts", family("mixtral", "MixtralForCausalLM", ["num_local_experts": "4", "num_experts_per_tok": "5"]))
        refused(.contradiction, "hidden size is -32", config(["hidden_size": "-32", "head_dim": "8"]))
        refused(.contradiction, "epsilon", config(["rms_norm_eps": "NaN"]))
    }

    /// Bytes replaced, numbers made absurd: a configuration or an error of ours, and never a trap.
    @Test func mutations() throws {
        let texts = [
            config(["rope_scaling": #"{"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 32}"#]),
            config([
                "rope_scaling":
                    #"{"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 16}"#
            ]),
            family("phi3", "Phi3ForCausalLM", [
                "rope_scaling": #"{"type": "longrope", "short_factor": [1, 1, 1, 1], "long_factor": [2, 2, 2, 2]}"#, "partial_rotary_factor": "1.0",
            ]),
            family("granitemoe", "GraniteMoeForCausalLM", ["num_local_experts": "4", "num_experts_per_tok": "2", "attention_multiplier": "0.5"]),
            family("qwen2", "Qwen2ForCausalLM", ["use_sliding_window": "true", "sliding_window": "9", "max_window_layers": "1", "head_dim": "8"]),
        ]
        let numbers = ["0", "-1", "1", "7", "1e30", "-1e30", "9223372036854775807", "1e-320", "NaN", "Infinity", "0.5", "16385", "null", "[]"]
        var random = SeededRandom(seed: 61)
        var accepted = 0
        for turn in 0..<4_000 {
            var text = Array(texts[turn % texts.count].utf8)
            if turn % 3 == 0 {
                text[Int.random(in: 0..<text.count, using: &random)] = UInt8.random(in: 32..<127, using: &random)
            } else {
                let digits = text.indices.filter { (48...57).contains(text[$0]) && !(48...57).contains(text[$0 - 1]) && text[$0 - 1] != 46 }
                let start = digits.randomElement(using: &random)!
                let end = text[start...].firstIndex { !((48...57).contains($0) || [43, 45, 46, 101].contains($0)) } ?? text.endIndex
                text.replaceSubrange(start..<end, with: Array(numbers.randomElement(using: &random)!.utf8))
            }
            do throws(ModelFileError) {
                guard let object = try JSONValue(json: text, name: "config.json").object else { continue }
                let model = try ModelConfiguration(config: object, name: "mutated")
                _ = (model.parameterCount, model.rope.frequencies(), model.rope.frequencies(isLong: model.rope.switchesAt != nil))
                accepted += 1
            } catch {
                #expect(!error.message.isEmpty)
            }
        }
        #expect(accepted > 100, "mutations that nothing survives would prove little: \(accepted)")
    }

    // MARK: Windows

    @Test func windows() throws {
        func windows(_ type: String, _ name: String, _ changes: [String: String]) throws -> [Int] {
            try configuration(family(type, name, changes)).windows
        }
        #expect(try windows("mistral", "MistralForCausalLM", ["sliding_window": "16"]) == [16, 16])
        #expect(try windows("mistral", "MistralForCausalLM", ["sliding_window": "null"]) == [])
        // The class has 4096 where nothing is said; here all of the context fits into it.
        #expect(try windows("mistral", "MistralForCausalLM", [:]) == [])
        #expect(try windows("mistral", "MistralForCausalLM", ["max_position_embeddings": "8192"]) == [4096, 4096])
        #expect(try windows("phi3", "Phi3ForCausalLM", ["sliding_window": "64"]) == [])
        let qwen = ["use_sliding_window": "true", "sliding_window": "9", "max_window_layers": "1"]
        #expect(try windows("qwen2", "Qwen2ForCausalLM", qwen) == [0, 9])
        #expect(try windows("qwen2", "Qwen2ForCausalLM", qwen.merging(["use_sliding_window": "false"]) { $1 }) == [])
        let types = ["layer_types": #"["sliding_attention", "full_attention"]"#]
        #expect(try windows("qwen2", "Qwen2ForCausalLM", qwen.merging(types) { $1 }) == [9, 0])
        refused(.contradiction, "'layer_types' names 1 of 2", family("qwen2", "Qwen2ForCausalLM", qwen.merging(["layer_types": #"["full_attention"]"#]) { $1 }))
        refused(.unsupportedFeature, "chunked_attention", family(
            "qwen2", "Qwen2ForCausalLM", qwen.merging(["layer_types": #"["chunked_attention", "full_attention"]"#]) { $1 }))
        refused(.contradiction, "'sliding_window' is 0", family("mistral", "MistralForCausalLM", ["sliding_window": "0"]))
    }

    // MARK: RoPE

    private func rope(_ scaling: String, _ changes: [String: String] = [:]) throws -> ModelConfiguration.Rope {
        try configuration(config(changes.merging(["rope_scaling": scaling]) { own, _ in own })).rope
    }

    @Test func ropeKinds() throws {
        #expect(try rope(#"{"rope_type": "default"}"#).scaling == .none)
        #expect(try rope(#"{"type": "dynamic", "factor": 2.0}"#).scaling == .none)
        #expect(try rope(#"{"type": "linear", "factor": 2.5}"#).scaling == .linear(factor: 2.5))
        let yarn = try rope(#"{"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}"#)
        #expect(yarn.scaling == .yarn(.init(factor: 4, originalContext: 16, magnitude: 1.1386294)))
        let scaled = try rope(#"{"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.5, "beta_fast": 16, "beta_slow": 2}"#)
        #expect(scaled.scaling == .yarn(.init(factor: 4, originalContext: 64, betaFast: 16, betaSlow: 2, magnitude: 1.5)))
    }

    @Test func longrope() throws {
        let factors = #""short_factor": [1, 1.5, 2, 3], "long_factor": [2, 3, 4, 5.5]"#
        let expected = ModelConfiguration.Rope.LongRope(short: [1, 1.5, 2, 3], long: [2, 3, 4, 5.5], originalContext: 16, magnitude: 1.2247449)
        for type in ["longrope", "su"] {
            #expect(try rope("{\"type\": \"\(type)\", \(factors), \"original_max_position_embeddings\": 16}").scaling == .longrope(expected))
        }
        refused(.contradiction, "4 frequencies, but 1 long divisors", config([
            "rope_scaling": #"{"type": "longrope", "short_factor": [1, 1, 1, 1], "long_factor": [2]}"#
        ]))
        refused(.contradiction, "element 2 of the RoPE short divisors", config([
            "rope_scaling": #"{"type": "longrope", "short_factor": [1, 1, 0, 1], "long_factor": [1, 1, 1, 1]}"#
        ]))
        refused(.missingKey, "lacks the member 'long_factor'", config(["rope_scaling": #"{"type": "longrope", "short_factor": [1, 1, 1, 1]}"#]))
    }

    /// The spelling of transformers 5.
    @Test func ropeParameters() throws {
        let changes = ["rope_theta": "", "rope_parameters": #"{"rope_type": "linear", "factor": 2, "rope_theta": 5000.0}"#]
        #expect(try configuration(config(changes)).rope == .init(base: 5000, dimensions: 8, pairing: .adjacent, scaling: .linear(factor: 2)))
        refused(.contradiction, "both given", config(["rope_scaling": #"{"type": "default"}"#, "rope_parameters": #"{"rope_type": "default"}"#]))
    }

    @Test func ropeThatIsNotUnderstood() {
        refused(.unsupportedFeature, "of the type 'mrope'", config(["rope_scaling": #"{"type": "mrope"}"#]))
        refused(.unsupportedFeature, "'mrope_section' is not understood for RoPE of the type 'default'", config([
            "rope_scaling": #"{"type": "default", "mrope_section": [1, 2]}"#
        ]))
        refused(.contradiction, "names no rope_type", config(["rope_scaling": #"{"factor": 2}"#]))
        refused(.contradiction, "the rope_type 'linear' and the type 'yarn'", config(["rope_scaling": #"{"type": "yarn", "rope_type": "linear"}"#]))
        refused(.missingKey, "lacks the member 'factor'", config(["rope_scaling": #"{"type": "yarn"}"#]))
        refused(.unsupportedFeature, "'truncate' is false", config(["rope_scaling": #"{"type": "yarn", "factor": 2, "truncate": false}"#]))
        for factor in ["0", "-1", "NaN", "Infinity"] {
            refused(.contradiction, "scaling factor", config(["rope_scaling": "{\"type\": \"linear\", \"factor\": \(factor)}"]))
            refused(.contradiction, "factor", config(["rope_scaling": "{\"type\": \"yarn\", \"factor\": \(factor)}"]))
        }
        for base in ["0", "-5", "NaN", "0.5"] { refused(.contradiction, "RoPE base", config(["rope_theta": base])) }
    }
}
