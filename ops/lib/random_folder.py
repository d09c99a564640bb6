#!/usr/bin/env python3
"""A Hugging Face folder of random BF16 weights, small enough to be made in a second, in the shape of a family with experts or without.

    ops/lib/random_folder.py granitemoe|mixtral|llama FOLDER [--shards N]

Its tokenizer knows bytes only, its text means nothing; the same name gives the same bytes. Needs nothing but python3.
"""

import json
import math
import pathlib
import random
import struct
import sys

VOCABULARY = 260  # 256 bytes, <s>, </s>, and rows that no token has
SHARED = {
    "hidden_act": "silu", "hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 4096, "rope_theta": 10000.0, "vocab_size": VOCABULARY, "bos_token_id": 256, "eos_token_id": 257,
    "torch_dtype": "bfloat16", "use_cache": True,
}
CONFIGS = {
    "granitemoe": SHARED | {
        "architectures": ["GraniteMoeForCausalLM"], "model_type": "granitemoe", "intermediate_size": 64, "num_local_experts": 32,
        "num_experts_per_tok": 8, "rms_norm_eps": 1e-6, "tie_word_embeddings": True, "embedding_multiplier": 12.0,
        "residual_multiplier": 0.22, "attention_multiplier": 0.015625, "logits_scaling": 6.0,
    },
    "mixtral": SHARED | {
        "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "intermediate_size": 256, "num_local_experts": 8,
        "num_experts_per_tok": 2, "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "sliding_window": None,
    },
    "llama": SHARED | {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "intermediate_size": 1024, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
    },
}
# A chat layout that all templates' readers know.
TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"


def shapes(config):
    """Name, shape, and the binary exponent of the values' magnitude; 0: a norm, of values from 1 to 2."""
    hidden, inner, experts, rows = (config.get(k) for k in ("hidden_size", "intermediate_size", "num_local_experts", "vocab_size"))
    keys = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    yield "model.embed_tokens.weight", (rows, hidden), -3
    yield "model.norm.weight", (hidden,), 0
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (rows, hidden), -3
    for layer in range(config["num_hidden_layers"]):
        own = f"model.layers.{layer}."
        yield own + "input_layernorm.weight", (hidden,), 0
        yield own + "post_attention_layernorm.weight", (hidden,), 0
        for name, width in (("q", hidden), ("k", keys), ("v", keys), ("o", hidden)):
            yield f"{own}self_attn.{name}_proj.weight", (width, hidden), -5
        if experts is None:
            for name, shape in (("gate", (inner, hidden)), ("up", (inner, hidden)), ("down", (hidden, inner))):
                yield f"{own}mlp.{name}_proj.weight", shape, -5
            continue
        moe = own + "block_sparse_moe."
        if config["model_type"] == "granitemoe":
            yield moe + "router.layer.weight", (experts, hidden), -5
            yield moe + "input_linear.weight", (experts, 2 * inner, hidden), -5
            yield moe + "output_linear.weight", (experts, hidden, inner), -4
            continue
        yield moe + "gate.weight", (experts, hidden), -5
        for expert in range(experts):
            for name, shape in (("w1", (inner, hidden)), ("w2", (hidden, inner)), ("w3", (inner, hidden))):
                yield f"{moe}experts.{expert}.{name}.weight", shape, -5


def values(numbers, count, exponent):
    """BF16 of random sign and mantissa; norms are positive."""
    kept = 0x007F if exponent == 0 else 0x807F
    bits = int.from_bytes(numbers.randbytes(2 * count), "little") & int.from_bytes(struct.pack("<H", kept) * count, "little")
    return (bits | int.from_bytes(struct.pack("<H", (127 + exponent) << 7) * count, "little")).to_bytes(2 * count, "little")


def byte_letters():
    """The letters that byte-level tokenizers write for bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


def tokenizer():
    tokens = byte_letters() + ["<s>", "</s>"]
    special = [
        {"id": index, "content": tokens[index], "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for index in (256, 257)
    ]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
        "byte_fallback": False, "ignore_merges": False, "vocab": {token: index for index, token in enumerate(tokens)}, "merges": [],
    }
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None, "pre_tokenizer": level,
        "post_processor": None, "decoder": level, "model": model,
    }


def safetensors(entries):
    """One file's bytes; `entries`: name, shape and bytes of each tensor."""
    header, offset = {}, 0
    for name, shape, data in entries:
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    return b"".join([struct.pack("<Q", len(head)), head, *(data for _, _, data in entries)])


def main():
    name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    count = int(sys.argv[4]) if sys.argv[3:4] == ["--shards"] else 1
    config, numbers = CONFIGS[name], random.Random(name)
    entries = [(tensor, shape, values(numbers, math.prod(shape), exponent)) for tensor, shape, exponent in shapes(config)]
    folder.mkdir(parents=True, exist_ok=True)
    if count == 1:
        (folder / "model.safetensors").write_bytes(safetensors(entries))
    else:
        files = [f"model-{number + 1:05}-of-{count:05}.safetensors" for number in range(count)]
        # Side by side, as publishers cut them, so that a layer may lie in two.
        shares = [entries[len(entries) * number // count:len(entries) * (number + 1) // count] for number in range(count)]
        for file, share in zip(files, shares):
            (folder / file).write_bytes(safetensors(share))
        places = {tensor: file for file, share in zip(files, shares) for tensor, _, _ in share}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}, indent=1) + "\n")
    for file, content in (
        ("config.json", config), ("tokenizer.json", tokenizer()),
        ("tokenizer_config.json", {
            "bos_token": "<s>", "eos_token": "</s>", "add_bos_token": False, "tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE}),
        ("generation_config.json", {"eos_token_id": 257, "temperature": 0.7, "top_k": 40}),
    ):
        (folder / file).write_text(json.dumps(content, indent=1) + "\n")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\nRandom weights.\n")


if __name__ == "__main__":
    main()
