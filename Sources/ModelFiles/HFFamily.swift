/// The families of Hugging Face's `model_type` that are served, and what tells their config.json files apart.
enum HFFamily: String, CaseIterable {
    case llama, mistral, mixtral, qwen2, granite, granitemoe, phi3, internlm2

    /// As its GGUF files call it.
    var architecture: ModelConfiguration.Architecture {
        switch self {
        case .llama, .mistral, .mixtral: .llama
        case .qwen2: .qwen2
        case .granite: .granite
        case .granitemoe: .granitemoe
        case .phi3: .phi3
        case .internlm2: .internlm2
        }
    }

    /// The one class whose checkpoints have the head that is served; others classify, embed or see.
    var className: String {
        switch self {
        case .llama: "LlamaForCausalLM"
        case .mistral: "MistralForCausalLM"
        case .mixtral: "MixtralForCausalLM"
        case .qwen2: "Qwen2ForCausalLM"
        case .granite: "GraniteForCausalLM"
        case .granitemoe: "GraniteMoeForCausalLM"
        case .phi3: "Phi3ForCausalLM"
        case .internlm2: "InternLM2ForCausalLM"
        }
    }

    /// Where config.json does not say, as in transformers.
    var ropeBase: Double { self == .mixtral ? 1e6 : 10_000 }

    /// Members of config.json that this family has beside `common`.
    var members: Set<String> {
        switch self {
        case .llama: ["attention_bias", "mlp_bias", "head_dim"]
        case .mistral: ["sliding_window", "head_dim"]
        case .mixtral: ["sliding_window", "head_dim", "num_local_experts", "num_experts_per_tok"]
        case .qwen2: ["use_sliding_window", "sliding_window", "max_window_layers", "layer_types", "head_dim"]
        case .granite: HFFamily.multipliers.union(["attention_bias", "mlp_bias", "head_dim"])
        case .granitemoe:
            HFFamily.multipliers.union([
                "attention_bias", "num_local_experts", "num_experts_per_tok", "shared_intermediate_size", "position_embedding_type", "head_dim",
            ])
        case .phi3: ["sliding_window", "original_max_position_embeddings", "partial_rotary_factor", "attention_bias", "head_dim"]
        case .internlm2: ["bias", "head_dim"]
        }
    }

    private static let multipliers: Set<String> = ["embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling"]

    /// Members that all families have, which are read.
    static let common: Set<String> = [
        "model_type", "architectures", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size",
        "vocab_size", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling", "rope_parameters", "tie_word_embeddings",
        "hidden_act",
    ]

    /// Members that cannot change what is computed from a prompt: how the model was made and trained, what its tokens are called (the
    /// tokenizer's files say it), how transformers should run it, and types of values, which the tensors themselves tell.
    static let harmless: Set<String> = [
        "_name_or_path", "name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache", "auto_map", "_commit_hash",
        "attn_implementation", "_attn_implementation", "_attn_implementation_autoset", "pretraining_tp",
        "bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id", "decoder_start_token_id",
        "initializer_range", "attention_dropout", "hidden_dropout", "embd_pdrop", "resid_pdrop", "router_jitter_noise",
        "output_router_logits", "router_aux_loss_coef", "output_attentions", "output_hidden_states", "return_dict", "torchscript",
        "is_decoder", "unsloth_version", "unsloth_fixed", "id2label", "label2id", "task_specific_params",
    ]
}
