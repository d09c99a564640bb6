#!/usr/bin/env python3
"""Makes a Hugging Face folder of a GGUF file: its weights widened to F32, F16 or BF16 as safetensors, its vocabulary as tokenizer.json.

Requirements: pip install gguf==0.19.0 safetensors==0.8.0 numpy tokenizers==0.23.3
Usage:        ops/golden/make-hf-folder.py MODEL.gguf FOLDER [--dtype F32|F16|BF16] [--shard-mib 0]

For the families llama, qwen2 and granite with byte-level vocabularies: enough to run a real model from both kinds of files. The rows of queries
and keys, which GGUF files of llama and granite have in pairs, are put back as transformers has them.
"""

import argparse
import json
import pathlib
import struct

import gguf
import numpy
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

LAYER = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}
OUTER = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight", "output.weight": "lm_head.weight"}
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def hub_name(name):
    if name in OUTER:
        return OUTER[name]
    _, layer, kind, part = name.split(".")
    return f"model.layers.{layer}.{LAYER[kind]}.{part}"


def unpaired(rows, heads):
    """From adjacent pairs to halves of a head."""
    shape = rows.shape
    return rows.reshape(heads, shape[0] // heads // 2, 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def write_safetensors(path, tensors):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, dtype, shape, data in tensors:
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for *_, data in tensors:
            file.write(data)


def narrowed(values, dtype):
    if dtype == "F32":
        return values.astype("<f4").tobytes()
    if dtype == "F16":
        return values.astype("<f2").tobytes()
    bits = values.astype("<f4").view("<u4")
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()


def tokenizer(data):
    level, digits = pre_tokenizers.ByteLevel, pre_tokenizers.Digits(individual_digits=True)
    cut = {
        "smollm": lambda: pre_tokenizers.Sequence([digits, level(add_prefix_space=False)]), "gpt-2": lambda: level(add_prefix_space=False),
        "qwen2": lambda: words(""), "llama-bpe": lambda: words("{1,3}"),
    }
    words = lambda digits: pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(WORDS % digits), behavior="isolated"), level(add_prefix_space=False, use_regex=False)])
    vocabulary = {token: index for index, token in enumerate(data["tokens"])}
    merges = [tuple(merge.split(" ", 1)) for merge in data["merges"]]
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=data["pre"] == "llama-bpe"))
    made.pre_tokenizer, made.decoder = cut[data["pre"]](), decoders.ByteLevel()
    made.add_special_tokens([AddedToken(t, normalized=False, special=True) for t, kind in zip(data["tokens"], data["token_type"]) if kind == gguf.TokenType.CONTROL])
    return made


def config(reader, architecture):
    value = lambda key, default=None: field.contents() if (field := reader.fields.get(f"{architecture}.{key}")) else default
    hidden, heads = value("embedding_length"), value("attention.head_count")
    names = {tensor.name for tensor in reader.tensors}
    made = {
        "model_type": architecture, "architectures": [{"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "granite": "GraniteForCausalLM"}[architecture]],
        "hidden_size": hidden, "num_hidden_layers": value("block_count"), "num_attention_heads": heads, "num_key_value_heads": value("attention.head_count_kv", heads),
        "head_dim": value("attention.key_length", hidden // heads), "intermediate_size": value("feed_forward_length"), "hidden_act": "silu",
        "rms_norm_eps": value("attention.layer_norm_rms_epsilon"), "rope_theta": value("rope.freq_base", 10000.0), "max_position_embeddings": value("context_length"),
        "tie_word_embeddings": "output.weight" not in names, "attention_bias": False,
    }
    scales = {"attention_multiplier": "attention.scale", "embedding_multiplier": "embedding_scale", "residual_multiplier": "residual_scale", "logits_scaling": "logit_scale"}
    made |= {name: value(key) for name, key in scales.items() if value(key) is not None}
    if architecture == "qwen2":
        del made["attention_bias"]
    return made


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--dtype", choices=["F32", "F16", "BF16"], default="F32")
    parser.add_argument("--shard-mib", type=int, default=0)
    options = parser.parse_args()
    reader = gguf.GGUFReader(options.model)
    architecture = reader.fields["general.architecture"].contents()
    data = {key.removeprefix("tokenizer.ggml."): field.contents() for key, field in reader.fields.items() if key.startswith("tokenizer.")}
    made = config(reader, architecture)
    options.folder.mkdir(parents=True, exist_ok=True)

    tensors = []
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        heads = {"attn_q": made["num_attention_heads"], "attn_k": made["num_key_value_heads"]}.get(tensor.name.split(".")[-2])
        if heads and architecture != "qwen2":
            values = unpaired(values, heads)
        made["vocab_size"] = len(values) if tensor.name == "token_embd.weight" else made.get("vocab_size")
        tensors.append((hub_name(tensor.name), options.dtype, values.shape, narrowed(values, options.dtype)))
    shards, limit = [[]], (options.shard_mib << 20) or float("inf")
    for tensor in tensors:
        if shards[-1] and sum(len(t[3]) for t in shards[-1]) + len(tensor[3]) > limit:
            shards.append([])
        shards[-1].append(tensor)
    if len(shards) == 1:
        write_safetensors(options.folder / "model.safetensors", tensors)
    else:
        names = [f"model-{number + 1:05}-of-{len(shards):05}.safetensors" for number in range(len(shards))]
        for name, shard in zip(names, shards):
            write_safetensors(options.folder / name, shard)
        index = {"metadata": {"total_size": sum(len(t[3]) for t in tensors)}, "weight_map": {t[0]: name for name, shard in zip(names, shards) for t in shard}}
        (options.folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")

    texts = {
        "config.json": made | {"torch_dtype": {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[options.dtype], "eos_token_id": data["eos_token_id"]},
        "tokenizer_config.json": {
            "add_bos_token": data.get("add_bos_token", False), "bos_token": data["tokens"][data["bos_token_id"]], "eos_token": data["tokens"][data["eos_token_id"]],
            "tokenizer_class": "PreTrainedTokenizerFast"},
        "generation_config.json": {"bos_token_id": data["bos_token_id"], "eos_token_id": data["eos_token_id"]},
    }
    for name, value in texts.items():
        (options.folder / name).write_text(json.dumps(value, indent=2) + "\n")
    tokenizer(data).save(str(options.folder / "tokenizer.json"))
    if "tokenizer.chat_template" in data:
        (options.folder / "chat_template.jinja").write_text(data["tokenizer.chat_template"], encoding="utf-8")
    print(f"{options.folder}: {len(tensors)} tensors in {len(shards)} file{'s' if len(shards) > 1 else ''}")


if __name__ == "__main__":
    main()
