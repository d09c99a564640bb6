"""What can happen to a cluster. Each fault is a generator: it does something, yields what to wait for (seconds, or `Until`), and puts things right again.

It gets its record, in which it names its victim, and an index that says which of those that may be hit is hit. Faults of a random run go on beside
each other, so each takes its victim for itself and leaves it as it was.
"""

import dataclasses
import glob
import os
import random
import signal
import sys
import time

import strange_peer as strange
from boxes import DELAY_MS
from cluster import CONTROL_PORT, DATA_PORT, RESTART_SECONDS, Failed

STOP_SECONDS, CUT_SECONDS, SLOW_SECONDS, PART_SECONDS, STUCK_SECONDS = 6.0, 6.0, 8.0, 12.0, 6.0
# A slow worker stands for so long, then runs for so long, and so on.
STAND_SECONDS, RUN_SECONDS = 0.15, 0.05
SLOW_DELAY_MS = 200.0
HANDOVER_SECONDS, LEAVE_SECONDS, NOTICE_SECONDS, TAMPER_SECONDS = 60, 75, 20, 4
HOSTILE_FRAMES = 400


# What the coordinator says of a loss: of each kind something else, or two faults could not be told apart.
SILENT, ENDED, STUCK = "no heartbeat came in time", "the worker's connection ended", "did nothing for the last"
NOT_REACHED = "did not reach worker|came where"
REASONS = {
    "kill -9 worker": ENDED, "SIGSTOP worker": SILENT, "link down": SILENT, "stage link down": NOT_REACHED,
    "half-open link": f"{SILENT}|{ENDED}|{NOT_REACHED}", "stage thread stuck": STUCK, "revoke key": "the worker's key was revoked",
}


def is_loss(event):
    """Whether the coordinator says that somebody or something was lost; who leaves in order is none."""
    return event["message"] in ("worker lost", "epoch ended", "worker failed its stage") and event.get("reason") != "the worker left"



@dataclasses.dataclass
class Until:
    condition: object
    seconds: float
    what: str


@dataclasses.dataclass
class Record:
    """A fault, when it struck, and what was seen of it."""

    kind: str
    index: int
    victim: str = ""
    # Monotonic and wall time of the moment it struck; of the moment when all was right again and the streams went on.
    at: float = 0.0
    wall: float = 0.0
    over: float = 0.0
    detail: str = ""
    trouble: str = ""
    # Filled by the verdict.
    facts: dict = dataclasses.field(default_factory=dict)

    def strike(self, victim, detail=""):
        self.victim, self.detail = victim, detail
        self.at, self.wall = time.monotonic(), time.time()


class Nobody(Exception):
    """There is nobody whom this fault could hit now."""


def restarted(role):
    """What its unit does with a role that ended."""
    try:
        yield RESTART_SECONDS
    finally:
        if not role.is_running:
            role.start()


def kill(drill, record, index):
    with drill.victim(index) as worker:
        record.strike(worker.name)
        worker.kill()
        yield from restarted(worker)
        yield from drill.present(worker.name)


def kill_two(drill, record, index):
    """The second one dies when the loss of the first has just been noticed."""
    with drill.victim(index) as first, drill.victim(index + 1) as second:
        record.strike(f"{first.name}, {second.name}")
        first.kill()
        try:
            yield Until(lambda: drill.cluster.events("coordinator", record.wall), NOTICE_SECONDS, f"the loss of {first.name} is noticed")
            second.kill()
            yield RESTART_SECONDS
        finally:
            for role in (first, second):
                if not role.is_running:
                    role.start()
        yield from drill.present(first.name)
        yield from drill.present(second.name)


def stop(drill, record, index):
    with drill.victim(index) as worker:
        record.strike(worker.name, f"for {STOP_SECONDS:g} s")
        worker.signal(signal.SIGSTOP)
        try:
            yield STOP_SECONDS
        finally:
            worker.signal(signal.SIGCONT)
        yield from drill.present(worker.name)


def cut(drill, record, index):
    with drill.victim(index) as worker:
        record.strike(worker.name, f"for {CUT_SECONDS:g} s")
        drill.network.cut(worker.name)
        try:
            yield CUT_SECONDS
        finally:
            drill.network.mend(worker.name)
        yield from drill.present(worker.name)


