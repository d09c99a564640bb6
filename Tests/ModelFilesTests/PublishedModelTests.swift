import ModelFiles
import Testing

/// The config.json of published models, as far as it describes them: each is understood, and its weights are counted rightly without a tensor.
@Suite struct PublishedModelTests {
    struct Published: Sendable, CustomTestStringConvertible {
        let name: String
        let parameters: Int
        let config: String
        var testDescription: String { name }

        init(_ name: String, _ parameters: Int, _ config: String) {
            (self.name, self.parameters, self.config) = (name, parameters, config)
        }
    }

    private static func qwen2(
        _ hidden: Int, _ layers: Int, _ heads: Int, _ kv: Int, _ inner: Int, _ vocabulary: Int, tied: Bool, windowed: Int
    ) -> String {
        """
        {"architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151645, "hidden_act": "silu",
         "hidden_size": \(hidden), "initializer_range": 0.02, "intermediate_size": \(inner), "max_position_embeddings": 32768,
         "max_window_layers": \(windowed), "model_type": "qwen2", "num_attention_heads": \(heads), "num_hidden_layers": \(layers),
         "num_key_value_heads": \(kv), "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 131072,
         "tie_word_embeddings": \(tied), "torch_dtype": "bfloat16", "transformers_version": "4.40.1", "use_cache": true,
         "use_sliding_window": false, "vocab_size": \(vocabulary)}
        """
    }

