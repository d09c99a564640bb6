"""llama.cpp, as quantisers_measure.py needs it: its quantiser, and its logits of a text by which perplexities are compared."""

import ctypes
import os

import llama_cpp
import numpy as np

# Name -> the number by which llama.cpp's quantiser knows the mix.
MIXES = {
    "q8_0": 7, "q6_k": 18, "q5_k_m": 17, "q5_k_s": 16, "q5_1": 9, "q5_0": 8, "q4_k_m": 15, "q4_k_s": 14, "q4_1": 3, "q4_0": 2, "iq4_nl": 25,
    "iq4_xs": 30, "q3_k_l": 13, "q3_k_m": 12, "q3_k_s": 11, "q2_k": 10,
}
version = llama_cpp.__version__

# Kept, since llama.cpp goes on calling it: it writes a line for each tensor otherwise.
_silence = llama_cpp.llama_log_callback(lambda level, text, data: None)
llama_cpp.llama_log_set(_silence, ctypes.c_void_p(0))


def quantise(source, target, name, importance=None):
    """Writes `source` as the mix `name`. `importance`: tensor -> float32 means of squares."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = MIXES[name], os.cpu_count()
    if importance is not None:
        # The list ends with an entry without a name.
        entries = (llama_cpp.llama_model_imatrix_data * (len(importance) + 1))()
        for entry, (tensor, values) in zip(entries, importance.items()):
            entry.name, entry.size = tensor.encode(), values.size
            entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        params.imatrix = entries
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params)):
        raise SystemExit(f"llama.cpp could not quantise {source} to {name}")


def losses(path, text, context, chunks):
    """-log p of the tokens that count in the perplexity of the first `chunks` chunks of `text` (a path), by llama.cpp's definition."""
    with open(text, "rb") as file:
        content = file.read().removesuffix(b"\n")
    llama = llama_cpp.Llama(str(path), n_ctx=context, n_batch=context, logits_all=True, verbose=False)
    tokens = llama.tokenize(content, add_bos=True, special=False)
    begins = llama.tokenize(b"", add_bos=True, special=False)[:1] == [llama.token_bos()]
    found = []
    for start in range(0, chunks * context, context):
        chunk = tokens[start : start + context]
        if begins:
            chunk[0] = llama.token_bos()
        llama.reset()
        llama.eval(chunk)
        logits = np.array(llama.scores[context // 2 : context - 1], dtype=np.float64)
        top = logits.max(axis=1)
        sums = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top
        found.append(sums - logits[np.arange(len(logits)), chunk[context // 2 + 1 :]])
    llama.close()
    return np.concatenate(found)