def part(drill, record, index):
    """The cluster's hardest to tell: both workers are well and speak with the coordinator, but what one computes does not reach the other."""
    stages = drill.stages()
    if len(stages) < 2:
        raise Nobody
    first = index % (len(stages) - 1)
    before, after = stages[first], stages[first + 1]
    with drill.taken(before), drill.taken(after):
        record.strike(f"{before}>{after}", f"for {PART_SECONDS:g} s")
        drill.network.part(before, after)
        try:
            yield PART_SECONDS
        finally:
            drill.network.join(before, after)


def slow(drill, record, index):
    with drill.victim(index) as worker:
        record.strike(worker.name, f"{SLOW_DELAY_MS:g} ms for {SLOW_SECONDS:g} s")
        drill.network.delay(worker.name, SLOW_DELAY_MS)
        try:
            yield SLOW_SECONDS
        finally:
            drill.network.delay(worker.name, DELAY_MS)


def half_open(drill, record, index):
    """What one of the two sends does not arrive, what the other sends does: even indices silence the worker, odd ones the coordinator."""
    with drill.victim(index // 2 + 1) as worker:
        before, after = (worker.name, "coordinator") if index % 2 == 0 else ("coordinator", worker.name)
        record.strike(worker.name, f"{before}>{after} for {CUT_SECONDS:g} s")
        drill.network.part(before, after)
        try:
            yield CUT_SECONDS
        finally:
            drill.network.join(before, after)
        yield from drill.present(worker.name)


def stick(drill, record, index):
    """The thread that computes stands still; the one that speaks with the others does not."""
    with drill.victim(index) as worker:
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "stick.py")
        program = drill.process([sys.executable, script, str(worker.pid), "stage", str(STUCK_SECONDS)])
        if program.stdout.readline().strip() != "stuck":
            raise Failed(f"the stage thread of {worker.name} can't be held")
        record.strike(worker.name, f"for {STUCK_SECONDS:g} s")
        yield Until(lambda: program.poll() is not None, STUCK_SECONDS + 5, "the program that holds a thread ends")
        yield Until(lambda: drill.state(worker.name) not in (None, "stuck"), NOTICE_SECONDS, f"the stage thread of {worker.name} is seen to go on")


def limp(drill, record, index):
    """It has a quarter of a processor: everything goes on, slowly."""
    with drill.victim(index) as worker:
        record.strike(worker.name, f"stands {STAND_SECONDS / (STAND_SECONDS + RUN_SECONDS):.0%} of {SLOW_SECONDS:g} s")
        end = time.monotonic() + SLOW_SECONDS
        try:
            while time.monotonic() < end and worker.is_running:
                worker.signal(signal.SIGSTOP)
                yield STAND_SECONDS
                worker.signal(signal.SIGCONT)
                yield RUN_SECONDS
        finally:
            if worker.is_running:
                worker.signal(signal.SIGCONT)


def kill_coordinator(drill, record, _):
    with drill.taken("coordinator"):
        record.strike("coordinator")
        drill.cluster.coordinator.kill()
        yield from restarted(drill.cluster.coordinator)
        yield Until(drill.serves, LEAVE_SECONDS, "the restarted coordinator serves")


def drain(drill, record, index):
    cluster = drill.cluster
    with drill.victim(index) as worker, drill.taken("plan"):
        record.strike(worker.name)
        while True:
            starts = cluster.coordinator.starts
            command = cluster.begin("drain", worker.name, "--state", cluster.state("coordinator"), "--timeout-seconds", str(HANDOVER_SECONDS))
            yield Until(lambda: command.poll() is not None, HANDOVER_SECONDS + 5, f"staffel drain {worker.name} ends")
            _, err = command.communicate()
            # Whoever drains a worker asks again when the coordinator has gone meanwhile.
            if command.returncode == 0 or cluster.coordinator.starts == starts and cluster.coordinator.is_running:
                break
            yield Until(drill.serves, LEAVE_SECONDS, "the restarted coordinator serves")
        if command.returncode != 0:
            record.trouble = f"staffel drain {worker.name} ended with {command.returncode}: {err.strip().splitlines()[-1]}"
        cluster.run("drain", worker.name, "--undo", "--state", cluster.state("coordinator"))


