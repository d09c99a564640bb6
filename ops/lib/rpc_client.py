"""llama.cpp over RPC from the side of bench_pipeline.py, which needs no llama-cpp-python itself."""

import json
import pathlib
import socket
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
READY_SECONDS = 60


class Peer:
    """Two servers and a client (rpc_peer.py), or nothing where no interpreter for them was named."""

    def __init__(self, bench, model, sequences, positions):
        self.python, self.model, self.cpus = bench.arguments.peer, model, bench.cpus
        self.is_there = self.python is not None
        self.lengths = ["--sequences", str(sequences), "--positions", str(positions)]
        self.processes = []
        self.tokens = {}

    def __enter__(self):
        if not self.is_there:
            return self
        try:
            ports = free_ports(len(self.cpus))
            for port, cpu in zip(ports, self.cpus):
                self.start(["serve", str(port), str(cpu)])
            for port in ports:
                wait_until_listening(port)
            self.client = self.start(
                ["run", self.model, ",".join(map(str, ports)), *self.lengths], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self.read()
            return self
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
            process.wait(timeout=30)

    def start(self, words, **pipes):
        self.processes.append(subprocess.Popen([self.python, str(HERE / "rpc_peer.py"), *words], **pipes))
        return self.processes[-1]

    def read(self):
        line = self.client.stdout.readline()
        if not line:
            raise SystemExit(f"llama.cpp's client ended with {self.client.wait()}")
        return json.loads(line)

    def remember(self, count, tokens):
        """What `count` streams are fed from now on."""
        self.tokens[count] = tokens

    def tokens_per_second(self, prompts, count):
        self.client.stdin.write(json.dumps({"prompts": prompts, "tokens": self.tokens[count]}) + "\n")
        self.client.stdin.flush()
        return self.read()["tokensPerSecond"]


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


def wait_until_listening(port):
    """From the kernel's table: a server of llama.cpp takes one connection at a time, and a trial would be one."""
    wanted = f"0100007F:{port:04X}"
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        with open("/proc/net/tcp") as table:
            if any(line.split()[1] == wanted and line.split()[3] == "0A" for line in table.readlines()[1:]):
                return
        time.sleep(0.05)
    raise SystemExit(f"llama.cpp's RPC server does not listen at port {port}")
