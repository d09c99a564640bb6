"""Boxes and the network between them: a network namespace each, links of a rate and a delay, and what can happen to these.

Everything is made below a process that is the first of its own process, mount and network namespaces (`apart`). Whatever becomes of that process, the
kernel ends all others below it and removes their namespaces and devices with the last one.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys

CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET = 0x00020000, 0x20000000, 0x40000000
MS_REC, MS_PRIVATE = 0x4000, 1 << 18
PR_SET_PDEATHSIG = 1

RATE = "1gbit"
RATE_BITS_PER_SECOND = 1_000_000_000
DELAY_MS = 1.0
SUBNET = "10.77.0"
# The box in which this program itself is: client and operator.
OWN_ADDRESS = f"{SUBNET}.254"
COMMAND_SECONDS = 20

HERE = os.path.dirname(os.path.abspath(__file__))


class Refused(Exception):
    """This machine does not allow what is asked; says why."""


def obstacle():
    """Why no boxes can be made here; `None` when they can."""
    if os.geteuid() != 0:
        return "network namespaces need root: run this as root, or with sudo"
    for tool, package in (("ip", "iproute2"), ("tc", "iproute2"), ("mount", "mount")):
        if not shutil.which(tool):
            return f"'{tool}' is not on PATH: install the package {package} (ops/setup --tests does it)"
    # In a child, for a namespace once left does not come back.
    code = subprocess.run(
        [sys.executable, "-c", f"import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare({CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID}))"], check=False)
    if code.returncode != 0:
        return "this machine lets nobody make namespaces (a container without CAP_SYS_ADMIN?): run this on the machine itself"
    if not has_netem() and not (os.path.exists("/dev/net/tun") and compiler()):
        return "the kernel has no netem, and for links without it /dev/net/tun and a C compiler are needed"
    return None


def has_netem():
    """Tried in a namespace of its own, which ends with the command."""
    tried = subprocess.run(
        ["unshare", "--net", "sh", "-c", f"ip link add a type veth peer name b && tc qdisc add dev a root netem delay 1ms rate {RATE}"],
        capture_output=True, check=False)
    return tried.returncode == 0


def compiler():
    return next(filter(None, map(shutil.which, ("cc", "clang", "gcc"))), None)


def apart(body):
    """Runs `body` as the first process of new namespaces; its exit code. SIGINT and SIGTERM of this process reach it once, as a KeyboardInterrupt."""
    libc = ctypes.CDLL(None, use_errno=True)
    sys.stdout.flush()
    if libc.unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET) != 0:
        raise Refused(f"namespaces can't be made: {os.strerror(ctypes.get_errno())}")
    signals = (signal.SIGINT, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    child = os.fork()
    if child == 0:
        # A terminal's Ctrl-C goes to its whole group: only the parent is in it.
        os.setsid()
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        for number in signals:
            signal.signal(number, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        code = 1
        try:
            private(libc)
            code = body()
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            code = 130
        except Exception:  # noqa: BLE001: the child ends here, with the trace that an uncaught one would have
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    for number in signals:
        signal.signal(number, lambda number, _: os.kill(child, signal.SIGINT))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if not os.WIFSIGNALED(status) else 1


def private(libc):
    """Mounts that nobody else sees: this namespace's processes, and a place for the names of network namespaces."""
    if libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) != 0:
        raise Refused(f"mounts can't be made private: {os.strerror(ctypes.get_errno())}")
    command("mount", "-t", "proc", "proc", "/proc")
    os.makedirs("/run/netns", exist_ok=True)
    command("mount", "-t", "tmpfs", "none", "/run/netns")