def join_and_leave(drill, record, _):
    """A further worker joins and gets layers while streams run, and leaves after SIGTERM when it has handed them back. Where another one was free
    too (its draining was taken back), the plan may grow by that, and this one stands by."""
    box = drill.further_box
    with drill.taken(box), drill.taken("plan"):
        with drill.taken("coordinator"):
            record.strike(box)
            stages = len(drill.stages())
            worker = drill.cluster.enrol_worker(box)
        try:
            yield Until(lambda: box in drill.stages() or len(drill.stages()) > stages, HANDOVER_SECONDS, f"{box} or another free worker has layers")
            record.detail = f"{'serves' if box in drill.stages() else 'another one serves'} after {time.monotonic() - record.at:.1f} s"
            yield 3.0
            leaving = time.monotonic()
            worker.signal(signal.SIGTERM)
            yield Until(lambda: not worker.is_running, LEAVE_SECONDS, f"{box} ends after SIGTERM")
            record.detail += f", left in {time.monotonic() - leaving:.1f} s"
            if worker.process.returncode != 0:
                record.trouble = f"{box} ended with {worker.process.returncode} after SIGTERM"
        finally:
            if worker.is_running:
                worker.kill()
            drill.cluster.workers.pop(box, None)


def revoke(drill, record, index):
    """Its key is taken back while it computes; later its box enrols with a new one, as an operator would do it."""
    cluster = drill.cluster
    with drill.victim(index) as worker:
        with drill.taken("coordinator"):
            key = key_of(cluster, worker.name)
        record.strike(worker.name)
        cluster.must("key", "revoke", key[:16], "--state", cluster.state("coordinator"))
        try:
            yield Until(lambda: drill.status() and worker.name not in drill.names(), NOTICE_SECONDS, f"the revoked {worker.name} is gone")
            yield RESTART_SECONDS
            # Its process still runs and knocks; it must not come back by itself.
            if worker.name in drill.names():
                record.trouble = f"{worker.name} is back with its revoked key"
        finally:
            worker.kill()
            cluster.enrol_worker(worker.name)
        yield from drill.present(worker.name)


def tamper_data(drill, record, index):
    """Wrong bytes on the way from one stage to the next."""
    stages = drill.stages()
    if len(stages) < 2:
        raise Nobody
    first = index % (len(stages) - 1)
    yield from tamper(drill, record, stages[first], stages[first + 1], DATA_PORT)


def tamper_control(drill, record, index):
    """Wrong bytes on the way from a worker to the coordinator."""
    stages = drill.stages()
    if not stages:
        raise Nobody
    yield from tamper(drill, record, stages[index % len(stages)], "coordinator", CONTROL_PORT)


def tamper(drill, record, source, target, port):
    with drill.taken(source):
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tamper.py")
        record.strike(f"{source}>{target}")
        program = drill.process([*drill.network.inside(source), sys.executable, script, "eth0", drill.network.addresses[target], str(port), str(TAMPER_SECONDS)])
        yield Until(lambda: program.poll() is not None, TAMPER_SECONDS + 5, "the program that damages bytes ends")
        said = program.communicate()[0].split()
        record.detail = f"{said[0]} wrong segments, connection {said[1]}" if len(said) == 2 else "no segment seen"
        if said[1:] != ["ended"]:
            record.trouble = "the wrong bytes broke no connection, so nothing was tried"


def hostile(drill, record, index):
    """Malformed frames: at the coordinator's socket from a key that a token enrolled, at a worker's data socket from one that has stolen the key of the
    stage before it."""
    cluster, network, numbers = drill.cluster, drill.network, random.Random(index)
    stages = drill.stages()
    if len(stages) < 2:
        raise Nobody
    first = index % (len(stages) - 1)
    before, after = stages[first], stages[first + 1]
    with open(os.path.join(cluster.state("coordinator"), "coordinator")) as enrolment:
        server = bytes.fromhex(enrolment.read().split()[1])
    endpoint, own = f"tcp://{network.addresses['coordinator']}:{CONTROL_PORT}", strange.Keys()
    with drill.taken(before), drill.taken(after), drill.taken("coordinator"):
        newcomer = strange.Peer(endpoint, server, strange.Keys(bytes.fromhex(cluster.token().split(":")[-2])))
        if not newcomer.send(strange.enrol(1, own.public, b"hostile"), seconds=5) or newcomer.receive(5) != strange.ENROLLED:
            raise Failed("a good token does not enrol the hostile peer")
        newcomer.close()
        record.strike(f"coordinator, {after}")
        dropped = (cluster.counters() or {}).get("frames_dropped", 0)
        peer = strange.Peer(endpoint, server, own)
        # Admitted as long as that plan is in force: another fault may end it meanwhile.
        stolen = strange.Peer(f"tcp://{network.addresses[after]}:{DATA_PORT}", bytes.fromhex(key_of(cluster, after)), stolen_keys(cluster, before), strange.PUSH)
        sent = [0, 0]
        for number in range(HOSTILE_FRAMES):
            sent[0] += peer.send(malformed(numbers, 1), seconds=0.05)
            sent[1] += stolen.send(*[malformed(numbers, 3)] + [numbers.randbytes(numbers.randrange(5000))] * numbers.randrange(3), seconds=0.05)
            if number % 20 == 19:
                yield 0.1
        yield 0.5
        peer.close()
        stolen.close()
        now = (cluster.counters() or {}).get("frames_dropped", 0)
        record.detail = f"{sent[0]} and {sent[1]} frames sent, the coordinator dropped {now - dropped:.0f}"
        if sent[0] == 0 or now - dropped < sent[0] / 2 or sent[1] == 0 and drill.stages() == stages:
            record.trouble = f"the frames did not arrive: {record.detail}"
        cluster.must("key", "revoke", own.public.hex()[:16], "--state", cluster.state("coordinator"))


