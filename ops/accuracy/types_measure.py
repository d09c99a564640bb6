"""The engine's accuracy for each tensor format beside llama.cpp's. Started by `types`.

MODEL is widened to F32 and quantised to each format by `lab quantise`. For each file, over English prose cut into windows, the next-token
distributions of the engine and of llama.cpp are compared with a float64 evaluation of *that file's* weights:

    top-1        share of positions at which engine and float64 find the same token likeliest
    mean KL      mean of KL(float64 || engine) in nats
    perplexity   of the text's own next tokens, as a change against float64
    difference   mean over positions of (our KL - llama.cpp's KL), and its standard error

A format passes where our mean KL is no more than llama.cpp's plus two standard errors of the difference. With --quantisers two files are
compared instead, one made by `lab quantise`, one by llama.cpp's quantiser with the same formats for all tensors: how far their weights carry
the distributions from those of the F32 model, both evaluated with weights widened to F32. A format passes by the same rule.

For formats with blocks of 256 the model is filled up with zeros to columns in multiples of 256 (types_widen.py), which changes nothing that it
computes; otherwise most of a small model would silently be measured in other formats.

With --float32 the reference of quantised files is evaluated in float32. Its own mean KL from float64 is about 1e-11 (measure.py prints it),
a millionth of what 8-bit activations cost. Files of F32, F16 and BF16 are always measured against float64.

Results are kept, by the digests of file, tokens and program, in ~/.cache/staffel/accuracy-types, so a run that was stopped goes on.
"""

import argparse
import ctypes
import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

from measure import engine_logits, log_softmax, peer_logits, say, standard_error
from reference import Model
from types_widen import widen

# Name -> the number by which llama.cpp's quantiser knows the mix.
TYPES = {
    "f32": 0, "f16": 1, "bf16": 32, "q4_0": 2, "q4_1": 3, "q5_0": 8, "q5_1": 9, "q8_0": 7, "q2_k": 10, "q3_k": 11, "q4_k": 14, "q5_k": 16,
    "q6_k": 18, "iq4_nl": 25, "iq4_xs": 30,
}
FLOATS = {"f32", "f16", "bf16"}
WIDE = {"q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs"}
POSITIONS_MIN = 2000


