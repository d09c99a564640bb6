#!/usr/bin/env python3
"""Makes Tests/EngineTests/Fixtures/families: for each family a tiny random checkpoint, as a Hugging Face folder and as a GGUF file, and
what transformers computes from it in float64. `ops/parity` runs it with the packages that it needs.

NAME/config.json and NAME/model.safetensors are what transformers saves (of InternLM2, which it lacks, what that family's own code has:
Llama's block with queries, keys and values packed by key head). NAME.gguf holds the same weights as the usual converters write them:
query and key rows interleaved for llama, granite and internlm2, as they are for qwen2 and phi3; experts stacked.

NAME.golden holds, little-endian: int32 count, int32 prompt, int32 tokens[count], float64 logits[count][vocabulary]. The first `prompt` tokens
are computed at once and the others one by one with a cache; where prompt is 0, both ways gave these logits (to 1e-11), as they must
wherever RoPE does not switch.
Norms, biases and multipliers are random or unusual too, because their defaults would hide a mistake.
"""

import json
import pathlib
import shutil
import sys

import gguf
import numpy as np
import safetensors.torch
import torch
import transformers

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "Tests" / "EngineTests" / "Fixtures" / "families"

COMMON = dict(tie_word_embeddings=False, attn_implementation="eager", max_position_embeddings=128, rms_norm_eps=1e-5)
LLAMA3 = dict(rope_type="llama3", factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32, beta_fast=8.0, beta_slow=0.5)
MULTIPLIERS = dict(embedding_multiplier=12.0, residual_multiplier=0.22, attention_multiplier=0.0781, logits_scaling=6.0)


def longrope():
    grow = np.random.default_rng(7)
    return dict(
        type="longrope", short_factor=[round(float(x), 3) for x in 1 + grow.random(5)],
        long_factor=[round(float(x), 3) for x in np.sort(1 + 9 * grow.random(5))])


# name: configuration, architecture in GGUF, positions, prompts that make a golden of their own
CASES = {
    # Nothing but the block: Llama 2 and 3, Mistral 0.3, Yi, and MIO, which is Yi with more rows of vocabulary.
    "llama": (transformers.LlamaConfig(
        hidden_size=24, num_hidden_layers=3, num_attention_heads=8, num_key_value_heads=1, head_dim=6, intermediate_size=34, vocab_size=59,
        rope_theta=5e6, **COMMON), "llama", 45),
    # Biases everywhere that a family of ours may have one, of the head too.
    "llama-biased": (transformers.LlamaConfig(
        hidden_size=28, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2, head_dim=10, intermediate_size=38, vocab_size=43,
        rope_theta=500.0, attention_bias=True, **COMMON), "llama", 45),
    "llama-linear": (transformers.LlamaConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, head_dim=12, intermediate_size=36, vocab_size=37,
        rope_theta=100.0, rope_scaling=dict(rope_type="linear", factor=2.5), **COMMON), "llama", 40),
    "llama3": (transformers.LlamaConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=1, head_dim=16, intermediate_size=44, vocab_size=53,
        rope_theta=10000.0, rope_scaling=LLAMA3, **(COMMON | dict(tie_word_embeddings=True))), "llama", 60),
    # Nemo's explicit head dimension with the window of Mistral 7B v0.1, over more than one chunk of attention.
    "mistral": (transformers.MistralConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=10, intermediate_size=30, vocab_size=31,
        rope_theta=1000.0, sliding_window=21, **(COMMON | dict(max_position_embeddings=400))), "llama", 290),
    "mixtral": (transformers.MixtralConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1, head_dim=8, intermediate_size=20, vocab_size=41,
        rope_theta=1e6, num_local_experts=5, num_experts_per_tok=2, sliding_window=None, **COMMON), "llama", 45),
    # As the 72B has it: biases of queries, keys and values, a head of its own.
    "qwen2": (transformers.Qwen2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2, intermediate_size=38, vocab_size=51,
        rope_theta=1e6, use_sliding_window=False, **(COMMON | dict(rms_norm_eps=1e-6))), "qwen2", 45),
    # The first layer sees all, the others a window.
    "qwen2-window": (transformers.Qwen2Config(
        hidden_size=36, num_hidden_layers=3, num_attention_heads=3, num_key_value_heads=1, intermediate_size=34, vocab_size=47,
        rope_theta=1000.0, use_sliding_window=True, sliding_window=11, max_window_layers=1, **(COMMON | dict(rms_norm_eps=1e-6))), "qwen2", 50),
    "qwen2-yarn": (transformers.Qwen2Config(
        hidden_size=40, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, intermediate_size=34, vocab_size=39,
        rope_theta=1000.0, rope_scaling=YARN, **(COMMON | dict(tie_word_embeddings=True))), "qwen2", 60),
    "granite": (transformers.GraniteConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=48, vocab_size=47,
        rope_theta=300.0, **MULTIPLIERS, **(COMMON | dict(tie_word_embeddings=True))), "granite", 45),
    "granitemoe": (transformers.GraniteMoeConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=14, vocab_size=45,
        rope_theta=10000.0, num_local_experts=7, num_experts_per_tok=3, **MULTIPLIERS,
        **(COMMON | dict(tie_word_embeddings=True, rms_norm_eps=1e-6))), "granitemoe", 45),
    "phi3-window": (transformers.Phi3Config(
        hidden_size=30, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=3, intermediate_size=34, vocab_size=43,
        rope_theta=10000.0, sliding_window=19, pad_token_id=0, **COMMON), "phi3", 50),
    "phi3-longrope": (transformers.Phi3Config(
        hidden_size=30, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1, intermediate_size=34, vocab_size=43,
        rope_theta=10000.0, sliding_window=None, pad_token_id=0, original_max_position_embeddings=32, rope_scaling=longrope(), **COMMON),
        "phi3", 50),
    "internlm2": (transformers.LlamaConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2, head_dim=8, intermediate_size=38, vocab_size=43,
        rope_theta=1e6, **COMMON), "internlm2", 40),
}
PERMUTED = {"llama", "granite", "granitemoe", "internlm2"}
# Where RoPE switches, a prompt that is longer than the original context, and one that grows across it.
PROMPTS = {"phi3-longrope": {"": 50, "-growing": 20}}


