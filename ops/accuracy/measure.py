"""Compares the engine's logits with a float64 evaluation of the same weights over English prose. Started by `run`.

The texts (texts/: a chapter of "Alice's Adventures in Wonderland", Lewis Carroll, 1865; four of "News from Nowhere", William Morris, 1890; its
lines joined to paragraphs) are cut into windows, each a sequence of its own. For every position of every window the next-token distributions
are compared:

    top-1        share of positions at which both find the same token likeliest
    mean KL      mean of KL(reference || engine) in nats; +- is its standard error
    perplexity   of the texts' own next tokens
    error        norm of (a - b) over norm of b, over all logits of a window; the worst window
    worst row    largest |a - b| of a position over its largest |b|; a position at which the model itself amplifies the
                 smallest change shows here, so numpy in float32 is given beside the engine with F32 weights

Ends with 1 where a bound of the project is missed, over all texts together:

    F32 weights             error <= 1e-5
    the file as it is       perplexity within 0.5 % of the reference's, and
                            top-1 >= 97.5 % and mean KL <= 0.003, or, with --peer, neither of the two worse than llama.cpp's

"No worse" compares position by position: the mean of (engine - llama.cpp) is at most two of its standard errors above zero. Lest too little text
pass for equality, two standard errors of the KL's difference must themselves be below a tenth of llama.cpp's mean KL.
"""

import argparse
import os
import subprocess
import sys
import tempfile

import numpy as np

from reference import Model

TOP1_MIN, KL_MAX, PERPLEXITY_SHARE_MAX, F32_ERROR_MAX = 0.975, 0.003, 0.005, 1e-5
# Two standard errors of the difference in mean KL, over llama.cpp's mean KL: above this the texts are too short to tell.
BLUR_MAX = 0.1


class Comparison:
    """Gathers the figures of one engine against the reference, window by window."""

    def __init__(self, name):
        self.name, self.same, self.kl, self.rows, self.windows, self.loss, self.reference_loss = name, [], [], [], [], [], []

    def add(self, tokens, reference, other):
        other = other.astype(np.float64)
        p, q = log_softmax(reference), log_softmax(other)
        self.same += list(reference.argmax(axis=1) == other.argmax(axis=1))
        self.kl += list((np.exp(p) * (p - q)).sum(axis=1))
        self.rows += list(np.abs(other - reference).max(axis=1) / np.abs(reference).max(axis=1))
        self.windows.append(np.linalg.norm(other - reference) / np.linalg.norm(reference))
        following = np.arange(len(tokens) - 1), np.array(tokens[1:])
        self.loss += list(-q[following])
        self.reference_loss += list(-p[following])

    top1 = property(lambda self: float(np.mean(self.same)))
    mean_kl = property(lambda self: float(np.mean(self.kl)))
    perplexity = property(lambda self: float(np.exp(np.mean(self.loss))))
    perplexity_share = property(lambda self: float(np.exp(np.mean(self.loss) - np.mean(self.reference_loss)) - 1))
    error = property(lambda self: float(np.max(self.windows)))

    def line(self):
        return (
            f"{self.name:<24} {100 * self.top1:7.2f} %  {self.mean_kl:9.2e} +-{standard_error(self.kl):8.1e}  {self.perplexity:10.4f}  "
            f"{100 * self.perplexity_share:+8.4f} %  {self.error:9.2e}  {np.max(self.rows):9.2e}"
        )


def standard_error(values):
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def log_softmax(x):
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def engine_logits(arguments, model, tokens, vocabulary, folder, kv):
    """What `lab logits` computes."""
    ids, output = os.path.join(folder, "tokens"), os.path.join(folder, "logits")
    with open(ids, "w") as file:
        file.write("\n".join(map(str, tokens)))
    command = [arguments.lab, "logits", model, "--tokens", ids, "--output", output, "--kv", kv]
    subprocess.run(command, check=True)
    return np.fromfile(output, dtype="<f4").reshape(len(tokens), vocabulary)


def cut(arguments, text):
    """The windows of one text."""
    words = subprocess.run([arguments.lab, "tokenize", arguments.model, "--text", text], check=True, capture_output=True, text=True)
    tokens = [int(word) for word in words.stdout.split()]
    windows = [tokens[i : i + arguments.window] for i in range(0, len(tokens), arguments.window)]
    return [window for window in windows if len(window) > 1]


