"""Makes a model of the Llama family wider without changing what it computes, so that every matrix has columns in multiples of 256 and
can be a K-quant.

Hidden width and heads are filled up with zeros. The mean of squares of an RMS norm is then taken over more elements, by a factor
r = old / new width: norm weights times sqrt(r) and epsilon times r give the same rows. Heads that were added read and write
nothing. In exact arithmetic the logits are those of the old model; blocks of nothing but zeros quantise to zeros.
"""

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter

BLOCK = 256


def plan(hidden, heads, kv_heads):
    """The smallest (heads, kv heads) of the same grouping whose width is whole blocks, the head's size being kept."""
    size, group = hidden // heads, heads // kv_heads
    count = kv_heads
    while count * group * size % BLOCK:
        count += 1
    return count * group, count


def widen(source, target):
    """`source`: a GGUF file with F32 weights and no key_length of its own."""
    reader = GGUFReader(source)
    field = lambda name: reader.get_field(name).contents()
    hidden, heads, kv_heads = (field(f"llama.{name}") for name in ("embedding_length", "attention.head_count", "attention.head_count_kv"))
    size = hidden // heads
    wide_heads, wide_kv = plan(hidden, heads, kv_heads)
    wide = wide_heads * size
    ratio = hidden / wide
    changed = {
        "llama.embedding_length": wide,
        "llama.attention.head_count": wide_heads,
        "llama.attention.head_count_kv": wide_kv,
        "llama.attention.layer_norm_rms_epsilon": field("llama.attention.layer_norm_rms_epsilon") * ratio,
    }
    writer = GGUFWriter(target, "llama")
    for name, one in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        kind, inner = one.types[0], one.types[-1] if one.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, changed.get(name, one.contents()), kind, inner)
    for tensor in reader.tensors:
        data = np.array(tensor.data, dtype=np.float32)
        writer.add_tensor(tensor.name, widened(tensor.name, data, wide, wide_kv * size, ratio))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def widened(name, data, wide, wide_kv, ratio):
    kind = name.split(".")[-2]
    if kind.endswith("_norm"):
        return padded(data * np.float32(np.sqrt(ratio)), (wide,))
    shapes = {
        "token_embd": (None, wide), "output": (None, wide), "attn_q": (wide, wide), "attn_k": (wide_kv, wide), "attn_v": (wide_kv, wide),
        "attn_output": (wide, wide), "ffn_gate": (None, wide), "ffn_up": (None, wide), "ffn_down": (wide, None),
    }
    return padded(data, tuple(want or have for want, have in zip(shapes[kind], data.shape)))


def padded(data, shape):
    out = np.zeros(shape, np.float32)
    out[tuple(slice(length) for length in data.shape)] = data
    return out