def command(*words):
    done = subprocess.run(words, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    if done.returncode != 0:
        raise Refused(f"'{' '.join(words)}' ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


class Network:
    """Boxes by name, with an address each, and links between them that delay what leaves a box: all to one switch, which is this program's own box."""

    def __init__(self, names, folder):
        self.addresses = {name: f"{SUBNET}.{index + 1}" for index, name in enumerate(names)}
        command("ip", "link", "set", "lo", "up")
        self.links = VethLinks(self.addresses) if has_netem() else WireLinks(self.addresses, folder)
        self.is_cut, self.is_slow = set(), set()

    @property
    def kind(self):
        return self.links.kind

    def inside(self, box):
        """The words before a command that is to run in a box; it keeps the process id."""
        return ["ip", "netns", "exec", box]

    def cut(self, box):
        self.is_cut.add(box)
        self.links.set_cut(box, True)

    def mend(self, box):
        self.is_cut.discard(box)
        self.links.set_cut(box, False)

    def delay(self, box, milliseconds):
        self.links.set_delay(box, milliseconds)

    def part(self, box, other):
        """What leaves `box` for `other` is lost; all else goes on."""
        command("ip", "-n", box, "route", "add", "blackhole", f"{self.addresses[other]}/32")

    def join(self, box, other):
        command("ip", "-n", box, "route", "del", "blackhole", f"{self.addresses[other]}/32")

    def end(self):
        self.links.end()
        for box in self.addresses:
            with contextlib.suppress(Refused, subprocess.TimeoutExpired):
                command("ip", "netns", "del", box)


def make_box(box):
    command("ip", "netns", "add", box)
    command("ip", "-n", box, "link", "set", "lo", "up")


class VethLinks:
    """veth pairs to a bridge, with the kernel's own netem where they leave a box."""

    kind = f"veth links, tc netem {DELAY_MS:g} ms, {RATE}"

    def __init__(self, addresses):
        command("ip", "link", "add", "switch", "type", "bridge")
        command("ip", "addr", "add", f"{OWN_ADDRESS}/24", "dev", "switch")
        command("ip", "link", "set", "switch", "up")
        for box, address in addresses.items():
            make_box(box)
            command("ip", "link", "add", f"to-{box}", "type", "veth", "peer", "name", "eth0", "netns", box)
            command("ip", "link", "set", f"to-{box}", "master", "switch", "up")
            command("ip", "-n", box, "addr", "add", f"{address}/24", "dev", "eth0")
            command("ip", "-n", box, "link", "set", "eth0", "up")
            command("tc", "-n", box, "qdisc", "add", "dev", "eth0", "root", "netem", "delay", f"{DELAY_MS:g}ms", "rate", RATE, "limit", "10000")

    def set_cut(self, box, is_cut):
        # At the switch: the box sees no carrier, its processes see nothing at all.
        command("ip", "link", "set", f"to-{box}", "down" if is_cut else "up")

    def set_delay(self, box, milliseconds):
        command("tc", "-n", box, "qdisc", "change", "dev", "eth0", "root", "netem", "delay", f"{milliseconds:g}ms", "rate", RATE, "limit", "10000")

    def end(self):
        pass


class WireLinks:
    """For a kernel without netem: TUN devices whose packets a program of ours delays (wire.c)."""

    kind = f"TUN links, {DELAY_MS:g} ms and {RATE} by ops/lib/drill/wire.c (this kernel has no netem)"

    def __init__(self, addresses, folder):
        program = os.path.join(folder, "wire")
        command(compiler(), "-O2", "-o", program, os.path.join(HERE, "wire.c"))
        # Above, the limit of a device's name is 15 bytes.
        devices = {box: f"to-{box}"[:15] for box in addresses}
        places = [f"{devices[box]}={address}" for box, address in addresses.items()] + [f"own={OWN_ADDRESS}"]
        self.devices = devices
        self.process = subprocess.Popen(
            [program, str(RATE_BITS_PER_SECOND), str(int(DELAY_MS * 1000)), *places], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.expect_ok("start")
        command("ip", "addr", "add", f"{OWN_ADDRESS}/24", "dev", "own")
        command("ip", "link", "set", "own", "up")
        for box, address in addresses.items():
            make_box(box)
            command("ip", "link", "set", devices[box], "netns", box)
            command("ip", "-n", box, "link", "set", devices[box], "name", "eth0")
            command("ip", "-n", box, "addr", "add", f"{address}/24", "dev", "eth0")
            command("ip", "-n", box, "link", "set", "eth0", "up")

    def expect_ok(self, order):
        answer = self.process.stdout.readline().strip()
        if answer != "ok":
            raise Refused(f"the program that is the links answered '{answer}' to '{order}'")

    def order(self, *words):
        line = " ".join(words)
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        self.expect_ok(line)

    def set_cut(self, box, is_cut):
        self.order("cut" if is_cut else "mend", self.devices[box])

    def set_delay(self, box, milliseconds):
        self.order("delay", self.devices[box], str(int(milliseconds * 1000)))

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