    private static func llama(
        _ hidden: Int, _ layers: Int, _ heads: Int, _ kv: Int, _ inner: Int, _ vocabulary: Int = 128_256, context: Int = 131_072,
        theta: Double = 500_000, factor: Double? = nil, tied: Bool = false, headDimension: Int? = nil, type: String = "llama",
        architecture: String = "LlamaForCausalLM"
    ) -> String {
        let scaling = factor.map {
            #"{"factor": \#($0), "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"}"#
        }
        let head = headDimension.map { #""head_dim": \#($0), "# } ?? ""
        let window = type == "mistral" ? #""sliding_window": null"# : #""mlp_bias": false, "attention_bias": false"#
        return """
            {"architectures": ["\(architecture)"], "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": [2, 3], \(head)
             "hidden_act": "silu", "hidden_size": \(hidden), "initializer_range": 0.02, "intermediate_size": \(inner),
             "max_position_embeddings": \(context), "model_type": "\(type)", "num_attention_heads": \(heads), "num_hidden_layers": \(layers),
             "num_key_value_heads": \(kv), "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": \(scaling ?? "null"),
             "rope_theta": \(theta), "tie_word_embeddings": \(tied), "torch_dtype": "bfloat16", "transformers_version": "4.43.0",
             "use_cache": true, "vocab_size": \(vocabulary), \(window)}
            """
    }

    private static func mixtral(_ hidden: Int, _ layers: Int, _ heads: Int, _ inner: Int, _ vocabulary: Int, context: Int) -> String {
        """
        {"architectures": ["MixtralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
         "hidden_size": \(hidden), "initializer_range": 0.02, "intermediate_size": \(inner), "max_position_embeddings": \(context),
         "model_type": "mixtral", "num_attention_heads": \(heads), "num_experts_per_tok": 2, "num_hidden_layers": \(layers),
         "num_key_value_heads": 8, "num_local_experts": 8, "output_router_logits": false, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0,
         "router_aux_loss_coef": 0.02, "sliding_window": null, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
         "transformers_version": "4.36.0.dev0", "use_cache": true, "vocab_size": \(vocabulary)}
        """
    }

    private static func granite(
        _ hidden: Int, _ layers: Int, _ heads: Int, _ inner: Int, attention: Double, logits: Double, experts: (Int, Int)? = nil
    ) -> String {
        let own = experts.map {
            #""num_local_experts": \#($0.0), "num_experts_per_tok": \#($0.1), "output_router_logits": false, "router_aux_loss_coef": 0.001,"#
        }
        return """
            {"architectures": ["\(experts == nil ? "GraniteForCausalLM" : "GraniteMoeForCausalLM")"], "attention_bias": false,
             "attention_dropout": 0.1, "attention_multiplier": \(attention), "bos_token_id": 0, "embedding_multiplier": 12.0, "eos_token_id": 0,
             "hidden_act": "silu", "hidden_size": \(hidden), "initializer_range": 0.02, "intermediate_size": \(inner), "logits_scaling": \(logits),
             "max_position_embeddings": 4096, \(experts == nil ? "\"mlp_bias\": false," : "")
             "model_type": "\(experts == nil ? "granite" : "granitemoe")", "num_attention_heads": \(heads), "num_hidden_layers": \(layers),
             "num_key_value_heads": 8, \(own ?? "") "pad_token_id": 0, "residual_multiplier": 0.22, "rms_norm_eps": \(experts == nil ? "1e-05" : "1e-06"),
             "rope_scaling": null, "rope_theta": 10000, "tie_word_embeddings": true, "torch_dtype": "bfloat16", "transformers_version": "4.46.0.dev0",
             "use_cache": true, "vocab_size": 49155}
            """
    }

    private static func phi3(context: Int, window: Int, scaling: String) -> String {
        """
        {"_name_or_path": "Phi-3-mini", "architectures": ["Phi3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
         "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config", "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"},
         "bos_token_id": 1, "embd_pdrop": 0.0, "eos_token_id": 32000, "hidden_act": "silu", "hidden_size": 3072, "initializer_range": 0.02,
         "intermediate_size": 8192, "max_position_embeddings": \(context), "model_type": "phi3", "num_attention_heads": 32,
         "num_hidden_layers": 32, "num_key_value_heads": 32, "original_max_position_embeddings": 4096, "pad_token_id": 32000,
         "resid_pdrop": 0.0, "rms_norm_eps": 1e-05, "rope_scaling": \(scaling), "rope_theta": 10000.0, "sliding_window": \(window),
         "tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.40.2", "use_cache": true, "vocab_size": 32064}
        """
    }

    private static let internlm2 = """
        {"architectures": ["InternLM2ForCausalLM"], "attn_implementation": "eager", "bias": false, "bos_token_id": 1, "eos_token_id": 2,
         "auto_map": {"AutoConfig": "configuration_internlm2.InternLM2Config"}, "hidden_act": "silu", "hidden_size": 4096,
         "initializer_range": 0.02, "intermediate_size": 14336, "max_position_embeddings": 32768, "model_type": "internlm2",
         "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "pad_token_id": 2, "pretraining_tp": 1,
         "rms_norm_eps": 1e-05, "rope_scaling": {"type": "dynamic", "factor": 2.0}, "rope_theta": 1000000, "tie_word_embeddings": false,
         "torch_dtype": "bfloat16", "transformers_version": "4.41.0", "use_cache": true, "vocab_size": 92544}
        """

    private static let factors = "[" + Array(repeating: "1.5", count: 48).joined(separator: ", ") + "]"

    static let all = [
        Published("Qwen2-72B", 72_706_203_648, qwen2(8192, 80, 64, 8, 29_568, 152_064, tied: false, windowed: 80)),
        Published("Qwen2.5-0.5B", 494_032_768, qwen2(896, 24, 14, 2, 4864, 151_936, tied: true, windowed: 21)),
        Published("Qwen2.5-1.5B", 1_543_714_304, qwen2(1536, 28, 12, 2, 8960, 151_936, tied: true, windowed: 21)),
        Published("Qwen2.5-7B", 7_615_616_512, qwen2(3584, 28, 28, 4, 18_944, 152_064, tied: false, windowed: 28)),
        Published("Llama-3-8B", 8_030_261_248, llama(4096, 32, 32, 8, 14_336, context: 8192)),
        Published("Llama-3.1-8B", 8_030_261_248, llama(4096, 32, 32, 8, 14_336, factor: 8)),
        Published("Llama-3.1-70B", 70_553_706_496, llama(8192, 80, 64, 8, 28_672, factor: 8)),
        Published("Llama-3.1-405B", 405_853_388_800, llama(16_384, 126, 128, 8, 53_248, factor: 8)),
        Published("Llama-3.2-1B", 1_235_814_400, llama(2048, 16, 32, 8, 8192, factor: 32, tied: true, headDimension: 64)),
        Published("Llama-3.2-3B", 3_212_749_824, llama(3072, 28, 24, 8, 8192, factor: 32, tied: true, headDimension: 128)),
        Published(
            "Mistral-7B-v0.3", 7_248_023_552,
            llama(4096, 32, 32, 8, 14_336, 32_768, context: 32_768, theta: 1e6, type: "mistral", architecture: "MistralForCausalLM")),
        Published(
            "Mistral-Nemo-12B", 12_247_782_400,
            llama(
                5120, 40, 32, 8, 14_336, 131_072, context: 1_024_000, theta: 1e6, headDimension: 128, type: "mistral",
                architecture: "MistralForCausalLM")),
        Published("Mixtral-8x7B", 46_702_792_704, mixtral(4096, 32, 32, 14_336, 32_000, context: 32_768)),
        Published("Mixtral-8x22B", 140_630_071_296, mixtral(6144, 56, 48, 16_384, 32_768, context: 65_536)),
        Published("Granite-3.0-2B", 2_533_531_648, granite(2048, 40, 32, 8192, attention: 0.015625, logits: 8)),
        Published("Granite-3.0-8B", 8_170_848_256, granite(4096, 40, 32, 12_800, attention: 0.0078125, logits: 16)),
        Published("Granite-3.0-1B-A400M", 1_334_628_352, granite(1024, 24, 16, 512, attention: 0.015625, logits: 6, experts: (32, 8))),
        Published("Granite-3.0-3B-A800M", 3_298_793_472, granite(1536, 32, 24, 512, attention: 0.015625, logits: 6, experts: (40, 8))),
        Published("Phi-3-mini-4k", 3_821_079_552, phi3(context: 4096, window: 2047, scaling: "null")),
        Published(
            "Phi-3-mini-128k", 3_821_079_552,
            phi3(context: 131_072, window: 262_144, scaling: #"{"long_factor": \#(factors), "short_factor": \#(factors), "type": "longrope"}"#)),
        Published("MIO-7B", 6_161_747_968, llama(4096, 32, 32, 4, 11_008, 76_294, context: 4096, theta: 5e6)),
        Published("Yi-34B", 34_388_917_248, llama(7168, 60, 56, 8, 20_480, 64_000, context: 4096, theta: 5e6)),
        Published("InternLM2.5-7B", 7_737_708_544, internlm2),
    ]

    private func configuration(_ published: Published) throws -> ModelConfiguration {
        let value = try JSONValue(json: Array(published.config.utf8), name: "config.json")
        return try ModelConfiguration(config: #require(value.object), name: published.name)
    }

    @Test(arguments: all) func parametersAreCounted(published: Published) throws {
        #expect(try configuration(published).parameterCount == published.parameters)
    }

    /// What `staffel inspect` shows of a config.json alone, and of a folder with nothing else.
    @Test(arguments: all) func cardsOfConfigurations(published: Published) throws {
        let folder = try TemporaryFolder()
        try folder.write(Array(published.config.utf8), to: "config.json")
        let model = try configuration(published)
        for card in try [ModelCard(folder: folder.path), ModelCard(folder: folder.file("config.json"))] {
            #expect(card.refusal == nil && card.parameters == published.parameters && card.digest == nil)
            #expect(card.decoder?.layers == model.layers && card.decoder?.kvBytesPerToken == model.kvBytesPerToken(elementBytes: 2))
            #expect(card.contextLength == model.contextLength && card.vocabulary == model.vocabulary)
            #expect(card.activeParameters == (model.experts == nil ? nil : model.activeParameterCount))
            // Two bytes a weight, vectors four.
            let sum = (card.decoder?.layerBytesMin ?? 0) * model.layers + (card.decoder?.embeddingBytes ?? 0)
            #expect(sum > 2 * (published.parameters - model.vocabulary * model.hidden - model.hidden) && sum <= 2 * published.parameters + (1 << 24))
            #expect(card.description.contains("foretold for BF16") && card.json.contains("\"parameters\" : \(published.parameters)"))
        }
    }

    /// As the metadata and vectors of a GGUF file, and read from there.
    @Test(arguments: all) func configurationsSurviveInGGUF(published: Published) throws {
        let model = try configuration(published)
        var metadata = Metadata()
        try model.write(to: &metadata)
        var facts = ModelConfiguration.TensorFacts()
        facts.head = !model.tiedHead
        facts.qkvBias = model.qkvBias
        for (name, floats) in model.ropeTensors {
            switch name {
            case ModelTensors.ropeDivisors: facts.ropeDivisors = floats
            case ModelTensors.ropeShort: facts.ropeShort = floats
            default: facts.ropeLong = floats
            }
        }
        #expect(try ModelConfiguration(metadata: metadata, tensors: facts) == model)
    }

    private func named(_ name: String) throws -> ModelConfiguration { try configuration(#require(Self.all.first { $0.name == name })) }

    @Test func switchesOfPublishedModels() throws {
        let qwen = try named("Qwen2-72B")
        #expect(qwen.qkvBias && !qwen.outputBias && qwen.windows.isEmpty && qwen.rope.pairing == .halves)
        let nemo = try named("Mistral-Nemo-12B")
        #expect((nemo.headDimension, nemo.queryWidth, nemo.windows) == (128, 4096, []))
        let phi = try named("Phi-3-mini-4k")
        #expect((phi.headDimension, phi.window(ofLayer: 31), phi.rope.scaling) == (96, 2047, .none))
        let long = try named("Phi-3-mini-128k")
        #expect(long.windows.isEmpty && long.rope.switchesAt == 4096)
        // sqrt(1 + ln 32 / ln 4096)
        #expect(abs(long.rope.magnitude - 1.190238) < 1e-6)
        let granite = try named("Granite-3.0-3B-A800M")
        #expect(granite.experts == .init(count: 40, used: 8, router: .softmaxOfChosen))
        #expect((granite.embeddingScale, granite.residualScale, granite.attentionScale, granite.logitDivisor) == (12, 0.22, 0.015625, 6))
        let mixtral = try named("Mixtral-8x7B")
        #expect(mixtral.experts == .init(count: 8, used: 2, router: .softmaxOfAll))
        #expect(mixtral.activeParameterCount == 12_879_925_248)
    }

    /// λ under 2048 stays, over 8192 is divided by 8 or 32, between them blended.
    @Test func llama3Divisors() throws {
        for (name, factor) in [("Llama-3.1-8B", Float(8)), ("Llama-3.2-1B", 32)] {
            guard case .divisors(let divisors) = try named(name).rope.scaling else {
                Issue.record("\(name) has no divisors")
                continue
            }
            #expect(divisors.first == 1 && divisors.last == factor)
            #expect(zip(divisors, divisors.dropFirst()).allSatisfy { $0 <= $1 })
            #expect(divisors.contains { $0 > 1 && $0 < factor })
        }
    }
}
