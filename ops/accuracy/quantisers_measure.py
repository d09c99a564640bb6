"""Perplexity after quantising, ours beside llama.cpp's. Started by `quantisers`.

MODEL is widened to F32 and quantised to each mix by `staffel quantize` and by llama.cpp's own quantiser under the same name. `staffel
perplexity` measures both files on the same text, token by token, with the same kernels, so that only the quantisers differ:

    bits         per weight of the file
    perplexity   of the text, and how much more than with F32 weights
    KL           mean over tokens of KL(F32 model || quantised model), in nats, times 1000
    differences  means over tokens of (ours - llama.cpp's) of -log p and of KL, with their standard errors

A mix passes where neither mean difference is more than two standard errors above zero, our file is no larger than llama.cpp's by more than
1 %, the Python package gguf finds every tensor of it in its shape, and llama.cpp's own perplexity of our file is that of `staffel perplexity`
over the first chunks, but for 3 % (both compute with 8-bit activations, each in its own order). The rule was set before the first run.

First `staffel perplexity` itself is held to llama.cpp over the first chunks: of the F32 model the perplexities may differ by 0.1 %, of MODEL as
it is by 1 %.

With --imatrix both quantise with one importance matrix as well, which `staffel imatrix` makes of another text; mixes get a second line.

For mixes of K formats the model is filled up with zeros to columns in multiples of 256 (types_widen.py), which changes nothing that it
computes; otherwise most of a small model would silently be measured in other formats.

Each measurement is kept in ~/.cache/staffel/accuracy-quantisers under the digests of all it depends on, so a run that was stopped, or ended
because of --minutes, goes on where it was. Quantised files are removed once they are measured.
"""

import argparse
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
from gguf import GGUFReader

import quantisers_peer as peer
from types_widen import widen

PLAIN = {"q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"}
SIZE_SHARE_MAX, ELSEWHERE_SHARE_MAX = 1.01, 0.03
DEFINITION_SHARE_MAX = {"in F32": 0.001, "as it is": 0.01}
PEER_CHUNKS = 2


def say(*words):
    print(time.strftime("%H:%M:%S"), *words, file=sys.stderr, flush=True)


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


