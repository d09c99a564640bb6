"""llama.cpp over RPC, for bench_pipeline.py: servers with one thread each, pinned to a processor, and a client that keeps the model on them.

    rpc_peer.py serve PORT CPU                      one server, until it is ended
    rpc_peer.py run MODEL PORT,PORT --sequences S   answers lines of JSON on stdin with one line each on stdout

The client is asked {"prompts": [[token, …], …], "tokens": [[token, …], …]}: it prefills each sequence's prompt, then feeds the tokens one
step at a time to all sequences together, as llama.cpp's own server batches them, and answers how long the steps took. The servers are those
of llama.cpp's shared library, as its rpc-server starts them; layers are shared out evenly among them, as it does by default.
"""

import argparse
import ctypes
import json
import os
import pathlib
import sys
import time

BATCH_ROWS = 512
CPU_DEVICE = 0


def library(name):
    import llama_cpp

    return ctypes.CDLL(str(pathlib.Path(llama_cpp.__file__).parent / "lib" / f"lib{name}.so"))


def serve(port, cpu):
    """Never returns. The library prints; nobody reads that."""
    os.sched_setaffinity(0, {cpu})
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    ggml = library("ggml")
    ggml.ggml_backend_dev_by_type.restype = ctypes.c_void_p
    device = ctypes.c_void_p(ggml.ggml_backend_dev_by_type(CPU_DEVICE))
    start = library("ggml-rpc").ggml_backend_rpc_start_server
    start.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.POINTER(ctypes.c_void_p)]
    start.restype = None
    start(f"127.0.0.1:{port}".encode(), None, 1, 1, ctypes.pointer(device))
    raise SystemExit("the RPC server ended")


def add_servers(ports):
    ggml, rpc = library("ggml"), library("ggml-rpc")
    rpc.ggml_backend_rpc_add_server.restype = ctypes.c_void_p
    rpc.ggml_backend_rpc_add_server.argtypes = [ctypes.c_char_p]
    ggml.ggml_backend_register.argtypes = [ctypes.c_void_p]
    ggml.ggml_backend_register.restype = None
    for port in ports:
        server = rpc.ggml_backend_rpc_add_server(f"127.0.0.1:{port}".encode())
        if not server:
            raise SystemExit(f"no RPC server answers at port {port}")
        ggml.ggml_backend_register(server)


class Client:
    def __init__(self, model, ports, sequences, positions):
        import llama_cpp

        self.llama = llama = llama_cpp
        llama.llama_backend_init()
        llama.llama_log_set(silent(llama), ctypes.c_void_p(0))
        add_servers(ports)
        params = llama.llama_model_default_params()
        params.n_gpu_layers = 999
        self.model = llama.llama_model_load_from_file(model.encode(), params)
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {model}")
        self.vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.model))
        self.sequences, self.positions = sequences, positions
        self.batch = llama.llama_batch_init(BATCH_ROWS, 0, 1)
        self.contexts = {flash: self.context(flash) for flash in (True, False)}
        self.flash = {}

    def context(self, flash):
        llama = self.llama
        params = llama.llama_context_default_params()
        # Room for a sequence is a multiple of 256 in llama.cpp.
        params.n_ctx = self.sequences * ((self.positions + 255) // 256 * 256)
        params.n_batch = params.n_ubatch = BATCH_ROWS
        params.n_seq_max = self.sequences
        params.n_threads = params.n_threads_batch = 1
        params.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_ENABLED if flash else llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.no_perf = True
        handle = llama.llama_init_from_model(self.model, params)
        if not handle:
            raise SystemExit("llama.cpp would not make a context")
        return handle

    def decode(self, context, rows):
        """rows: (token, position, sequence, whether its logits are wanted)."""
        for index, (token, position, sequence, wanted) in enumerate(rows):
            self.batch.token[index] = token
            self.batch.pos[index] = position
            self.batch.n_seq_id[index] = 1
            self.batch.seq_id[index][0] = sequence
            self.batch.logits[index] = wanted
        self.batch.n_tokens = len(rows)
        if self.llama.llama_decode(context, self.batch) != 0:
            raise SystemExit("llama_decode failed")
        self.llama.llama_synchronize(context)

    def steps(self, flash, prompts, tokens):
        """Seconds for as many steps as the shortest of `tokens` has, after the prompts."""
        context = self.contexts[flash]
        self.llama.llama_memory_clear(self.llama.llama_get_memory(context), True)
        for sequence, prompt in enumerate(prompts):
            for first in range(0, len(prompt), BATCH_ROWS):
                part = prompt[first : first + BATCH_ROWS]
                self.decode(context, [(token, first + index, sequence, first + index == len(prompt) - 1) for index, token in enumerate(part)])
        count = min(map(len, tokens))
        start = time.perf_counter()
        for step in range(count):
            self.decode(context, [(tokens[sequence][step], len(prompt) + step, sequence, True) for sequence, prompt in enumerate(prompts)])
            row = self.llama.llama_get_logits_ith(context, -1)
        taken = time.perf_counter() - start
        if not all(abs(row[index]) < 1e30 for index in range(0, self.vocabulary, 97)):
            raise SystemExit("llama.cpp's logits are not finite")
        return taken, count

    def answer(self, prompts, tokens):
        """With the faster kind of attention, found once for each number of sequences: two short runs each, in turn."""
        if len(prompts) not in self.flash:
            some = [list(row[:2]) for row in tokens]
            taken = {True: [], False: []}
            for _ in range(2):
                for flash in taken:
                    taken[flash].append(self.steps(flash, prompts, some)[0])
            self.flash[len(prompts)] = min(taken[True]) <= min(taken[False])
        seconds, count = self.steps(self.flash[len(prompts)], prompts, tokens)
        return {"seconds": seconds, "steps": count, "tokensPerSecond": len(prompts) * count / seconds, "flash": self.flash[len(prompts)]}


def silent(llama):
    """Kept by the caller for as long as the library may log: here, for ever."""
    global logger

    @llama.llama_log_callback
    def logger(level, text, data):
        pass

    return logger


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    server = commands.add_parser("serve")
    server.add_argument("port", type=int)
    server.add_argument("cpu", type=int)
    client = commands.add_parser("run")
    client.add_argument("model")
    client.add_argument("ports", type=lambda text: [int(word) for word in text.split(",")])
    client.add_argument("--sequences", type=int, required=True)
    client.add_argument("--positions", type=int, required=True)
    arguments = parser.parse_args()
    if arguments.command == "serve":
        serve(arguments.port, arguments.cpu)
    peer = Client(arguments.model, arguments.ports, arguments.sequences, arguments.positions)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        print(json.dumps(peer.answer(question["prompts"], question["tokens"])), flush=True)


if __name__ == "__main__":
    main()
