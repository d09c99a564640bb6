"""llama.cpp as a measured process: loads a model, then answers lines 'pp N', 'tg N', 'batch S N' and 'memory' with one line of JSON each, as
`lab bench model --serve` does. Started by bench_peers.py.

Nothing of the Python wrapper is in the measured time but one call a batch. Keys and values are f16; flash attention is tried both ways
for each kind of work when the model is loaded, and the faster one is kept.
"""

import argparse
import ctypes
import json
import sys
import time

import llama_cpp as llama

BATCH_ROWS = 512


class Context:
    """One llama.cpp context for `sequences` sequences of `positions` positions each."""

    def __init__(self, model, threads, sequences, positions, flash):
        params = llama.llama_context_default_params()
        # Room for a sequence is a multiple of 256 in llama.cpp.
        params.n_ctx = sequences * ((positions + 255) // 256 * 256)
        params.n_batch = params.n_ubatch = BATCH_ROWS
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_ENABLED if flash else llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.no_perf = True
        self.handle = llama.llama_init_from_model(model, params)
        if not self.handle:
            raise SystemExit("llama.cpp would not make a context")
        self.batch = llama.llama_batch_init(BATCH_ROWS, 0, 1)
        self.memory = llama.llama_get_memory(self.handle)
        self.vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))

    def token(self, position, sequence):
        return (position * 7919 + sequence * 104_729 + 13) % self.vocabulary

    def put(self, row, position, sequence, wants_logits):
        self.batch.token[row] = self.token(position, sequence)
        self.batch.pos[row] = position
        self.batch.n_seq_id[row] = 1
        self.batch.seq_id[row][0] = sequence
        self.batch.logits[row] = wants_logits

    def decode(self, rows):
        self.batch.n_tokens = rows
        if llama.llama_decode(self.handle, self.batch) != 0:
            raise SystemExit("llama_decode failed")
        llama.llama_synchronize(self.handle)

    def prefill(self, tokens):
        """Seconds for one prompt in batches of at most 512 rows."""
        llama.llama_memory_clear(self.memory, True)
        taken = 0.0
        for first in range(0, tokens, BATCH_ROWS):
            rows = min(BATCH_ROWS, tokens - first)
            for row in range(rows):
                self.put(row, first + row, 0, first + row == tokens - 1)
            start = time.perf_counter()
            self.decode(rows)
            taken += time.perf_counter() - start
        return taken

    def steps(self, sequences, steps):
        """Seconds for `steps` steps of one token for each sequence."""
        llama.llama_memory_clear(self.memory, True)
        start = time.perf_counter()
        for position in range(steps):
            for sequence in range(sequences):
                self.put(sequence, position, sequence, True)
            self.decode(sequences)
        return time.perf_counter() - start

    def close(self):
        llama.llama_batch_free(self.batch)
        llama.llama_free(self.handle)

    def logits_are_finite(self):
        row = llama.llama_get_logits_ith(self.handle, -1)
        return all(abs(row[i]) < 1e30 for i in range(0, self.vocabulary, 97))


class Peer:
    def __init__(self, arguments):
        llama.llama_backend_init()
        llama.llama_log_set(silent, ctypes.c_void_p(0))
        params = llama.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = llama.llama_model_load_from_file(arguments.model.encode(), params)
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {arguments.model}")
        self.arguments = arguments
        self.contexts = {}
        self.flash = {}

    def context(self, kind, flash):
        """kind: 'pp', 'tg' or a number of sequences. Contexts are made when first needed and kept."""
        alone = kind in ("pp", "tg")
        key = ("one" if alone else kind, flash)
        if key not in self.contexts:
            positions = max(self.arguments.pp, self.arguments.tg) if alone else self.arguments.steps
            self.contexts[key] = Context(self.model, self.arguments.threads, 1 if alone else kind, positions, flash)
        return self.contexts[key]

    def best(self, kind, run):
        """The context with the faster kind of attention, found once: three short runs each, in turn."""
        if kind not in self.flash:
            taken = {True: [], False: []}
            for _ in range(3):
                for flash in taken:
                    taken[flash].append(run(self.context(kind, flash)))
            self.flash[kind] = min(taken[True]) <= min(taken[False])
            if not self.context(kind, self.flash[kind]).logits_are_finite():
                raise SystemExit("llama.cpp's logits are not finite")
            if kind not in ("pp", "tg"):
                self.contexts.pop((kind, not self.flash[kind])).close()
        return self.context(kind, self.flash[kind])

    def pp(self, tokens):
        context = self.best("pp", lambda context: context.prefill(min(tokens, 128)))
        taken = context.prefill(tokens)
        return {"tokens": tokens, "seconds": taken, "tokensPerSecond": tokens / taken, "flash": self.flash["pp"]}

    def tg(self, steps):
        context = self.best("tg", lambda context: context.steps(1, min(steps, 4)))
        taken = context.steps(1, steps)
        return {"sequences": 1, "steps": steps, "seconds": taken, "tokensPerSecond": steps / taken, "flash": self.flash["tg"]}

    def many(self, sequences, steps):
        context = self.best(sequences, lambda context: context.steps(sequences, min(steps, 4)))
        taken = context.steps(sequences, steps)
        return {
            "sequences": sequences, "steps": steps, "seconds": taken, "tokensPerSecond": sequences * steps / taken, "flash": self.flash[sequences]}


@llama.llama_log_callback
def silent(level, text, data):
    pass


def process_memory():
    with open("/proc/self/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    size = lambda name: int(fields[name].split()[0]) * 1024
    return {"residentBytes": size("VmRSS"), "anonymousBytes": size("RssAnon"), "peakBytes": size("VmHWM")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--pp", type=int, required=True)
    parser.add_argument("--tg", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    peer = Peer(parser.parse_args())
    answer({"ready": True, "system": llama.llama_print_system_info().decode()})
    for line in sys.stdin:
        match line.split():
            case ["pp", count]:
                answer(peer.pp(int(count)))
            case ["tg", count]:
                answer(peer.tg(int(count)))
            case ["batch", sequences, count]:
                answer(peer.many(int(sequences), int(count)))
            case ["memory"]:
                answer(process_memory())
            case _:
                raise SystemExit(f"unknown line {line!r}")


def answer(value):
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main()
