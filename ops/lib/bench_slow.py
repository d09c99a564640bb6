"""The item `slow` of ops/bench-pipeline: one of two workers is slowed down to half, and the planner cuts the layers anew.

Eight streams decode all the time. What is measured, each in a window of its own: undisturbed; slowed, while the cut is still the old one;
slowed, after the coordinator has cut anew (`--replan always`). Tokens a second come from the streams, idle shares from the stages' own account.
The neighbour spins on the worker's processor, or, with `--slow quota`, a control group gives the worker half of it (version 1 or 2,
where it may be written).
"""

import contextlib
import os
import pathlib
import statistics
import time

from pipeline_cluster import Stream

STREAMS = 8
# The coordinator looks every 2 s and wants a better cut to be one for 10 s.
RECUT_SECONDS = 90
GROUP = "staffel-bench-slow"


class Load:
    """So many streams at any time, one after the other in each place; the same few requests again and again, whose bytes never change."""

    def __init__(self, bench, model, cluster, words, tokens):
        self.bench, self.model, self.cluster, self.words, self.tokens = bench, model, cluster, words, tokens
        self.number = 0
        self.done, self.running = [], []

    def keep(self):
        """Starts what is missing; to be called often."""
        for stream in [stream for stream in self.running if not stream.is_alive()]:
            self.running.remove(stream)
            self.done.append(stream)
        while len(self.running) < STREAMS:
            stream = Stream(self.cluster, self.words(f"slow {self.number % STREAMS}", 12), self.tokens)
            self.number += 1
            self.running.append(stream)
            stream.start()

    def run(self, seconds, until=lambda: False):
        """Goes on for so long, or until something has happened; whether it has."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.keep()
            if until():
                return True
            time.sleep(0.05)
        return False

    def tokens_between(self, start, end):
        return sum(start < when <= end for stream in self.done + self.running for when, _ in list(stream.arrived))

    def finish(self):
        for stream in self.running:
            stream.join()
        streams = [stream.finish() for stream in self.done + self.running]
        self.bench.note(self.model, streams)


def window(load, seconds):
    """(tokens a second, idle share of each stage, its layers) while the load goes on."""
    before, start = account(load.cluster), time.perf_counter()
    load.run(seconds)
    end, after = time.perf_counter(), account(load.cluster)
    idle = [(new[1] - old[1]) / max(1e-9, new[1] + new[2] - old[1] - old[2]) for old, new in zip(before, after)]
    return load.tokens_between(start, end) / (end - start), idle, [stage[0] for stage in after]


def account(cluster):
    """By stage: (layers, seconds idle, seconds computing) since the epoch began."""
    return [
        (stage["layers"][1] - stage["layers"][0], stage["total"]["idle_seconds"], stage["total"]["compute_seconds"])
        for stage in cluster.status()["pipeline"]["stages"]]


def cut(cluster):
    return {name: tuple(layers) for name, layers in ((worker["name"], worker["layers"]) for worker in cluster.status()["workers"])}


def is_recut(cluster, before):
    """Whether all layers are served again, otherwise cut than before. Asks once a second."""
    state = {"next": 0.0}

    def look():
        if time.monotonic() < state["next"]:
            return False
        state["next"] = time.monotonic() + 1
        status = cluster.status()
        return cut(cluster) != before and bool(status["pipeline"]["stages"]) and all(
            worker["state"] == "serving" for worker in status["workers"])

    return look


@contextlib.contextmanager
def quota(pid):
    """Half a processor for a process, by a control group of version 2 or 1."""
    base = pathlib.Path("/sys/fs/cgroup")
    is_second = (base / "cgroup.controllers").exists()
    group = (base if is_second else base / "cpu") / GROUP
    home = (base if is_second else base / "cpu") / "cgroup.procs"
    try:
        group.mkdir()
        if is_second:
            (group / "cpu.max").write_text("50000 100000")
        else:
            (group / "cpu.cfs_period_us").write_text("100000")
            (group / "cpu.cfs_quota_us").write_text("50000")
        (group / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        if group.exists():
            group.rmdir()
        raise SystemExit(f"no control group can be made here ({error}): leave out --slow quota") from error
    try:
        yield
    finally:
        # Who ended already is no longer in it.
        with contextlib.suppress(OSError):
            home.write_text(str(pid))
        with contextlib.suppress(OSError):
            group.rmdir()


def slow(bench, words, model, neighbour, figure, say):
    """`neighbour(cpu)` is a context in which a process spins on that processor."""
    seconds = 6 if bench.quick else 20
    tokens = 300 if bench.quick else 64
    found = {"undisturbed": [], "slowed, old cut": [], "slowed, new cut": []}
    cuts, waits, missing = {}, [], []
    for number in range(bench.rounds):
        say(f"slow: round {number + 1} of {bench.rounds}")
        with bench.cluster(model, REPLAN="always") as cluster:
            load = Load(bench, model, cluster, words, tokens)
            load.run(seconds)
            found["undisturbed"].append(window(load, seconds))
            # By its place among the workers, so that it stays the same whoever has which layers.
            name, pid = cluster.workers[1]
            before = cut(cluster)
            with quota(pid) if bench.arguments.slow == "quota" else neighbour(bench.cpus[1]):
                started = time.perf_counter()
                found["slowed, old cut"].append(window(load, min(seconds, 6)))
                if load.run(RECUT_SECONDS, until=is_recut(cluster, before)):
                    waits.append(time.perf_counter() - started)
                    load.run(min(seconds, 4))
                    found["slowed, new cut"].append(window(load, seconds))
                    cuts["before and after"] = [before, cut(cluster)]
                else:
                    missing.append(f"round {number + 1}: no new cut within {RECUT_SECONDS} s of slowing {name}; the cut is {before}")
            load.finish()
    return {"figures": figures(found, waits, figure), "cut": cuts, "missing": missing, "outputs": bench.check_outputs()}


def figures(found, waits, figure):
    rows = []
    for name, windows in found.items():
        if not windows:
            continue
        rows.append(figure(f"8 streams, {name}", "tokens/s", [rate for rate, _, _ in windows]))
        for stage in range(2):
            # With the old cut one stage waits for the other: that is what the planner has to put right.
            goal = None if name == "slowed, old cut" else 8
            rows.append(figure(f"stage {stage + 1} idle, {name}", "%", [100 * idle[stage] for _, idle, _ in windows], at_most=goal))
    if waits:
        gains = [new[0] / old[0] for old, new in zip(found["slowed, old cut"], found["slowed, new cut"])]
        rows.append(figure("new cut over old, tokens", "x", gains, at_least=1))
        rows.append(figure("from slowing to the new cut served", "s", [statistics.median(waits)]))
    return rows