def rope_kind(config):
    scaling = getattr(config, "rope_scaling", None) or {}
    return scaling.get("rope_type", scaling.get("type", "default"))


def head_dim(config):
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


# ---- The reference


def plain_frequencies(config):
    dims = head_dim(config)
    return config.rope_theta ** (-np.arange(0, dims, 2, dtype=np.float64) / dims)


def llama3_divisors(config):
    """What each plain RoPE frequency is divided by, as files hold it."""
    scaling = config.rope_scaling
    original, factor = scaling["original_max_position_embeddings"], scaling["factor"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = original * plain_frequencies(config) / (2 * np.pi)
    smooth = (turns - low) / (high - low)
    found = np.where(turns > high, 1, np.where(turns < low, factor, 1 / ((1 - smooth) / factor + smooth)))
    assert (found == 1).any() and (found == factor).any() and len(set(found)) > 2, "a case that shows all three ranges"
    return found.astype(np.float32)


def yarn_frequencies(config):
    scaling, dims, base = config.rope_scaling, head_dim(config), config.rope_theta
    plain = plain_frequencies(config)

    def pair(turns):
        return dims * np.log(scaling["original_max_position_embeddings"] / (turns * 2 * np.pi)) / (2 * np.log(base))

    low, high = max(np.floor(pair(scaling["beta_fast"])), 0), min(np.ceil(pair(scaling["beta_slow"])), dims - 1)
    ramp = np.clip((np.arange(dims // 2) - low) / (high - low), 0, 1)
    assert (ramp == 0).any() and (ramp == 1).any() and ((ramp > 0) & (ramp < 1)).any(), "a case that shows all three ranges"
    return plain / scaling["factor"] * ramp + plain * (1 - ramp)


def rope(config):
    """Frequencies of short and of long sequences, and what cosines and sines are multiplied by; in float64."""
    scaling, plain, kind = getattr(config, "rope_scaling", None), plain_frequencies(config), rope_kind(config)
    if kind == "default":
        return plain, plain, 1.0
    if kind == "linear":
        return plain / scaling["factor"], plain / scaling["factor"], 1.0
    if kind == "llama3":
        found = plain / llama3_divisors(config).astype(np.float64)
        return found, found, 1.0
    if kind == "yarn":
        return yarn_frequencies(config), yarn_frequencies(config), float(np.float32(0.1 * np.log(scaling["factor"]) + 1))
    assert kind == "longrope"
    short, long = (np.float32(scaling[name]).astype(np.float64) for name in ("short_factor", "long_factor"))
    original = config.original_max_position_embeddings
    grown = config.max_position_embeddings / original
    return plain / short, plain / long, float(np.float32(np.sqrt(1 + np.log(grown) / np.log(original))))


class Rotary64(torch.nn.Module):
    """The model's RoPE angles in float64; transformers makes them in float32 whatever the model's type."""

    def __init__(self, config, own):
        super().__init__()
        self.short, self.long, self.magnitude = rope(config)
        self.original = getattr(config, "original_max_position_embeddings", None) or config.max_position_embeddings
        # That these are transformers' own, as far as its float32 can tell.
        assert np.allclose(own.inv_freq.double().numpy(), self.short, rtol=1e-5), "frequencies"
        assert abs(own.attention_scaling - self.magnitude) < 1e-6, "magnitude"
        self.scaled = rope_kind(config) == "longrope"

    def forward(self, x, position_ids):
        is_long = self.scaled and position_ids.max() + 1 > self.original
        angles = position_ids[:, :, None].double() * torch.tensor(self.long if is_long else self.short)
        angles = torch.cat([angles, angles], dim=-1)
        return angles.cos() * self.magnitude, angles.sin() * self.magnitude


class Norm64(torch.nn.Module):
    """RMS norm in the type of its input; transformers goes through float32."""

    def __init__(self, norm):
        super().__init__()
        self.weight, self.epsilon = norm.weight, norm.variance_epsilon

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon))


class In64:
    """Within it, what transformers does in float32 on purpose (softmax, routers) stays in float64."""

    def __enter__(self):
        self.kept = torch.nn.functional.softmax, torch.Tensor.float
        softmax = self.kept[0]
        torch.nn.functional.softmax = lambda x, dim=None, dtype=None: softmax(x, dim=dim)
        torch.Tensor.float = lambda x: x

    def __exit__(self, *_):
        torch.nn.functional.softmax, torch.Tensor.float = self.kept


def in_float64(model, config):
    model.double()
    for layer in model.model.layers:
        layer.input_layernorm = Norm64(layer.input_layernorm)
        layer.post_attention_layernorm = Norm64(layer.post_attention_layernorm)
    model.model.norm = Norm64(model.model.norm)
    model.model.rotary_emb = Rotary64(config, model.model.rotary_emb)
    return model


def logits(model, tokens, prompt):
    """After each token, the first `prompt` computed at once."""
    with torch.no_grad(), In64():
        step = model(tokens[:, :prompt], use_cache=True)
        found = [step.logits[0]]
        for position in range(prompt, tokens.shape[1]):
            step = model(tokens[:, position : position + 1], past_key_values=step.past_key_values, use_cache=True)
            found.append(step.logits[0])
    found = torch.cat(found)
    assert found.dtype == torch.float64 and torch.isfinite(found).all()
    return found.numpy()


# ---- The model


def make(name, config):
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
    if name == "llama-biased":
        model.lm_head = torch.nn.Linear(config.hidden_size, config.vocab_size, bias=True)
    generator = torch.Generator().manual_seed(20241101)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in key:
                parameter.copy_(1 + 0.3 * noise)
            elif key.endswith("bias"):
                parameter.copy_(0.5 * noise)
            elif "embed" in key:
                parameter.copy_((0.1 if hasattr(config, "embedding_multiplier") else 0.7) * noise)
            else:
                parameter.copy_(1.3 * noise / parameter.shape[-1] ** 0.5)
    return model


def packed_wqkv(q, k, v, config):
    """InternLM2's: for each key head its queries, then the key, then the value."""
    dims, groups = head_dim(config), config.num_key_value_heads
    parts = [x.reshape(groups, -1, dims, x.shape[-1]) for x in (q, k, v)]
    return torch.cat(parts, dim=1).reshape(-1, q.shape[-1]).contiguous()


def save_internlm2(folder, model, config):
    state, saved = model.state_dict(), {}
    saved["model.tok_embeddings.weight"] = state["model.embed_tokens.weight"]
    saved["model.norm.weight"] = state["model.norm.weight"]
    saved["output.weight"] = state["lm_head.weight"]
    for layer in range(config.num_hidden_layers):
        own, theirs = f"model.layers.{layer}.", f"model.layers.{layer}."
        q, k, v = (state[f"{own}self_attn.{x}_proj.weight"] for x in "qkv")
        saved[theirs + "attention.wqkv.weight"] = packed_wqkv(q, k, v, config)
        saved[theirs + "attention.wo.weight"] = state[own + "self_attn.o_proj.weight"]
        for to, name in (("w1", "gate"), ("w3", "up"), ("w2", "down")):
            saved[f"{theirs}feed_forward.{to}.weight"] = state[f"{own}mlp.{name}_proj.weight"]
        saved[theirs + "attention_norm.weight"] = state[own + "input_layernorm.weight"]
        saved[theirs + "ffn_norm.weight"] = state[own + "post_attention_layernorm.weight"]
    folder.mkdir(parents=True)
    safetensors.torch.save_file({key: value.contiguous().clone() for key, value in saved.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(dict(
        architectures=["InternLM2ForCausalLM"], attn_implementation="eager", bias=False, bos_token_id=1, eos_token_id=2, hidden_act="silu",
        hidden_size=config.hidden_size, initializer_range=0.02, intermediate_size=config.intermediate_size,
        max_position_embeddings=config.max_position_embeddings, model_type="internlm2", num_attention_heads=config.num_attention_heads,
        num_hidden_layers=config.num_hidden_layers, num_key_value_heads=config.num_key_value_heads, head_dim=config.head_dim,
        rms_norm_eps=config.rms_norm_eps, rope_scaling=dict(type="dynamic", factor=2.0), rope_theta=config.rope_theta,
        tie_word_embeddings=False, torch_dtype="float32", use_cache=True, vocab_size=config.vocab_size), indent=2) + "\n")


def save(folder, model, config, architecture):
    if architecture == "internlm2":
        return save_internlm2(folder, model, config)
    model.save_pretrained(folder, safe_serialization=True)
    (folder / "generation_config.json").unlink(missing_ok=True)


# ---- GGUF


def permuted(weights, heads):
    """Halves of each head's rows, interleaved: what converters do for families that turn adjacent pairs."""
    return weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


def layer_tensors(own, state, config, architecture):
    """The tensors of one layer under GGUF's names, from those below `own` in the model's state."""
    def take(name):
        return state[own + name].numpy() if own + name in state else None

    def turned(name, heads):
        data = take(name)
        return permuted(data, heads) if data is not None and architecture in PERMUTED else data

    yield "attn_norm.weight", take("input_layernorm.weight")
    yield "ffn_norm.weight", take("post_attention_layernorm.weight")
    for kind in ("weight", "bias"):
        yield f"attn_q.{kind}", turned(f"self_attn.q_proj.{kind}", config.num_attention_heads)
        yield f"attn_k.{kind}", turned(f"self_attn.k_proj.{kind}", config.num_key_value_heads)
        yield f"attn_v.{kind}", take(f"self_attn.v_proj.{kind}")
        yield f"attn_output.{kind}", take(f"self_attn.o_proj.{kind}")
    yield "attn_qkv.weight", take("self_attn.qkv_proj.weight")
    for to, name in (("gate", "gate_proj"), ("up", "up_proj"), ("down", "down_proj"), ("up", "gate_up_proj")):
        yield f"ffn_{to}.weight", take(f"mlp.{name}.weight")
    moe = "block_sparse_moe."
    if config.model_type == "mixtral":
        yield "ffn_gate_inp.weight", take(moe + "gate.weight")
        for to, name in (("gate", "w1"), ("up", "w3"), ("down", "w2")):
            yield f"ffn_{to}_exps.weight", np.stack([take(f"{moe}experts.{e}.{name}.weight") for e in range(config.num_local_experts)])
    if config.model_type == "granitemoe":
        yield "ffn_gate_inp.weight", take(moe + "router.layer.weight")
        inner = take(moe + "input_linear.weight")
        yield "ffn_gate_exps.weight", inner[:, : config.intermediate_size]
        yield "ffn_up_exps.weight", inner[:, config.intermediate_size :]
        yield "ffn_down_exps.weight", take(moe + "output_linear.weight")


def tensors(model, config, architecture):
    state = model.state_dict()
    yield "token_embd.weight", state["model.embed_tokens.weight"].numpy()
    yield "output_norm.weight", state["model.norm.weight"].numpy()
    if not config.tie_word_embeddings:
        yield "output.weight", state["lm_head.weight"].numpy()
    if "lm_head.bias" in state:
        yield "output.bias", state["lm_head.bias"].numpy()
    if rope_kind(config) == "llama3":
        yield "rope_freqs.weight", llama3_divisors(config)
    if rope_kind(config) == "longrope":
        yield "rope_factors_short.weight", np.float32(config.rope_scaling["short_factor"])
        yield "rope_factors_long.weight", np.float32(config.rope_scaling["long_factor"])
    for layer in range(config.num_hidden_layers):
        for name, data in layer_tensors(f"model.layers.{layer}.", state, config, architecture):
            if data is not None:
                yield f"blk.{layer}.{name}", data


def add_switches(writer, config, architecture):
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
    if getattr(config, "num_local_experts", None):
        writer.add_expert_count(config.num_local_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
    if architecture.startswith("granite"):
        writer.add_attention_scale(config.attention_multiplier)
        writer.add_embedding_scale(config.embedding_multiplier)
        writer.add_residual_scale(config.residual_multiplier)
        writer.add_logit_scale(config.logits_scaling)
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        writer.add_sliding_window(config.sliding_window)
        layers = getattr(config, "layer_types", None)
        if layers and len(set(layers)) > 1:
            writer.add_array(f"{architecture}.attention.sliding_window_pattern", [kind == "sliding_attention" for kind in layers])
    scaling, kind = getattr(config, "rope_scaling", None), rope_kind(config)
    if kind in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
        writer.add_rope_scaling_factor(scaling["factor"])
    if kind == "yarn":
        writer.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
        writer.add_float32(f"{architecture}.rope.scaling.yarn_beta_fast", scaling["beta_fast"])
        writer.add_float32(f"{architecture}.rope.scaling.yarn_beta_slow", scaling["beta_slow"])
    if kind == "longrope":
        writer.add_rope_scaling_orig_ctx_len(config.original_max_position_embeddings)
        writer.add_rope_scaling_attn_factors(rope(config)[2])


def write_gguf(path, model, config, architecture):
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(path.stem)
    add_switches(writer, config, architecture)
    for name, data in tensors(model, config, architecture):
        writer.add_tensor(name, np.ascontiguousarray(data, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_golden(path, tokens, prompt, found):
    with open(path, "wb") as file:
        file.write(np.array([tokens.shape[1], prompt] + tokens[0].tolist(), dtype="<i4").tobytes())
        file.write(found.astype("<f8").tobytes())


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, (config, architecture, positions) in CASES.items():
        model = make(name, config)
        write_gguf(folder / f"{name}.gguf", model, config, architecture)
        save(folder / name, model, config, architecture)
        model = in_float64(model, config)
        tokens = torch.tensor([[(i * i * 5 + i * 7 + 3) % config.vocab_size for i in range(positions)]])
        if name in PROMPTS:
            for suffix, prompt in PROMPTS[name].items():
                write_golden(folder / f"{name}{suffix}.golden", tokens, prompt, logits(model, tokens, prompt))
        else:
            found, stepped = logits(model, tokens, positions), logits(model, tokens, 9)
            assert np.abs(found - stepped).max() < 1e-11 * np.abs(found).max(), "one by one as at once"
            write_golden(folder / f"{name}.golden", tokens, 0, found)
        print(f"{name}: {sum(p.numel() for p in model.parameters())} parameters")


if __name__ == "__main__":
    main()