def malformed(numbers, kind):
    """A damaged frame, noise, or one with another protocol's number."""
    good = [strange.worker_hello(b"hostile"), strange.STATUS_QUERY, strange.frame(strange.field(1, strange.field(1, 1 << 40) + numbers.randbytes(60)), kind=kind)]
    choice = numbers.randrange(5)
    if choice == 0:
        return numbers.randbytes(numbers.randrange(200))
    if choice == 1:
        return strange.frame(numbers.randbytes(100), kind=kind, major=9)
    data = bytearray(strange.frame(numbers.choice(good)[8:], kind=kind))
    for _ in range(numbers.randint(2, 8)):
        data[numbers.randrange(4, len(data))] = numbers.randrange(256)
    # Surely no message: a field that ends beyond the frame.
    return bytes(data) + b"\x0a\xff\x7f"


def key_of(cluster, name):
    """The public key, as hexadecimal digits, of the peer that is called so."""
    for line in cluster.must("key", "list", "--state", cluster.state("coordinator")).splitlines():
        key, role, *words = line.split()
        if role != "revoked" and " ".join(words) == name:
            found = key
    return found


def stolen_keys(cluster, name):
    """The newest key of that box."""
    path = max(glob.glob(os.path.join(cluster.state(name) + ".*", "node.key")), key=os.path.getmtime)
    with open(path) as file:
        return strange.Keys(strange.Keys.bytes(file.read().strip().encode()))


# What is done, whether an epoch must be lost by it ("recover"), may be ("may"), or none may and nothing may be computed twice ("hand over"); how often
# a random run chooses it.
KINDS = {
    "kill -9 worker": (kill, "recover", 6),
    "kill -9 two workers": (kill_two, "recover", 1),
    "SIGSTOP worker": (stop, "recover", 3),
    "link down": (cut, "recover", 3),
    "stage link down": (part, "recover", 1),
    "half-open link": (half_open, "recover", 2),
    "stage thread stuck": (stick, "recover", 2),
    "slow worker": (limp, "none", 1),
    "200 ms delay": (slow, "may", 2),
    "kill -9 coordinator": (kill_coordinator, "restart", 2),
    "drain": (drain, "hand over", 3),
    "join, leave": (join_and_leave, "hand over", 2),
    "revoke key": (revoke, "recover", 1),
    "wrong bytes, data": (tamper_data, "recover", 2),
    "wrong bytes, control": (tamper_control, "may", 1),
    "malformed frames": (hostile, "none", 1),
}


def full_list(workers):
    """Every fault once, the loss of a stage once for each stage, a link half open either way."""
    twice = {"kill -9 worker": range(workers), "half-open link": (0, 1)}
    return [(kind, index) for kind in KINDS for index in twice.get(kind, (1,))]


def quick_list():
    return [("kill -9 worker", 1), ("SIGSTOP worker", 2), ("stage thread stuck", 1), ("drain", 0), ("join, leave", 0)]


def random_list(seconds, seed, mean_gap_seconds, gap_min_seconds=1.0):
    """Moments in seconds, kinds and indices: the same for the same seed."""
    numbers = random.Random(seed)
    kinds, weights = list(KINDS), [weight for _, _, weight in KINDS.values()]
    found, at = [], gap_min_seconds
    while at < seconds:
        found.append((at, numbers.choices(kinds, weights)[0], numbers.randrange(1 << 16)))
        at += gap_min_seconds + numbers.expovariate(1 / (mean_gap_seconds - gap_min_seconds))
    return found
