#!/usr/bin/env python3
"""Makes Tests/EngineTests/Fixtures: tiny random checkpoints as GGUF files, and what transformers computes from them in float64.

Needs: torch==2.15.0 transformers==4.57.6 gguf==0.17.1 numpy==2.2.6
Run:   python ops/golden/make-engine.py

NAME.gguf holds F32 tensors as the usual converters write them: query and key rows permuted for llama and granite, as they
are for qwen2. NAME.golden holds, little-endian: int32 count, int32 tokens[count], float64 logits[count][vocabulary].
Norms and biases are random too, because their defaults of one and zero would hide a mistake.
"""

import pathlib

import gguf
import numpy as np
import torch
import transformers

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "Tests" / "EngineTests" / "Fixtures"
POSITIONS = 45  # more than a KV block of 32

COMMON = dict(tie_word_embeddings=False, attn_implementation="eager", max_position_embeddings=128, rms_norm_eps=1e-5)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)

# name: (configuration, architecture in GGUF, rows of Wq and Wk permuted)
CASES = {
    "llama": (
        transformers.LlamaConfig(
            hidden_size=40, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2, head_dim=10, intermediate_size=52,
            vocab_size=61, rope_theta=500.0, **COMMON), "llama", True),
    "llama-linear": (
        transformers.LlamaConfig(
            hidden_size=24, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=12, intermediate_size=36,
            vocab_size=37, rope_theta=100.0, rope_scaling=dict(rope_type="linear", factor=2.5), **COMMON), "llama", True),
    "llama3": (
        transformers.LlamaConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=1, head_dim=16, intermediate_size=44,
            vocab_size=53, rope_theta=10000.0, rope_scaling=LLAMA3, **(COMMON | dict(tie_word_embeddings=True))), "llama", True),
    "qwen2": (
        transformers.Qwen2Config(
            hidden_size=36, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1, intermediate_size=50, vocab_size=59,
            rope_theta=1000.0, **(COMMON | dict(rms_norm_eps=1e-6))), "qwen2", False),
    "granite": (
        transformers.GraniteConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=48, vocab_size=47,
            rope_theta=300.0, embedding_multiplier=12.0, residual_multiplier=0.22, attention_multiplier=0.0781, logits_scaling=6.0,
            **(COMMON | dict(tie_word_embeddings=True))), "granite", True),
}

MODELS = {
    "LlamaConfig": transformers.LlamaForCausalLM,
    "Qwen2Config": transformers.Qwen2ForCausalLM,
    "GraniteConfig": transformers.GraniteForCausalLM,
}


def head_dim(config):
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def divisors(config):
    """What each plain RoPE frequency is divided by, as float32; None where nothing is."""
    scaling = getattr(config, "rope_scaling", None)
    if not scaling or scaling["rope_type"] == "default":
        return None
    pairs = head_dim(config) // 2
    if scaling["rope_type"] == "linear":
        return np.full(pairs, scaling["factor"], dtype=np.float32)
    frequencies = config.rope_theta ** (-2 * np.arange(pairs) / head_dim(config))
    original, factor = scaling["original_max_position_embeddings"], scaling["factor"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    result = []
    for wavelength in 2 * np.pi / frequencies:
        if wavelength < original / high:
            result.append(1.0)
        elif wavelength > original / low:
            result.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            result.append(1 / ((1 - smooth) / factor + smooth))
    assert 1.0 in result and factor in result and len(set(result)) > 2, "a case that shows all three ranges"
    return np.array(result, dtype=np.float32)


class Rotary64(torch.nn.Module):
    """The model's RoPE angles in float64; transformers makes them in float32 whatever the model's type."""

    def __init__(self, config):
        super().__init__()
        pairs = head_dim(config) // 2
        frequencies = config.rope_theta ** (-2 * np.arange(pairs, dtype=np.float64) / head_dim(config))
        found = divisors(config)
        if found is not None:
            frequencies = frequencies / found.astype(np.float64)
        self.frequencies = torch.tensor(frequencies)

    def forward(self, x, position_ids):
        angles = position_ids[:, :, None].double() * self.frequencies
        angles = torch.cat([angles, angles], dim=-1)
        return angles.cos(), angles.sin()


class Norm64(torch.nn.Module):
    """RMS norm in the type of its input; transformers goes through float32."""

    def __init__(self, norm):
        super().__init__()
        self.weight, self.epsilon = norm.weight, norm.variance_epsilon

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon))


def in_float64(model, config):
    """The model with every step in float64."""
    model.double()
    for layer in model.model.layers:
        layer.input_layernorm = Norm64(layer.input_layernorm)
        layer.post_attention_layernorm = Norm64(layer.post_attention_layernorm)
    model.model.norm = Norm64(model.model.norm)
    model.model.rotary_emb = Rotary64(config)
    softmax = torch.nn.functional.softmax
    torch.nn.functional.softmax = lambda x, dim, dtype=None: softmax(x, dim=dim)
    return model


def make(config):
    model = MODELS[type(config).__name__](config).eval()
    generator = torch.Generator().manual_seed(20240601)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name:
                parameter.copy_(1 + 0.3 * noise)
            elif name.endswith("bias"):
                parameter.copy_(0.5 * noise)
            elif "embed" in name:
                parameter.copy_(0.7 * noise)
            else:
                parameter.copy_(1.3 * noise / parameter.shape[1] ** 0.5)
    return model


def permuted(weights, heads):
    """Halves of each head's rows, interleaved: what converters do for families that turn adjacent pairs."""
    return weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


def write_gguf(path, model, config, architecture, permute):
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(path.stem)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim(config))
    writer.add_value_length(head_dim(config))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_dimension_count(head_dim(config))
    writer.add_vocab_size(config.vocab_size)
    if architecture == "granite":
        writer.add_attention_scale(config.attention_multiplier)
        writer.add_embedding_scale(config.embedding_multiplier)
        writer.add_residual_scale(config.residual_multiplier)
        writer.add_logit_scale(config.logits_scaling)
    scaling = getattr(config, "rope_scaling", None) or {}
    if scaling.get("rope_type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling["factor"])
    elif scaling.get("rope_type") == "llama3":
        writer.add_tensor("rope_freqs.weight", divisors(config))

    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, architecture.upper()), config.num_hidden_layers)
    for name, parameter in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        data = parameter.detach().numpy().astype(np.float32)
        if permute and ".q_proj." in name:
            data = permuted(data, config.num_attention_heads)
        if permute and ".k_proj." in name:
            data = permuted(data, config.num_key_value_heads)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), np.ascontiguousarray(data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    plain_softmax = torch.nn.functional.softmax
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, (config, architecture, permute) in CASES.items():
        model = make(config)
        write_gguf(FOLDER / f"{name}.gguf", model, config, architecture, permute)
        tokens = torch.tensor([[(i * i * 5 + i * 7 + 3) % config.vocab_size for i in range(POSITIONS)]])
        with torch.no_grad():
            logits = in_float64(model, config)(tokens, use_cache=False).logits[0]
        torch.nn.functional.softmax = plain_softmax
        assert logits.dtype == torch.float64 and torch.isfinite(logits).all()
        with open(FOLDER / f"{name}.golden", "wb") as file:
            file.write(np.array([POSITIONS] + tokens[0].tolist(), dtype="<i4").tobytes())
            file.write(logits.numpy().astype("<f8").tobytes())
        print(f"{name}: {sum(p.numel() for p in model.parameters())} parameters, logits of deviation {logits.std():.3f}")


if __name__ == "__main__":
    main()
