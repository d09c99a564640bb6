"""Staffel and llama.cpp in turn on the same model files. Started by ops/bench-peers.

Each engine loads the file once, in a process of its own. A round measures every kind of work with one engine and at once with the
other, in an order that changes from round to round; what is compared is the ratio within a round, and the median of these. So it does
not matter that virtual machines change their speed every few seconds.

    pp N       a prompt of N tokens in one batch: tokens a second
    tg N       N tokens one by one
    batch S    S sequences, a token each in every step: tokens a second of all
    limit      of the arithmetic peak (pp), of the read bandwidth measured between the steps (tg, batch): Staffel's share
    memory     resident, and over the packed weights with room for keys and values. Staffel's is without its probe's memory

Both keep keys and values in f16. llama.cpp uses flash attention wherever that is faster for it.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
# Threads that wait for more work spin for a moment before they sleep; the next engine should not pay for it.
PAUSE_SECONDS = 0.05

# The goals' models: shape, layers, types. 32000 tokens, as in the figures they are compared with, so that Q8_0 too is about 4 GB.
SHAPES = [("qwen2-72b", 4, ("q4_0", "q4_k_m", "q8_0")), ("llama-7b", 16, ("q4_0",))]
VOCABULARY = 32_000


class Ended(Exception):
    """An engine ended before it answered, most likely because it cannot use the file; it has said why."""


class Engine:
    """A process that answers each line with a line of JSON."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ready = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise Ended(f"'{' '.join(self.process.args[:4])} ...' ended with {self.process.wait()}")
        return json.loads(line)

    def ask(self, line):
        time.sleep(PAUSE_SECONDS)
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # What follows says how it ended.
        return self.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


def measure(model, threads, arguments):
    lengths = ["--threads", str(threads), "--pp", str(arguments.pp), "--tg", str(arguments.tg), "--steps", str(arguments.steps)]
    batches = ",".join(map(str, arguments.batch))
    with (
        Engine([arguments.lab, "bench", "model", model, "--serve", *lengths, "--batch", batches]) as ours,
        Engine([sys.executable, str(HERE / "llama_peer.py"), model, *lengths]) as peer,
    ):
        return compare(model, threads, arguments, ours, peer)


def compare(model, threads, arguments, ours, peer):
    works = [f"pp {arguments.pp}", f"tg {arguments.tg}"] + [f"batch {count} {arguments.steps}" for count in arguments.batch]
    rounds = {work: [] for work in works}
    # The first of each finds cold pages and lets the peer choose its attention.
    for work in works:
        say(f"{model}, {threads} threads: warming up, {work}")
        ours.ask(shorter(work))
        peer.ask(shorter(work))
        if work.startswith("tg"):
            # Before the peer makes contexts for batches, each with keys and values of its own.
            peer_memory = peer.ask("memory")["residentBytes"]
    for number in range(arguments.rounds):
        say(f"{model}, {threads} threads: round {number + 1} of {arguments.rounds}")
        for work in works:
            answers = {}
            for engine in (ours, peer) if number % 2 == 0 else (peer, ours):
                answers[engine] = engine.ask(work)
            rounds[work].append((answers[ours], answers[peer]))
    return {
        "model": model, "threads": threads, "packedBytes": ours.ready["packedBytes"], "kvBytes": ours.ready["kvBytes"],
        "weightBytesPerToken": ours.ready["weightBytesPerToken"], "peer": peer.ready["system"], "work": [summary(work, rounds[work]) for work in works],
        "memory": {"ours": ours.ask("memory")["residentBytes"] - ours.ready["probeBytes"], "peer": peer_memory}}


def shorter(work):
    name, *numbers = work.split()
    return " ".join([name, *numbers[:-1], str(min(int(numbers[-1]), 128 if name == "pp" else 4))])


def summary(work, pairs):
    share = "shareOfPeak" if work.startswith("pp") else "shareOfBandwidth"
    result = {
        "work": work, "flash": pairs[-1][1]["flash"], "ours": spread([ours["tokensPerSecond"] for ours, _ in pairs]),
        "peer": spread([peer["tokensPerSecond"] for _, peer in pairs]),
        "ratio": spread([ours["tokensPerSecond"] / peer["tokensPerSecond"] for ours, peer in pairs]),
        "share": spread([ours[share] for ours, _ in pairs])}
    if not work.startswith("pp"):
        # What the probes of our own measurement, a moment apart, would have allowed the peer to read.
        result["peerShare"] = spread([peer["tokensPerSecond"] / ours["tokensPerSecond"] * ours[share] for ours, peer in pairs])
    return result


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def show(result):
    print(f"\n{os.path.basename(result['model'])}, {result['threads']} threads, {result['packedBytes'] / 1e6:.0f} MB packed")
    print(f"{'':<10} {'Staffel':>10} {'llama.cpp':>10}   {'ratio (min - max)':<22} {'limit':>6}")
    for work in result["work"]:
        name, ratio = " ".join(work["work"].split()[:2]), work["ratio"]
        print(
            f"{name:<10} {work['ours']['median']:>10.1f} {work['peer']['median']:>10.1f}   {ratio['median']:.2f} ({ratio['min']:.2f} - {ratio['max']:.2f})"
            f"{100 * work['share']['median']:>11.0f} %")
    memory, packed = result["memory"], result["packedBytes"] + result["kvBytes"]
    print(f"{'memory MB':<10} {memory['ours'] / 1e6:>10.0f} {memory['peer'] / 1e6:>10.0f}   "
          f"{memory['ours'] / packed:.2f} and {memory['peer'] / packed:.2f} of weights and KV", flush=True)


def models(arguments):
    """The files to measure, made when their turn comes and removed after it."""
    if arguments.models:
        yield from arguments.models
        return
    yield subprocess.run([str(HERE.parent / "fetch-model")], check=True, capture_output=True, text=True).stdout.strip()
    for shape, layers, types in SHAPES:
        for kind in types:
            path = os.path.join(arguments.cache, f"synth-{shape}-{layers}-{kind}.gguf")
            say(f"making {path}")
            subprocess.run(
                [arguments.lab, "synth", "--shape", shape, "--layers", str(layers), "--vocabulary", str(VOCABULARY), "--type", kind, path],
                check=True, stdout=subprocess.DEVNULL)
            try:
                yield path
            finally:
                os.remove(path)


def say(text):
    print(text, file=sys.stderr, flush=True)


def numbers(text):
    return [int(word) for word in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="GGUF files")
    parser.add_argument("--lab", required=True)
    parser.add_argument("--cache", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=numbers, default=[2])
    parser.add_argument("--pp", type=int, default=512)
    parser.add_argument("--tg", type=int, default=128)
    parser.add_argument("--batch", type=numbers, default=[4, 8, 16])
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--json", help="a file for all figures")
    arguments = parser.parse_args()
    results = []
    missed = 0
    for model in models(arguments):
        for threads in arguments.threads:
            try:
                results.append(measure(model, threads, arguments))
            except Ended as error:
                say(f"{model} is not measured: {error}")
                missed += 1
                break
            show(results[-1])
            if arguments.json:
                with open(arguments.json, "w") as file:
                    json.dump(results, file, indent=1)
                    file.write("\n")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