def peer_logits(llama, tokens):
    llama.reset()
    llama.eval(tokens)
    return np.array(llama.scores[: len(tokens)], dtype=np.float32)


def say(text):
    print(text, file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a GGUF file of the Llama family")
    parser.add_argument("--lab", required=True, help="the lab executable (run builds it)")
    texts = os.path.join(os.path.dirname(os.path.abspath(__file__)), "texts")
    parser.add_argument("--text", nargs="+", default=sorted(os.path.join(texts, name) for name in os.listdir(texts)))
    parser.add_argument("--window", type=int, default=512, help="tokens of a sequence")
    parser.add_argument("--peer", action="store_true", help="measure llama.cpp as well")
    parser.add_argument("--skip-f32", action="store_true", help="leave out the model with F32 weights")
    arguments = parser.parse_args()

    windows = [window for text in arguments.text for window in cut(arguments, text)]
    reference = Model(arguments.model)
    single = Model(arguments.model, np.float32)

    engine, f32, peer = Comparison("engine"), Comparison("engine, F32 weights"), Comparison("llama.cpp")
    numpy32 = Comparison("numpy in float32")
    llama = None
    if arguments.peer:
        from llama_cpp import Llama

        llama = Llama(arguments.model, n_ctx=arguments.window, n_batch=arguments.window, logits_all=True, verbose=False)
    with tempfile.TemporaryDirectory() as folder:
        widened = os.path.join(folder, "f32.gguf")
        if not arguments.skip_f32:
            say("Widening the weights to F32")
            subprocess.run([arguments.lab, "convert", arguments.model, widened, "--to", "f32"], check=True)
        for number, window in enumerate(windows):
            show = lambda layer, layers: say(f"window {number + 1} of {len(windows)}: float64 layer {layer} of {layers}") if layer % 10 == 0 else None
            expected = reference.logits(window, show)
            engine.add(window, expected, engine_logits(arguments, arguments.model, window, reference.vocabulary, folder, "f16"))
            if not arguments.skip_f32:
                f32.add(window, expected, engine_logits(arguments, widened, window, reference.vocabulary, folder, "f32"))
                numpy32.add(window, expected, single.logits(window))
            if llama:
                peer.add(window, expected, peer_logits(llama, window))

    measured = [comparison for comparison in (engine, peer, f32, numpy32) if comparison.same]
    print(f"{len(engine.same)} positions in {len(windows)} windows; float64 perplexity {np.exp(np.mean(engine.reference_loss)):.4f}")
    print(f"{'':<24} {'top-1':>9}  {'mean KL':>9} {'':>10}  {'perplexity':>10}  {'against f64':>10}  {'error':>9}  {'worst row':>9}")
    for comparison in measured:
        print(comparison.line())
    sys.exit(judge(engine, f32, peer))


def judge(engine, f32, peer):
    wrong = []
    if abs(engine.perplexity_share) > PERPLEXITY_SHARE_MAX:
        wrong.append("the perplexity differs by more than 0.5 %")
    if f32.same and f32.error > F32_ERROR_MAX:
        wrong.append("with F32 weights the error is above 1e-5")
    absolute = engine.top1 >= TOP1_MIN and engine.mean_kl <= KL_MAX
    if peer.same:
        misses = np.logical_not(engine.same), np.logical_not(peer.same)
        kl, kl_error = paired("mean KL", engine.kl, peer.kl)
        miss, miss_error = paired("share of other top-1", *misses)
        as_good = kl <= 2 * kl_error and miss <= 2 * miss_error
        if not absolute and 2 * kl_error > BLUR_MAX * peer.mean_kl:
            wrong.append("the texts are too short to tell the engine's mean KL from llama.cpp's")
        if not absolute and not as_good:
            wrong.append("top-1 or mean KL misses its bound and llama.cpp's figure")
    elif not absolute:
        wrong.append("top-1 or mean KL misses its bound; --peer says what llama.cpp reaches")
    for line in wrong:
        print("MISSED: " + line)
    if not wrong:
        print("All bounds are met.")
    return 1 if wrong else 0


def paired(what, ours, theirs):
    """Mean of (engine - llama.cpp), position by position, and its standard error; printed."""
    difference = np.array(ours, dtype=np.float64) - np.array(theirs, dtype=np.float64)
    print(f"{what}: engine less llama.cpp {difference.mean():+.2e} +- {standard_error(difference):.1e}")
    return difference.mean(), standard_error(difference)


if __name__ == "__main__":
    main()
