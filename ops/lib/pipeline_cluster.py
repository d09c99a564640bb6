"""A cluster to be measured: `staffel up` with workers of one thread, each with all its threads on one processor, and what the kernel and the
coordinator know of it. Coordinator and gateway run wherever the system puts them.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request

READY_SECONDS = 600
REQUEST_SECONDS = 3600


class Cluster:
    """`cpus` has one processor a worker. `settings` are environment variables without STAFFEL_, such as PREFIX_SHARING.

    Without guesses, unless `settings` say otherwise: what is measured is what a step takes, not how often a text repeats itself.
    """

    def __init__(self, staffel, model, cpus, memory, context, settings=None):
        self.staffel, self.model, self.cpus = staffel, model, cpus
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.directory = tempfile.TemporaryDirectory(prefix="bench-pipeline-")
        settings = {"SPECULATION": "off", **(settings or {})}
        environment = dict(os.environ, TMPDIR=self.directory.name, **{f"STAFFEL_{key}": value for key, value in settings.items()})
        command = [
            staffel, "up", model, "--workers", str(len(cpus)), "--threads", "1", "--cpus", ",".join(map(str, cpus)), "--memory", memory,
            "--context-tokens", str(context), "--port", str(self.port), "--log-level", "warning"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)

    def __enter__(self):
        """Waits until it serves, then puts every thread of each worker on the worker's processor."""
        try:
            deadline = time.monotonic() + READY_SECONDS
            while not self.is_serving():
                if self.process.poll() is not None:
                    raise SystemExit(f"staffel up ended with {self.process.returncode} before it was ready")
                if time.monotonic() > deadline:
                    raise SystemExit(f"staffel up was not ready within {READY_SECONDS} s")
                time.sleep(0.05)
            self.workers = sorted((name, pid) for name, pid in children(self.process.pid) if name)
            for (_, pid), cpu in zip(self.workers, self.cpus, strict=True):
                for thread in os.listdir(f"/proc/{pid}/task"):
                    os.sched_setaffinity(int(thread), {cpu})
            return self
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)
        self.directory.cleanup()

    def is_serving(self):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).close()
            return True
        except OSError:
            return False

    def post(self, path, body):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as response:
            return json.load(response)

    def count_tokens(self, text):
        return self.post("/tokenize", {"prompt": text})["count"]

    def status(self):
        """What `staffel status --json` says."""
        for entry in os.listdir(self.directory.name):
            state = os.path.join(self.directory.name, entry, "coordinator")
            if os.path.isdir(state):
                done = subprocess.run([self.staffel, "status", "--json", "--state", state], capture_output=True, check=True, timeout=60)
                return json.loads(done.stdout)
        raise SystemExit("the coordinator's state folder is not where staffel up makes it")

    def computed(self):
        """(Seconds that all stages together computed, seconds that steps spent between machines, steps) since the start, as /metrics has them."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=60) as response:
            lines = response.read().decode().splitlines()

        def values(name):
            return [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + "{")]

        return (
            sum(values("staffel_stage_compute_seconds_total")), sum(values("staffel_wire_seconds_total")), max(values("staffel_stage_steps_total")))

    def stages(self):
        """By stage, in their order: (its worker's process id, its number of layers). Asks `staffel status`, so not while something is measured."""
        layers = {worker["name"]: worker["layers"] for worker in self.status()["workers"]}
        return [(pid, layers[name][1] - layers[name][0]) for name, pid in sorted(self.workers, key=lambda worker: layers[worker[0]])]


class Stream(threading.Thread):
    """One streamed completion. `arrivals` has a time for each chunk that brought tokens, `counts` how many it brought."""

    def __init__(self, cluster, prompt, max_tokens):
        super().__init__(daemon=True)
        self.cluster = cluster
        self.body = {
            "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": True, "stream": True, "return_token_ids": True}
        self.arrived = []
        self.error = None
        self.is_left = False
        self.first_token = threading.Event()

    def run(self):
        self.started = time.perf_counter()
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.cluster.port, timeout=REQUEST_SECONDS)
            connection.request("POST", "/v1/completions", json.dumps(self.body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                raise RuntimeError(f"status {response.status}: {response.read()[:300]!r}")
            # Lines are kept as they are: what is measured should not wait for a parser.
            while not self.is_left and (line := response.readline()):
                if line.startswith(b"data: {"):
                    self.arrived.append((time.perf_counter(), line))
                    self.first_token.set()
            connection.close()
        except Exception as error:
            self.error = error
        finally:
            self.first_token.set()

    def leave(self):
        """Closes the connection at the next token; then `finish`."""
        self.is_left = True

    def finish(self):
        """Waits for the end, then reads what came."""
        self.join()
        if self.error:
            raise SystemExit(f"a stream failed: {self.error}")
        self.arrivals, self.counts, self.tokens = [], [], []
        for when, line in self.arrived:
            data = json.loads(line[6:])
            if "error" in data:
                raise SystemExit(f"a stream failed: {data['error']}")
            ids = [token for choice in data["choices"] for token in choice.get("token_ids", [])]
            if ids:
                self.arrivals.append(when)
                self.counts.append(len(ids))
                self.tokens += ids
        if not self.is_left and len(self.tokens) != self.body["max_tokens"]:
            raise SystemExit(f"a stream of {self.body['max_tokens']} tokens brought {len(self.tokens)}")
        return self


def run_streams(cluster, prompts, max_tokens):
    """All at once, to their ends."""
    streams = [Stream(cluster, prompt, max_tokens) for prompt in prompts]
    for stream in streams:
        stream.start()
    return [stream.finish() for stream in streams]


def shared_window(streams):
    """From the moment when all streams have a token until the first of them ends."""
    return max(stream.arrivals[0] for stream in streams), min(stream.arrivals[-1] for stream in streams)


def tokens_per_second(streams):
    """Of all streams together while all of them decode."""
    start, end = shared_window(streams)
    if start >= end:
        raise SystemExit("some streams ended before others began: give them more tokens")
    count = sum(
        count for stream in streams for when, count in zip(stream.arrivals, stream.counts) if start < when <= end)
    return count / (end - start)


def children(pid):
    """(worker's name or None, process id) of the processes that `pid` started, from /proc."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as stat, open(f"/proc/{entry}/cmdline") as command:
                if int(stat.read().rsplit(")", 1)[1].split()[1]) == pid:
                    words = command.read().split("\0")
                    found.append((words[words.index("--name") + 1] if "worker" in words[:2] else None, int(entry)))
        except (OSError, IndexError, ValueError):
            pass
    return found


class StageThread:
    """The thread of a worker that computes, as the kernel sees it."""

    def __init__(self, pid):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/comm") as comm:
                if comm.read().strip() == "stage":
                    self.id = int(thread)
                    self.account = f"/proc/{pid}/task/{thread}/schedstat"
                    return
        raise SystemExit(f"process {pid} has no stage thread")

    def times(self):
        """Seconds in which it ran, and in which it had work but waited for its processor."""
        with open(self.account) as file:
            ran, waited, _ = file.read().split()
            return int(ran) / 1e9, int(waited) / 1e9
