"""The cluster under test: every role a process in a box of its own, started again as its unit would do it."""

import contextlib
import datetime
import http.client
import json
import os
import re
import signal
import subprocess
import time

READY_SECONDS = 120
COMMAND_SECONDS = 30
POSITIONS_PER_BLOCK = 32
# A coordinator that has just been started answers nobody yet, and other faults wait to be put right.
STATUS_SECONDS = 3
END_SECONDS = 5
# systemd's RestartSec of the units in deploy/.
RESTART_SECONDS = 2.0
CONTROL_PORT, DATA_PORT, HTTP_PORT, METRICS_PORT = 7300, 7301, 8080, 9100

COUNTERS = {
    "recomputed": "staffel_recomputed_positions_total", "moved_bytes": "staffel_handover_kv_bytes_total", "recoveries": "staffel_recoveries_total",
    "handovers": "staffel_handovers_total", "rolled_back": "staffel_handovers_rolled_back_total", "frames_dropped": "staffel_frames_dropped_total",
}


class Failed(Exception):
    pass


def wait_until(condition, seconds, what, pause=0.05):
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {seconds} s")
        time.sleep(pause)


class Log:
    """The events that a process logged, read as they come; times are this machine's."""

    def __init__(self, path):
        self.path, self.place, self.events, self.rest = path, 0, [], ""

    def read(self):
        with open(self.path, errors="replace") as file:
            file.seek(self.place)
            text = self.rest + file.read()
            self.place = file.tell()
        lines = text.split("\n")
        self.rest = lines.pop()
        for line in lines:
            if line.startswith("{"):
                event = json.loads(line)
                event["at"] = datetime.datetime.fromisoformat(event["time"].replace("Z", "+00:00")).timestamp()
                self.events.append(event)
        return self.events


class Role:
    """One process of the cluster, and the next one after it ended: same box, same state folder."""

    def __init__(self, cluster, name, arguments):
        self.cluster, self.name, self.arguments = cluster, name, arguments
        self.process, self.log, self.starts, self.is_stopped = None, None, 0, False

    def start(self, *more):
        path = os.path.join(self.cluster.folder, f"{self.name}.{self.starts}.log")
        with open(path, "wb") as log:
            self.process = subprocess.Popen(
                [*self.cluster.network.inside(self.name), self.cluster.staffel, *self.arguments, *more, "--log-format", "json"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.cluster.environment)
        self.log = Log(path)
        self.cluster.logs.append((self.name, self.log))
        self.starts += 1
        self.is_stopped = False
        return self

    @property
    def pid(self):
        return self.process.pid

    @property
    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)
        if number in (signal.SIGSTOP, signal.SIGCONT):
            self.is_stopped = number == signal.SIGSTOP

    def kill(self):
        self.process.kill()
        self.process.wait()

    def memory(self):
        """Bytes of its own and of mapped files, and open descriptors but those of packed weights, of which it has one for each layer."""
        with open(f"/proc/{self.pid}/status") as status:
            text = status.read()
        found = {key: int(re.search(rf"Rss{key}:\s+(\d+)", text).group(1)) << 10 for key in ("Anon", "File")}
        return {"anonymous": found["Anon"], "mapped": found["File"], "descriptors": sum(self.descriptors().values()), "kinds": self.descriptors()}

    def descriptors(self):
        """How many of each kind: sockets, events, files."""
        kinds = {}
        for number in os.listdir(f"/proc/{self.pid}/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/{self.pid}/fd/{number}")
                kind = "file" if target.startswith("/") else target.split(":[")[0]
                if not target.removesuffix(" (deleted)").endswith(".packed"):
                    kinds[kind] = kinds.get(kind, 0) + 1
        return kinds


