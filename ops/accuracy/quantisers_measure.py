"""Perplexity after quantising, ours beside llama.cpp's. Started by `quantisers`.

MODEL is widened to F32 and quantised to each mix by `staffel quantize` and by llama.cpp's own quantiser under the same name. `staffel
perplexity` measures both files on the same text, token by token, with the same kernels, so that only the quantisers differ:

    bits         per weight of the file
    perplexity   of the text
    difference   mean over tokens of (our loss - llama.cpp's), in nats, and its standard error

A mix passes where the mean difference is at most two standard errors above zero and our file is no larger than llama.cpp's by more than 1 %.
Each of our files is also opened by llama.cpp, and read by the Python package gguf, which must find every tensor in its type and shape.

First `staffel perplexity` itself is held to llama.cpp: over the first chunks of MODEL as it is, the perplexity of llama.cpp's logits by the same
definition may differ by 1 % (both compute with 8-bit activations, each in its own order).

For mixes of K formats the model is filled up with zeros to columns in multiples of 256 (types_widen.py), which changes nothing that it
computes; otherwise most of a small model would silently be measured in other formats.
"""

import argparse
import ctypes
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

from types_widen import widen

# Name -> the number by which llama.cpp's quantiser knows the mix.
MIXES = {
    "q8_0": 7, "q6_k": 18, "q5_k_m": 17, "q5_k_s": 16, "q5_1": 9, "q5_0": 8, "q4_k_m": 15, "q4_k_s": 14, "q4_1": 3, "q4_0": 2, "iq4_nl": 25,
    "iq4_xs": 30, "q3_k_l": 13, "q3_k_m": 12, "q3_k_s": 11, "q2_k": 10,
}
PLAIN = {"q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"}
SIZE_SHARE_MAX, PERPLEXITY_SHARE_MAX = 1.01, 0.01