class Workplace:
    """Files that are made once, and results that are kept."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.end = time.monotonic() + 60 * arguments.minutes
        self.folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "staffel" / "accuracy-quantisers"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.model = digest(arguments.model)
        self.evaluator = digest(arguments.evaluator)
        with open(arguments.text, "rb") as file:
            self.text = hashlib.sha256(file.read()).hexdigest()[:16] + f"-{arguments.context}-{arguments.chunks}"

    def run(self, program, *words):
        if time.monotonic() > self.end:
            sys.exit(f"the {self.arguments.minutes:g} minutes are over; the same command goes on where this one ended (--minutes)")
        done = subprocess.run([program, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"staffel {' '.join(map(str, words))} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def kept(self, key, make):
        """`make()`, a dictionary of arrays, or what it gave before under this key."""
        path = self.folder / (hashlib.sha256("|".join(map(str, key)).encode()).hexdigest()[:24] + ".npz")
        if path.exists() and not self.arguments.fresh:
            with np.load(path) as kept:
                return dict(kept)
        made = make()
        np.savez(str(path) + ".new.npz", **made)
        os.rename(str(path) + ".new.npz", path)
        return made

    # ---- Models

    def floats(self, wide):
        plain = self.folder / f"{self.model}-f32.gguf"
        if not plain.exists():
            say("Widening the weights to F32")
            self.run(self.arguments.staffel, "quantize", self.arguments.model, plain, "f32")
        if not wide:
            return plain
        target = self.folder / f"{self.model}-f32-wide.gguf"
        if not target.exists():
            say("Filling the model up to columns in multiples of 256")
            widen(plain, str(target) + ".new")
            os.rename(str(target) + ".new", target)
        return target

    def imatrix(self, source):
        """The path of the importance matrix of a model in floats."""
        arguments = self.arguments
        target = self.folder / f"{source.stem}-{digest(arguments.imatrix_text)}-{arguments.imatrix_chunks}-{self.evaluator}.imatrix"
        if not target.exists():
            say("Importance matrix")
            words = ["--chunks", arguments.imatrix_chunks, "--context", arguments.context, "--cache-limit", 0]
            self.run(arguments.evaluator, "imatrix", source, arguments.imatrix_text, "--output", target, *words)
        return target

    # ---- Measurements

    @property
    def logits(self):
        return self.folder / f"{self.model}-{self.text}-{self.evaluator}.logits"

    def reference(self):
        """The file of the F32 model's logits."""
        if not self.logits.exists():
            say("Logits with F32 weights")
            self.perplexity(self.floats(False), "--save-logits", self.logits)
        return self.logits

    def losses_in_floats(self):
        return self.kept((self.model, self.text, self.evaluator, "f32"), lambda: {"losses": self.perplexity(self.floats(False))[0]})["losses"]

    def perplexity(self, path, *flags):
        """-log p of each token that counts, and its divergence from the reference where flags say so."""
        with tempfile.TemporaryDirectory() as folder:
            target = os.path.join(folder, "losses")
            words = ["--losses", target, "--json", "--cache-limit", 0, "--context", self.arguments.context, "--kv-type", "f32"]
            if self.arguments.chunks:
                words += ["--chunks", self.arguments.chunks]
            told = json.loads(self.run(self.arguments.evaluator, "perplexity", path, self.arguments.text, *words, *flags))
            found = np.loadtxt(target, ndmin=2).T
        assert abs(np.exp(found[0].mean()) - told["perplexity"]) <= 1e-9 * told["perplexity"]
        return found

    def measured(self, key, make):
        """Losses, divergences and bits of a file that `make` writes to a path, unless they are known under `key`; it is removed again."""
        def figures():
            with tempfile.TemporaryDirectory(dir=self.folder) as folder:
                path = pathlib.Path(folder) / "model.gguf"
                make(path)
                losses, divergences = self.perplexity(path, "--against", self.reference())
                return {"losses": losses, "divergences": divergences, "bits": np.array(bits(path))}

        return self.kept((self.model, self.text, self.evaluator, *key), figures)

    def ours(self, source, name, imatrix=None):
        """Our file is made anew, since the quantiser may have changed: its bytes tell whether it was measured."""
        arguments = self.arguments
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            path = pathlib.Path(folder) / "ours.gguf"
            self.run(arguments.staffel, "quantize", source, path, name, *(["--imatrix", imatrix] if imatrix else []))
            file = digest(path)
            found = self.measured(("ours", file), lambda target: os.link(path, target))
            elsewhere = self.kept((file, peer.version, self.text, "elsewhere"), lambda: self.elsewhere(path, source))
        return found, elsewhere

    def theirs(self, source, name, imatrix=None):
        key = "llama.cpp", peer.version, source.stem, name, digest(imatrix) if imatrix else ""
        return self.measured(key, lambda path: peer.quantise(source, path, name, importance(imatrix) if imatrix else None))

    def elsewhere(self, path, source):
        """Whether the gguf package finds the tensors of `source` in the file, and llama.cpp's losses over the first chunks."""
        shapes = lambda reader: {tensor.name: tuple(map(int, tensor.shape)) for tensor in reader.tensors}
        found = shapes(GGUFReader(path)) == shapes(GGUFReader(source))
        return {"found": np.array(found), "losses": peer.losses(path, self.arguments.text, self.arguments.context, PEER_CHUNKS)}


def bits(path):
    tensors = GGUFReader(path).tensors
    return 8 * sum(int(tensor.n_bytes) for tensor in tensors) / sum(int(tensor.n_elements) for tensor in tensors)


def importance(path):
    """Tensor -> mean squares, of the matrices one after the other; ones where no row was seen."""
    tensors = {tensor.name: np.array(tensor.data, dtype=np.float32) for tensor in GGUFReader(path).tensors}
    found = {}
    for name in sorted(tensors):
        if name.endswith(".in_sum2"):
            counts = tensors[name.removesuffix(".in_sum2") + ".counts"].reshape(-1, 1)
            sums = tensors[name].reshape(len(counts), -1)
            found[name.removesuffix(".in_sum2")] = np.ascontiguousarray(np.where(counts > 0, sums / np.maximum(counts, 1), 1).ravel(), np.float32)
    return found


# ---- Report --------------------------------------------------------------------------------------------


def check_definition(place):
    """`staffel perplexity` beside llama.cpp's logits over the same chunks, by llama.cpp's definition. Returns what is wrong."""
    context, wrong = place.arguments.context, []
    for what, path in (("in F32", place.floats(False)), ("as it is", place.arguments.model)):
        words = ["--chunks", PEER_CHUNKS, "--context", context, "--json", "--cache-limit", 0]
        own = lambda: json.loads(place.run(place.arguments.evaluator, "perplexity", path, place.arguments.text, *words))["mean_loss"]
        ours = place.kept((place.model, place.text, place.evaluator, what), lambda: {"mean": np.array(own())})["mean"]
        theirs = place.kept(
            (place.model, place.text, peer.version, what), lambda: {"losses": peer.losses(path, place.arguments.text, context, PEER_CHUNKS)})["losses"]
        share = abs(np.expm1(ours - theirs.mean()))
        passes = share <= DEFINITION_SHARE_MAX[what]
        wrong += [] if passes else [f"definition {what}"]
        print(
            f"{len(theirs)} tokens of the model {what}: staffel perplexity {np.exp(ours):.4f}, llama.cpp {np.exp(theirs.mean()):.4f}: "
            f"{'pass' if passes else 'FAIL'}", flush=True)
    return wrong


