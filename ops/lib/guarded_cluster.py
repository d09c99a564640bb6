"""A cluster of real processes whose roles are started by hand, and a witness that streams from it while it is attacked."""

import http.client
import json
import os
import re
import signal
import socket
import ssl
import statistics
import subprocess
import threading
import time

REQUEST = {"prompt": "The history of the relay race begins", "max_tokens": 48, "ignore_eos": True, "temperature": 0, "stream": True,
           "return_token_ids": True}
READY_SECONDS = 120
STREAM_SECONDS = 120


class Failed(Exception):
    pass


passed = 0


def check(holds, name, detail=""):
    global passed
    if not holds:
        raise Failed(f"{name}{': ' + str(detail) if detail != '' else ''}")
    passed += 1
    print(f"PASS {name}{' (' + str(detail) + ')' if detail != '' else ''}", flush=True)


def wait_until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {seconds} s")
        time.sleep(0.01)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def resident_mib(pid):
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1)) / 1024


def listeners(pid):
    """Addresses on which a process takes TCP connections, from /proc."""
    inodes = set()
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        try:
            inodes.add(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
        except OSError:
            pass
    found = []
    for table, width in (("tcp", 8), ("tcp6", 32)):
        with open(f"/proc/{pid}/net/{table}") as lines:
            for line in list(lines)[1:]:
                words = line.split()
                if words[3] == "0A" and f"socket:[{words[9]}]" in inodes:
                    address, port = words[1].split(":")
                    raw = b"".join(bytes.fromhex(address[i:i + 8])[::-1] for i in range(0, width, 8))
                    family = socket.AF_INET if width == 8 else socket.AF_INET6
                    found.append((socket.inet_ntop(family, raw), int(port, 16)))
    return found


class Cluster:
    """Coordinator, workers and gateways; their state below `folder`, their logs in it."""

    def __init__(self, staffel, model, folder):
        self.staffel, self.model, self.folder, self.started = staffel, model, folder, []
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("STAFFEL_") or key == "STAFFEL_CACHE"}
        self.environment["TMPDIR"] = folder
        self.state = self.path("coordinator")
        self.endpoint = f"tcp://127.0.0.1:{free_port()}"

    def path(self, name):
        return os.path.join(self.folder, name)

    def start(self, name, *arguments):
        with open(self.path(f"{len(self.started):02}-{name}.log"), "wb") as log:
            process = subprocess.Popen([self.staffel, *arguments, "--log-format", "json"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       env=self.environment, start_new_session=True)
        process.log, process.name = log.name, name
        self.started.append(process)
        return process

    def run(self, *arguments, seconds=30):
        """Exit code, stdout, stderr."""
        done = subprocess.run([self.staffel, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds,
                              env=self.environment, check=False)
        return done.returncode, done.stdout.strip(), done.stderr.strip()

    def must(self, *arguments):
        code, out, err = self.run(*arguments)
        if code != 0:
            raise Failed(f"'staffel {' '.join(arguments)}' ended with {code}: {err}")
        return out

    def coordinator(self):
        metrics = free_port()
        process = self.start("coordinator", "coordinator", "--model", self.model, "--state", self.state, "--listen", self.endpoint,
                             "--expected-workers", "2", "--metrics-port", str(metrics))
        wait_until(lambda: os.path.exists(os.path.join(self.state, "coordinator")), READY_SECONDS, "the coordinator listens")
        return process

    def token(self, *arguments):
        return self.must("token", "create", "--state", self.state, *arguments)

    def worker(self, name, *arguments):
        return self.start(name, "worker", "--state", self.path(name), "--join", self.token(), "--model", self.model, "--name", name, "--threads", "1",
                          "--memory", "400MiB", "--cpus", "none", *arguments)

    def gateway(self, name, *arguments):
        port = free_port()
        process = self.start(name, "gateway", "--state", self.path(name), "--join", self.token(), "--port", str(port), "--name", name, *arguments)
        process.port = port
        return process

    def status(self):
        return json.loads(self.must("status", "--state", self.state, "--json"))

    def log(self, process):
        """The events that a process logged."""
        with open(process.log, errors="replace") as log:
            return [json.loads(line) for line in log if line.startswith("{")]

    def logs(self):
        for process in self.started:
            with open(process.log, errors="replace") as log:
                yield os.path.basename(process.log), log.read()[-3000:]

    def end(self):
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.started:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def ask(port, method, path, body=None, key=None, tls=None, seconds=10, headers=()):
    """Status, headers (lower case), body."""
    connection = (http.client.HTTPSConnection("localhost", port, timeout=seconds, context=tls) if tls
                  else http.client.HTTPConnection("127.0.0.1", port, timeout=seconds))
    named = dict(headers)
    if key:
        named["Authorization"] = f"Bearer {key}"
    connection.request(method, path, body if body is None or isinstance(body, (bytes, str)) else json.dumps(body), named)
    response = connection.getresponse()
    found = response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    connection.close()
    return found


def stream(port, key, tls=None):
    """Token ids, text, longest pause between two events, of one whole streamed answer."""
    connection = (http.client.HTTPSConnection("localhost", port, timeout=STREAM_SECONDS, context=tls) if tls
                  else http.client.HTTPConnection("127.0.0.1", port, timeout=STREAM_SECONDS))
    connection.request("POST", "/v1/completions", json.dumps(REQUEST), {"Authorization": f"Bearer {key}", "Content-Type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        raise Failed(f"a stream was answered {response.status}: {response.read()[:300]}")
    tokens, text, done, pause, last = [], "", False, 0.0, time.monotonic()
    for line in response:
        line = line.decode().rstrip("\r\n")
        if line == "data: [DONE]":
            done = True
        elif line.startswith("data: "):
            event = json.loads(line[6:])
            if "error" in event:
                raise Failed(f"a stream ended with {event['error']}")
            for choice in event.get("choices", []):
                tokens += choice.get("token_ids") or []
                text += choice.get("text") or ""
            if tokens:
                now = time.monotonic()
                pause, last = (max(pause, now - last) if len(tokens) > 1 else 0.0), now
    connection.close()
    if not done or len(tokens) != REQUEST["max_tokens"]:
        raise Failed(f"a stream ended after {len(tokens)} tokens, done {done}")
    return tokens, text, pause


class Witness:
    """Streams the same request again and again while a `with` block runs; each answer must equal the undisturbed one."""

    def __init__(self, port, key):
        self.port, self.key = port, key
        self.reference = stream(port, key)
        self.pause_undisturbed = stream(port, key)[2]

    def during(self, what):
        return Watch(self, what)


class Watch:
    def __init__(self, witness, what):
        self.witness, self.what = witness, what
        self.answers, self.trouble, self.is_ending = [], None, threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        return self

    def run(self):
        try:
            while True:
                self.answers.append(stream(self.witness.port, self.witness.key))
                if self.is_ending.is_set():
                    return
        except (Failed, OSError, http.client.HTTPException, ValueError) as error:
            self.trouble = f"{type(error).__name__}: {error}"

    def __exit__(self, kind, value, trace):
        self.is_ending.set()
        if kind:
            return
        self.thread.join(STREAM_SECONDS)
        equal = sum(answer[:2] == self.witness.reference[:2] for answer in self.answers)
        pause = max((answer[2] for answer in self.answers), default=0.0)
        check(not self.trouble and not self.thread.is_alive() and self.answers and equal == len(self.answers), f"streams during {self.what} are equal",
              self.trouble or f"{equal} of {len(self.answers)}, longest pause {pause * 1e3:.0f} ms, undisturbed {self.witness.pause_undisturbed * 1e3:.0f} ms")


def latencies(port, count=40):
    """Milliseconds of /health on connections of their own: median and 95 %."""
    taken = []
    for _ in range(count):
        began = time.monotonic()
        status, _, _ = ask(port, "GET", "/health")
        taken.append((time.monotonic() - began) * 1e3)
        if status != 200:
            raise Failed(f"/health said {status}")
    return statistics.median(taken), sorted(taken)[int(len(taken) * 0.95)]


def certificate(folder, name):
    """Paths of a new self-signed certificate for localhost and its key, mode 0600."""
    paths = os.path.join(folder, f"{name}-cert.pem"), os.path.join(folder, f"{name}-key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-out", paths[0],
                    "-keyout", paths[1], "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
                   check=True, capture_output=True)
    os.chmod(paths[1], 0o600)
    return paths


def trusting(path):
    return ssl.create_default_context(cafile=path)