class Workplace:
    def __init__(self, arguments):
        self.arguments = arguments
        self.folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "staffel" / "accuracy-quantisers"
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(arguments.model, "rb") as file:
            self.model = hashlib.file_digest(file, "sha256").hexdigest()[:16]

    def run(self, *words):
        done = subprocess.run([self.arguments.staffel, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"staffel {' '.join(map(str, words))} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def floats(self, wide):
        plain = self.folder / f"{self.model}-f32.gguf"
        if not plain.exists():
            self.run("quantize", self.arguments.model, plain, "f32")
        if not wide:
            return plain
        target = self.folder / f"{self.model}-f32-wide.gguf"
        if not target.exists():
            widen(plain, str(target) + ".new")
            os.rename(str(target) + ".new", target)
        return target

    def peer(self, source, name):
        import llama_cpp

        target = self.folder / f"{source.stem}-{name}-llama.cpp.gguf"
        if not target.exists():
            params = llama_cpp.llama_model_quantize_default_params()
            params.ftype, params.nthread = MIXES[name], os.cpu_count()
            quiet(lambda: llama_cpp.llama_model_quantize(str(source).encode(), (str(target) + ".new").encode(), ctypes.byref(params)))
            os.rename(str(target) + ".new", target)
        return target

    def ours(self, source, name, *flags):
        target = self.folder / f"{source.stem}-{name}{'-imatrix' if flags else ''}-staffel.gguf"
        self.run("quantize", source, target, name, *flags)
        return target

    def imatrix(self, source):
        target = self.folder / f"{source.stem}-imatrix.gguf"
        self.run("imatrix", source, self.arguments.imatrix_text, "--output", target, "--chunks", self.arguments.imatrix_chunks, "--cache-limit", 0)
        return target

    def losses(self, path):
        with tempfile.TemporaryDirectory() as folder:
            target = os.path.join(folder, "losses")
            words = ["--losses", target, "--json", "--cache-limit", 0, "--context", self.arguments.context]
            if self.arguments.chunks:
                words += ["--chunks", self.arguments.chunks]
            told = json.loads(self.run("perplexity", path, self.arguments.text, *words))
            with open(target) as file:
                losses = np.array([float(line) for line in file])
        assert abs(np.exp(losses.mean()) - told["perplexity"]) <= 1e-9 * told["perplexity"]
        return losses


def quiet(body):
    """llama.cpp writes a line for each tensor."""
    import llama_cpp

    # Kept, since llama.cpp goes on calling it.
    quiet.callback = quiet.callback or llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet.callback, ctypes.c_void_p(0))
    status = body()
    if isinstance(status, int) and status:
        sys.exit("llama.cpp could not quantise the model")
    return status


quiet.callback = None


def check_definition(place, chunks=4):
    """`staffel perplexity` beside llama.cpp's logits over the same chunks, by llama.cpp's definition."""
    from llama_cpp import Llama

    context = place.arguments.context
    told = json.loads(place.run("perplexity", place.arguments.model, place.arguments.text, "--chunks", chunks, "--context", context, "--json"))
    with open(place.arguments.text, "rb") as file:
        text = file.read().removesuffix(b"\n")
    llama = quiet(lambda: Llama(place.arguments.model, n_ctx=context, n_batch=context, logits_all=True, verbose=False))
    tokens = llama.tokenize(text, add_bos=True, special=False)
    begins = tokens[0] == llama.token_bos() and llama.tokenize(b"", add_bos=True, special=False)[:1] == [llama.token_bos()]
    losses = []
    for start in range(0, chunks * context, context):
        chunk = tokens[start : start + context]
        if begins:
            chunk[0] = llama.token_bos()
        llama.reset()
        llama.eval(chunk)
        logits = np.array(llama.scores[context // 2 : context - 1], dtype=np.float64)
        top = logits.max(axis=1)
        sums = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top
        losses += list(sums - logits[np.arange(len(logits)), chunk[context // 2 + 1 :]])
    peer = float(np.exp(np.mean(losses)))
    same = len(losses) == told["tokens"] and abs(told["perplexity"] / peer - 1) <= PERPLEXITY_SHARE_MAX
    print(f"{told['tokens']} tokens of the file as it is: staffel perplexity {told['perplexity']:.4f}, llama.cpp's logits {peer:.4f}: {'pass' if same else 'FAIL'}", flush=True)
    return [] if same else ["definition"]


def read_elsewhere(path, source):
    """The gguf package finds the tensors of `source` in the file, and llama.cpp opens it."""
    from gguf import GGUFReader
    from llama_cpp import Llama

    shapes = lambda reader: {tensor.name: tuple(map(int, tensor.shape)) for tensor in reader.tensors}
    if shapes(GGUFReader(path)) != shapes(GGUFReader(source)):
        return False
    llama = quiet(lambda: Llama(str(path), n_ctx=32, verbose=False))
    return len(llama.create_completion("The", max_tokens=2, temperature=0)["choices"]) == 1


def bits(path):
    from gguf import GGUFReader

    tensors = GGUFReader(path).tensors
    return 8 * sum(int(tensor.n_bytes) for tensor in tensors) / sum(int(tensor.n_elements) for tensor in tensors)


def measure(place, name, floats):
    source = place.floats(name not in PLAIN)
    ours, theirs = place.ours(source, name), place.peer(source, name)
    (a, b), sizes = (place.losses(ours), place.losses(theirs)), (bits(ours), bits(theirs))
    difference = a - b
    mean, error = float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))
    loads = read_elsewhere(ours, source)
    passes = mean <= 2 * error and sizes[0] <= SIZE_SHARE_MAX * sizes[1] and loads
    share = lambda losses: f"{np.exp(losses.mean()):9.4f} ({100 * (np.exp(losses.mean() - floats.mean()) - 1):+7.3f} %)"
    line = f"{name:<8}  |  {sizes[0]:5.2f}  {share(a)}  |  {sizes[1]:5.2f}  {share(b)}  |  {mean:+9.1e} +-{error:8.1e}"
    if place.arguments.imatrix:
        weighed = place.ours(source, name, "--imatrix", place.imatrix(source))
        line += f"  |  {bits(weighed):5.2f}  {share(place.losses(weighed))}"
    print(line + f"  {'pass' if passes else 'FAIL'}" + ("" if loads else " (not read elsewhere)"), flush=True)
    return passes


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a GGUF file of the Llama family")
    parser.add_argument("--staffel", required=True, help="the staffel executable (quantisers builds it)")
    parser.add_argument("--types", default=",".join(MIXES), help="mixes, separated by commas")
    parser.add_argument("--text", default=str(here / "texts" / "news-from-nowhere.txt"))
    parser.add_argument("--context", type=int, default=512, help="tokens of a chunk")
    parser.add_argument("--chunks", type=int, help="so many at most")
    parser.add_argument("--imatrix", action="store_true", help="ours with an importance matrix as well")
    parser.add_argument("--imatrix-text", default=str(here / "texts" / "alice.txt"), help="another text than --text")
    parser.add_argument("--imatrix-chunks", type=int, default=100)
    arguments = parser.parse_args()
    names = arguments.types.lower().split(",")
    for name in names:
        if name not in MIXES:
            parser.error(f"--types holds '{name}'; known are {', '.join(MIXES)}")

    place = Workplace(arguments)
    wrong = check_definition(place)
    floats = place.losses(place.floats(False))
    print(f"{len(floats)} tokens; F32 perplexity {np.exp(floats.mean()):.4f}; pass: mean difference <= 2 standard errors, size <= 101 %")
    print(f"{'':<8}  |  {'staffel quantize: bits, perplexity':<29}  |  {'llama.cpp':<29}  |  difference of losses", flush=True)
    for name in names:
        start = time.monotonic()
        wrong += [] if measure(place, name, floats) else [name]
        print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    print("all pass" if not wrong else f"FAIL: {', '.join(wrong)}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