def judged(difference):
    """(mean, standard error, whether it passes)"""
    mean, error = float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))
    return mean, error, mean <= 2 * error


def measure(place, name, floats, imatrix):
    """Prints a mix's line; returns whether it passes."""
    source = place.floats(name not in PLAIN)
    matrix = place.imatrix(source) if imatrix else None
    (ours, elsewhere), theirs = place.ours(source, name, matrix), place.theirs(source, name, matrix)
    losses, divergences = (judged(ours[what] - theirs[what]) for what in ("losses", "divergences"))
    peers = float(elsewhere["losses"].mean() - ours["losses"][: len(elsewhere["losses"])].mean())
    loads = bool(elsewhere["found"]) and abs(np.expm1(peers)) <= ELSEWHERE_SHARE_MAX
    passes = losses[2] and divergences[2] and ours["bits"] <= SIZE_SHARE_MAX * theirs["bits"] and loads
    cells = [f"{name + (' +i' if imatrix else ''):<9}"]
    for one in (ours, theirs):
        more = 100 * np.expm1(one["losses"].mean() - floats.mean())
        cells.append(f"{float(one['bits']):5.2f}  {np.exp(one['losses'].mean()):8.3f} ({more:+6.2f} %)  {1000 * one['divergences'].mean():8.2f}")
    cells.append(f"{1000 * losses[0]:+7.2f} +-{1000 * losses[1]:5.2f}  {1000 * divergences[0]:+7.2f} +-{1000 * divergences[1]:5.2f}")
    cells.append(f"{100 * np.expm1(peers):+5.2f} %" + ("" if loads else " (not read elsewhere)"))
    print("  |  ".join(cells) + f"  {'pass' if passes else 'FAIL'}", flush=True)
    return passes


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a GGUF file of the Llama family")
    parser.add_argument("--staffel", required=True, help="the staffel executable that quantises (quantisers builds it)")
    parser.add_argument("--evaluator", help="the staffel executable that measures (default: the same); measurements are kept by it")
    parser.add_argument("--types", default=",".join(peer.MIXES), help="mixes, separated by commas")
    parser.add_argument("--text", default=str(here / "texts" / "news-from-nowhere.txt"))
    parser.add_argument("--context", type=int, default=512, help="tokens of a chunk")
    parser.add_argument("--chunks", type=int, help="so many at most")
    parser.add_argument("--imatrix", action="store_true", help="with one importance matrix for both as well")
    parser.add_argument("--imatrix-text", default=str(here / "texts" / "alice.txt"), help="another text than --text")
    parser.add_argument("--imatrix-chunks", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=120, help="end after so long; what was measured is kept")
    parser.add_argument("--fresh", action="store_true", help="measure again what was measured before")
    arguments = parser.parse_args()
    arguments.evaluator = arguments.evaluator or arguments.staffel
    names = arguments.types.lower().split(",")
    for name in names:
        if name not in peer.MIXES:
            parser.error(f"--types holds '{name}'; known are {', '.join(peer.MIXES)}")
    if arguments.chunks is not None and arguments.chunks < PEER_CHUNKS:
        parser.error(f"--chunks is {arguments.chunks}: give at least {PEER_CHUNKS}")

    place = Workplace(arguments)
    wrong = check_definition(place)
    floats = place.losses_in_floats()
    print(f"{len(floats)} tokens; F32 perplexity {np.exp(floats.mean()):.4f}; KL, differences: nats / 1000; +i: with an importance matrix")
    print("pass: no mean difference above 2 standard errors, size <= 101 %, read elsewhere with the same perplexity but for 3 %")
    columns = " bits      ppl  (over F32)        KL"
    print(f"{'':<9}  |  {'ours, staffel quantize':<{len(columns)}}  |  {'llama.cpp':<{len(columns)}}  |  {'ours - llama.cpp':<32}  |  elsewhere")
    print(f"{'':<9}  |  {columns}  |  {columns}  |  {'-log p':<15}  {'KL':<15}  |", flush=True)
    for name in names:
        for imatrix in (False, True) if arguments.imatrix else (False,):
            start = time.monotonic()
            wrong += [] if measure(place, name, floats, imatrix) else [name + (" +i" if imatrix else "")]
            say(f"{name}{' +i' if imatrix else ''}: {time.monotonic() - start:.0f} s")
    place.logits.unlink(missing_ok=True)
    print("all pass" if not wrong else f"FAIL: {', '.join(wrong)}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