class Cluster:
    """Coordinator, gateway, workers that serve and one or more that stand by. Commands and questions come from this program's own box."""

    def __init__(self, staffel, model, network, folder, workers, spares, context_tokens, more=()):
        self.staffel, self.model, self.network, self.folder = staffel, model, network, folder
        self.worker_count, self.spares = workers, spares
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("STAFFEL_") or key == "STAFFEL_CACHE"}
        self.environment["TMPDIR"] = folder
        self.logs = []
        address = network.addresses
        self.coordinator = Role(self, "coordinator", [
            "coordinator", "--model", model, "--listen", f"tcp://{address['coordinator']}:{CONTROL_PORT}", "--state", self.state("coordinator"),
            "--expected-workers", str(workers), "--standby-workers", str(spares), "--replicas", "1", "--context-tokens", str(context_tokens),
            "--metrics-host", address["coordinator"], "--metrics-port", str(METRICS_PORT), *more])
        self.gateway = Role(self, "gateway", [
            "gateway", "--state", self.state("gateway"), "--host", address["gateway"], "--port", str(HTTP_PORT), "--name", "gateway"])
        self.workers, self.enrolments = {}, 0

    def state(self, name):
        return os.path.join(self.folder, "state", name)

    def start(self):
        os.makedirs(os.path.join(self.folder, "state"), mode=0o700, exist_ok=True)
        self.coordinator.start()
        for index in range(self.worker_count + self.spares):
            self.enrol_worker(f"w{index + 1}")
        self.gateway.start("--join", self.token())
        self.wait_serving()

    def enrol_worker(self, box, memory="400MiB"):
        """A new key in a new state folder, under the box's name."""
        self.enrolments += 1
        address = self.network.addresses[box]
        role = Role(self, box, [
            "worker", "--state", self.state(f"{box}.{self.enrolments}"), "--name", box, "--threads", "1", "--cpus", "none", "--memory", memory,
            "--model", self.model, "--data-listen", f"tcp://{address}:{DATA_PORT}", "--cache", os.path.join(self.folder, "cache", box)])
        self.workers[box] = role
        return role.start("--join", self.token())

    def run(self, *arguments, seconds=COMMAND_SECONDS):
        """Exit code, stdout, stderr of a command that ends by itself."""
        done = subprocess.run([self.staffel, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds,
                              env=self.environment, check=False)
        return done.returncode, done.stdout.strip(), done.stderr.strip()

    def must(self, *arguments, seconds=COMMAND_SECONDS):
        code, out, err = self.run(*arguments, seconds=seconds)
        if code != 0:
            raise Failed(f"'staffel {' '.join(arguments)}' ended with {code}: {err}")
        return out

    def token(self):
        return self.must("token", "create", "--state", self.state("coordinator"), "--wait-seconds", "20")

    def begin(self, *arguments):
        """A command that goes on beside; its words come when it ends."""
        return subprocess.Popen([self.staffel, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env=self.environment)

    # What it says of itself

    def status(self):
        """`None` while nobody answers."""
        if not self.coordinator.is_running:
            return None
        try:
            code, out, _ = self.run("status", "--state", self.state("coordinator"), "--json", seconds=STATUS_SECONDS)
        except subprocess.TimeoutExpired:
            return None
        return json.loads(out) if code == 0 else None

    def kv_block_bytes(self):
        """Of one layer."""
        decoder = json.loads(self.must("inspect", self.model, "--json"))["decoder"]
        return POSITIONS_PER_BLOCK * decoder["kvBytesPerToken"] // decoder["layers"]

    def stages(self):
        """Names of the workers that compute, in the order of their layers; empty while none serve."""
        status = self.status()
        if not status or status["state"] != "serving":
            return []
        return [stage["name"] for stage in status["pipeline"]["stages"]]

    def ask(self, box, port, path):
        connection = http.client.HTTPConnection(self.network.addresses[box], port, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()

    def metrics(self):
        """The coordinator's, by what a sample begins with. `None` while it does not answer."""
        status, text = self.ask("coordinator", METRICS_PORT, "/metrics")
        return dict(line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#")) if status == 200 else None

    def counters(self):
        """By the names above; since the coordinator's start. `None` while it does not answer."""
        values = self.metrics()
        return values and {name: float(values.get(key, 0)) for name, key in COUNTERS.items()} | {"start": self.coordinator.starts}

    def kv_blocks(self):
        """That have something in them now."""
        return sum(int(float(value)) for key, value in (self.metrics() or {}).items()
                   if key.startswith("staffel_kv_blocks{") and ('state="used"' in key or 'state="cached"' in key))

    def is_whole(self):
        """All workers are there, as many serve as should, and clients are answered."""
        if self.ask("gateway", HTTP_PORT, "/health")[0] != 200:
            return False
        status = self.status()
        present = {worker["name"] for worker in status["workers"]} if status else set()
        return status and status["state"] == "serving" and present >= set(self.workers) and len(status["pipeline"]["stages"]) >= self.worker_count

    def wait_serving(self):
        def serves():
            for role in (self.coordinator, self.gateway, *self.workers.values()):
                if role.process.poll() is not None:
                    raise Failed(f"{role.name} ended with {role.process.returncode} before the cluster was ready")
            return self.is_whole()

        wait_until(serves, READY_SECONDS, f"{self.worker_count} workers serve and {self.spares} stand by", 0.2)

    # What was logged

    def events(self, role, since, until=None):
        """What processes of this name logged in a span of wall time, in its order."""
        found = [event for name, log in self.logs if name == role for event in log.read()]
        return sorted((event for event in found if since <= event["at"] and (until is None or event["at"] < until)), key=lambda event: event["at"])

    def errors(self):
        """Lines that no process should ever write: traps, traces, and the level error; but whose key was revoked may say so."""
        found = []
        for name, log in self.logs:
            with open(log.path, errors="replace") as file:
                for line in file:
                    is_error = re.search('"level":"(error|critical)"', line) and "does not admit this worker's key" not in line
                    if is_error or not line.startswith("{") and re.search("Fatal error|Stack dump|Crash", line):
                        found.append(f"{name}: {line.strip()[:300]}")
        return found

    def tails(self, lines=25):
        for name, log in self.logs:
            with open(log.path, errors="replace") as file:
                yield f"{name} ({os.path.basename(log.path)})", "".join(file.readlines()[-lines:])

    def roles(self):
        return [self.coordinator, self.gateway, *self.workers.values()]

    def end(self):
        """SIGTERM to all, in an order in which nobody waits for the other; what still runs after a while is killed. Names of the latter."""
        late = []
        for role in self.roles():
            if role.is_running:
                if role.is_stopped:
                    role.signal(signal.SIGCONT)
                # Twice: a worker would hand its layers over first.
                role.process.terminate()
        time.sleep(0.2)
        for role in self.roles():
            if role.is_running:
                role.process.terminate()
        for role in self.roles():
            try:
                if role.process:
                    role.process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                late.append(role.name)
                role.kill()
        return late