class Workplace:
    """Files that are made once, and results that are kept."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "staffel" / "accuracy-types"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lab = digest(arguments.lab)
        self.model = digest(arguments.model)
        self.windows = [window for text in arguments.text for window in cut(arguments, text)]
        self.positions = sum(len(window) for window in self.windows)
        self.tokens = hashlib.sha256(repr(self.windows).encode()).hexdigest()[:16]

    def floats(self, wide):
        """The model with F32 weights."""
        plain = self.folder / f"{self.model}-f32.gguf"
        if not plain.exists():
            self.run("convert", self.arguments.model, plain, "--to", "f32")
        if not wide:
            return plain
        target = self.folder / f"{self.model}-f32-wide.gguf"
        if not target.exists():
            say("Filling the model up to columns in multiples of 256")
            widen(plain, str(target) + ".new")
            os.rename(str(target) + ".new", target)
        return target

    def quantised(self, name):
        """The model in a format, made anew: the quantiser may have changed. All matrices get the format, the head too."""
        target = self.folder / f"{self.model}-{name}.gguf"
        self.run("quantise", self.floats(name in WIDE), target, "--type", name, "--output-type", name)
        return target

    def run(self, *words):
        subprocess.run([self.arguments.lab, *map(str, words)], check=True, stderr=subprocess.DEVNULL)

    def kept(self, key, make):
        """`make()`, a dictionary of arrays, or what it gave before under this key."""
        path = self.folder / (hashlib.sha256("|".join(key).encode()).hexdigest()[:24] + ".npz")
        if path.exists() and not self.arguments.fresh:
            with np.load(path) as kept:
                return dict(kept)
        made = make()
        np.savez(str(path) + ".new.npz", **made)
        os.rename(str(path) + ".new.npz", path)
        return made


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def cut(arguments, text):
    words = subprocess.run([arguments.lab, "tokenize", arguments.model, "--text", text], check=True, capture_output=True, text=True)
    tokens = [int(word) for word in words.stdout.split()]
    windows = [tokens[i : i + arguments.window] for i in range(0, len(tokens), arguments.window)]
    return [window for window in windows if len(window) > 1]


# ---- The engine beside llama.cpp -----------------------------------------------------------------------


class Figures:
    """What is gathered of an evaluation against a reference, position by position."""

    NAMES = ("same", "kl", "loss", "reference_loss")

    def __init__(self):
        self.lists = {name: [] for name in Figures.NAMES}

    def add(self, tokens, reference, other):
        """reference, other: [tokens, vocabulary]. A few rows at a time, which stay in the cache."""
        for start in range(0, len(tokens), 16):
            rows = slice(start, start + 16)
            p, q = log_softmax(reference[rows]), log_softmax(other[rows].astype(np.float64))
            self.lists["same"] += list(p.argmax(axis=1) == q.argmax(axis=1))
            self.lists["kl"] += list((np.exp(p) * (p - q)).sum(axis=1))
            following = [(row, token) for row, token in enumerate(tokens[start + 1 : start + 17])]
            self.lists["loss"] += [-q[place] for place in following]
            self.lists["reference_loss"] += [-p[place] for place in following]

    def arrays(self):
        return {name: np.array(values) for name, values in self.lists.items()}


def measure_type(place, name):
    """(ours, llama.cpp's) figures on the file of a format."""
    path = str(place.quantised(name))
    file = digest(path)
    reference = np.float32 if place.arguments.float32 and name not in FLOATS else np.float64
    which = file, place.tokens, reference.__name__
    ours_key, peer_key = (*which, "engine", place.lab), (*which, "llama.cpp", peer_version())
    made = {}

    def both():
        if not made:
            made.update(evaluate(place, path, name, reference))
        return made

    return place.kept(ours_key, lambda: both()["engine"]), place.kept(peer_key, lambda: both()["peer"])


def evaluate(place, path, name, kind):
    from llama_cpp import Llama

    reference, engine, peer = Model(path, kind), Figures(), Figures()
    keep_matrices(reference)
    window, threads = place.arguments.window, len(os.sched_getaffinity(0))
    llama = Llama(path, n_ctx=window, n_batch=window, n_threads=threads, n_threads_batch=threads, logits_all=True, verbose=False)
    with tempfile.TemporaryDirectory() as folder:
        for number, tokens in enumerate(place.windows):
            say(f"{name}: window {number + 1} of {len(place.windows)}")
            expected = reference.logits(tokens)
            engine.add(tokens, expected, engine_logits(place.arguments, path, tokens, reference.vocabulary, folder, "f16"))
            peer.add(tokens, expected, peer_logits(llama, tokens))
    return {"engine": engine.arrays(), "peer": peer.arrays()}


def keep_matrices(model):
    """Widening a layer's weights takes longer than a window; a small model's fit in memory."""
    read, kept = model._matrix, {}
    model._matrix = lambda name: kept[name] if name in kept else kept.setdefault(name, read(name))


def peer_version():
    import llama_cpp

    return llama_cpp.__version__


# ---- Our quantiser beside llama.cpp's --------------------------------------------------------------------


def measure_quantisers(place, name):
    """Figures of (our file, llama.cpp's file) against the F32 model."""
    source, ours = place.floats(name in WIDE), place.quantised(name)
    theirs = place.folder / f"{place.model}-{name}-llama.cpp.gguf"
    if not theirs.exists():
        peer_quantise(source, theirs, name)
    made = {}

    def both():
        if not made:
            made.update(evaluate_files(place, source, ours, theirs, name))
        return made

    key = digest(source), place.tokens, "quantiser", place.lab
    return place.kept((*key, digest(ours)), lambda: both()["ours"]), place.kept((*key, digest(theirs)), lambda: both()["theirs"])


def peer_quantise(source, target, name):
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.pure, params.nthread = TYPES[name], True, os.cpu_count()
    status = llama_cpp.llama_model_quantize(str(source).encode(), (str(target) + ".new").encode(), ctypes.byref(params))
    if status:
        raise SystemExit(f"llama.cpp could not quantise to {name}.")
    os.rename(str(target) + ".new", target)


def evaluate_files(place, source, ours, theirs, name):
    files = {"ours": ours, "theirs": theirs}
    results = {which: Figures() for which in files}
    vocabulary = len(Model(str(source), np.float32).embedding)
    with tempfile.TemporaryDirectory(dir=place.folder) as folder:
        for which in files:
            place.run("convert", files[which], pathlib.Path(folder) / which, "--to", "f32")
        for number, tokens in enumerate(place.windows):
            say(f"{name}: window {number + 1} of {len(place.windows)}")
            logits = lambda path: engine_logits(place.arguments, str(path), tokens, vocabulary, folder, "f32").astype(np.float64)
            expected = logits(source)
            for which in files:
                results[which].add(tokens, expected, logits(pathlib.Path(folder) / which))
    return {which: result.arrays() for which, result in results.items()}


# ---- Report --------------------------------------------------------------------------------------------


def line(name, ours, theirs):
    """One row of the table, and whether it passes."""
    difference = ours["kl"] - theirs["kl"]
    mean, error = float(difference.mean()), standard_error(difference)
    passes = mean <= 2 * error
    share = lambda one: 100 * (np.exp(np.mean(one["loss"]) - np.mean(one["reference_loss"])) - 1)
    cells = [f"{name:<8}"]
    for one in (ours, theirs):
        cells.append(f"{100 * np.mean(one['same']):7.2f} %  {np.mean(one['kl']):9.2e}  {share(one):+8.3f} %")
    cells.append(f"{mean:+9.1e} +-{error:8.1e}  {'pass' if passes else 'FAIL'}")
    return "  |  ".join(cells), passes


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a GGUF file of the Llama family, small enough for float64")
    parser.add_argument("--lab", required=True, help="the lab executable (types builds it)")
    parser.add_argument("--types", default=",".join(TYPES), help="formats, separated by commas")
    parser.add_argument("--text", nargs="+", default=[str(here / "texts" / "alice.txt")])
    parser.add_argument("--window", type=int, default=512, help="tokens of a sequence")
    parser.add_argument("--quantisers", action="store_true", help="compare quantisers, not engines")
    parser.add_argument("--float32", action="store_true", help="evaluate quantised files in float32, in half the time: see above")
    parser.add_argument("--fresh", action="store_true", help="measure again what was measured before")
    arguments = parser.parse_args()
    names = arguments.types.lower().split(",")
    for name in names:
        if name not in TYPES:
            parser.error(f"--types holds '{name}'; known are {', '.join(TYPES)}")

    place = Workplace(arguments)
    if place.positions < POSITIONS_MIN:
        parser.error(f"the text has {place.positions} tokens; at least {POSITIONS_MIN} are needed to tell engines apart")
    what = "against the F32 model's" if arguments.quantisers else "against float64 on the same file"
    first, second = ("lab quantise", "llama.cpp's quantiser") if arguments.quantisers else ("Staffel", "llama.cpp")
    print(f"{place.positions} positions in {len(place.windows)} windows; distributions {what}")
    print("pass: mean KL <= llama.cpp's + 2 standard errors of the difference, position by position")
    print(f"{'':<8}  |  {first:<33}  |  {second:<33}  |  difference in mean KL")
    print(f"{'':<8}" + 2 * f"  |  {'top-1':>9}  {'mean KL':>9}  {'perplexity':>11}", flush=True)
    wrong = []
    for name in names:
        start = time.monotonic()
        text, passes = line(name, *(measure_quantisers if arguments.quantisers else measure_type)(place, name))
        print(text, flush=True)
        say(f"{name}: {time.monotonic() - start:.0f} s")
        wrong += [] if passes else [name]
    print(f"{len(names) - len(wrong)} pass, {len(wrong)} fail" + (": " + ", ".join(wrong) if wrong else ""))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
