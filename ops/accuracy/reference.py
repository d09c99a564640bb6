"""The decoder of a GGUF file of the Llama family in float64 (or another type), written from the model's equations with numpy alone.

    h = E[token]
    for each layer:
        h += Wo attention(rope(Wq n(h)), rope(Wk n(h)), Wv n(h))
        h += Wdown (silu(Wgate n(h)) * (Wup n(h)))
    logits = Whead n(h)

with n(x) = x / sqrt(mean(x^2) + epsilon) * weight. GGUF files of this family hold the rows of Wq and Wk so that RoPE
turns elements 2i and 2i + 1 of each head.
"""

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize


class Model:
    def __init__(self, path, dtype=np.float64):
        self.dtype = dtype
        reader = GGUFReader(path)
        architecture = self._field(reader, "general.architecture")
        if architecture != "llama":
            raise SystemExit(f"{path}: the architecture is {architecture}; this reference knows llama only.")
        self.tensors = {tensor.name: tensor for tensor in reader.tensors}
        if "rope_freqs.weight" in self.tensors or self._field(reader, "llama.rope.scaling.type") not in (None, "none"):
            raise SystemExit(f"{path}: scaled RoPE is not part of this reference.")
        self.layers = self._field(reader, "llama.block_count")
        self.heads = self._field(reader, "llama.attention.head_count")
        self.kv_heads = self._field(reader, "llama.attention.head_count_kv") or self.heads
        self.epsilon = dtype(self._field(reader, "llama.attention.layer_norm_rms_epsilon"))
        self.base = self._field(reader, "llama.rope.freq_base") or 10000.0
        self.embedding = self._matrix("token_embd.weight")
        self.head = self._matrix("output.weight") if "output.weight" in self.tensors else self.embedding
        self.vocabulary, self.hidden = self.embedding.shape
        self.head_dim = self._field(reader, "llama.attention.key_length") or self.hidden // self.heads

    @staticmethod
    def _field(reader, name):
        field = reader.get_field(name)
        return None if field is None else field.contents()

    def _matrix(self, name):
        tensor = self.tensors[name]
        return dequantize(tensor.data, tensor.tensor_type).astype(self.dtype)

    def logits(self, tokens, progress=lambda layer, layers: None):
        """[len(tokens), vocabulary] of one sequence that starts at position 0."""
        h = self.embedding[tokens]
        for layer in range(self.layers):
            h = self._layer(layer, h)
            progress(layer + 1, self.layers)
        return self._norm(h, "output_norm.weight") @ self.head.T

    def _layer(self, layer, h):
        name = f"blk.{layer}."
        x = self._norm(h, name + "attn_norm.weight")
        n = len(h)
        q = self._rope((x @ self._matrix(name + "attn_q.weight").T).reshape(n, self.heads, self.head_dim))
        k = self._rope((x @ self._matrix(name + "attn_k.weight").T).reshape(n, self.kv_heads, self.head_dim))
        v = (x @ self._matrix(name + "attn_v.weight").T).reshape(n, self.kv_heads, self.head_dim)
        h = h + self._attention(q, k, v).reshape(n, -1) @ self._matrix(name + "attn_output.weight").T
        x = self._norm(h, name + "ffn_norm.weight")
        gate = x @ self._matrix(name + "ffn_gate.weight").T
        up = x @ self._matrix(name + "ffn_up.weight").T
        return h + (gate / (1 + np.exp(-gate)) * up) @ self._matrix(name + "ffn_down.weight").T

    def _norm(self, x, name):
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.epsilon) * self._matrix(name)

    def _rope(self, x):
        pairs = np.arange(self.head_dim // 2, dtype=np.float64)
        angles = np.arange(len(x), dtype=np.float64)[:, None] * self.base ** (-2 * pairs / self.head_dim)
        cos, sin = (f(angles)[:, None, :].astype(self.dtype) for f in (np.cos, np.sin))
        a, b = x[..., 0::2], x[..., 1::2]
        turned = np.empty_like(x)
        turned[..., 0::2] = a * cos - b * sin
        turned[..., 1::2] = b * cos + a * sin
        return turned

    def _attention(self, q, k, v):
        n, heads, _ = q.shape
        out = np.empty_like(q)
        hidden_future = np.triu(np.full((n, n), -np.inf, dtype=self.dtype), 1)
        for head in range(heads):
            group = head // (heads // self.kv_heads)
            scores = q[:, head] @ k[:, group].T / self.dtype(np.sqrt(self.head_dim)) + hidden_future
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            out[:, head] = weights / weights.sum(axis=1, keepdims=True) @ v[:, group]
        return out
