#!/usr/bin/env python3
"""Clients that leave: many streams at once, each closed at a random moment, then a look at what the server still holds.

Requirements: Python 3.9 or later, nothing else. Reads /metrics of the server and, for process ids given, /proc.

    python3 ops/clients/disconnect_storm.py http://127.0.0.1:8080 [--requests 2000] [--clients 64] [--seed 1] [--pid PID ...]

Exits 0 when every sequence is freed and nothing grew, 1 when not, 2 on wrong usage.
"""

import argparse
import http.client
import json
import os
import random
import socket
import struct
import sys
import threading
import time
import urllib.parse
import urllib.request

IDLE_GAUGES = ("staffel_num_requests_running", "staffel_num_requests_waiting", "staffel_num_choices_open")
# Memory that allocators and caches may keep; a leak of 2,000 streams would be more.
MEMORY_SLACK_BYTES = 32 << 20
# A wave that makes a process grow by less has filled nothing.
GROWTH_SEEN_BYTES = 4 << 20
FILLING_WAVES_MAX = 8


class Storm:
    def __init__(self, url, requests, clients, seed):
        parts = urllib.parse.urlsplit(url)
        self.url, self.host, self.port = url.rstrip("/"), parts.hostname, parts.port or 80
        self.requests, self.clients, self.seed = requests, clients, seed
        self.lock = threading.Lock()
        self.next = 0
        self.fates = {}

    def run(self, requests=None):
        """Runs `requests` requests over all clients and waits for the last of them."""
        self.next, self.end = 0, requests or self.requests
        threads = [threading.Thread(target=self.client) for _ in range(self.clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def run_largest(self, wave):
        """All clients at once with the largest request of the storm, each with a prompt of its own, read to the end: every KV block that the
        storm can need is written, and what is kept of finished requests grows by as much."""

        def largest(number):
            body = {"prompt": f"{wave} {number} " + "tell me a long story of rivers " * 9, "max_tokens": 200, "ignore_eos": True, "n": 2}
            request = urllib.request.Request(
                self.url + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
            urllib.request.urlopen(request, timeout=300).read()

        threads = [threading.Thread(target=largest, args=(number,)) for number in range(self.clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def client(self):
        while True:
            with self.lock:
                if self.next >= self.end:
                    return
                number, self.next = self.next, self.next + 1
            fate = self.request(random.Random(self.seed * 1_000_003 + number), number)
            with self.lock:
                self.fates[fate] = self.fates.get(fate, 0) + 1

    def request(self, rng, number):
        """One stream, left at a moment and in a manner that the seed decides."""
        path = "/v1/chat/completions" if rng.random() < 0.5 else "/v1/completions"
        body = {"stream": True, "max_tokens": rng.randint(20, 200), "ignore_eos": True, "seed": number, "n": rng.choice([1, 1, 1, 2])}
        text = " ".join(rng.choice(["tell", "me", "a", "long", "story", "of", "rivers"]) for _ in range(rng.randint(1, 60)))
        if path.endswith("chat/completions"):
            body["messages"] = [{"role": "user", "content": text}]
        else:
            body["prompt"] = text
        connection = http.client.HTTPConnection(self.host, self.port, timeout=300)
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            if rng.random() < 0.15:
                time.sleep(rng.random() * 0.05)
                return self.leave(connection, rng, "left before the headers")
            response = connection.getresponse()
            if response.status != 200:
                return f"status {response.status}"
            if rng.random() < 0.05:
                tail = response.read()[-40:]
                return "read to the end" if b"data: [DONE]" in tail else "ended without [DONE]"
            for _ in range(rng.randint(0, 20)):
                if not response.readline():
                    break
            return self.leave(connection, rng, "left in mid-stream")
        except (OSError, http.client.HTTPException) as error:
            return f"error {type(error).__name__}"
        finally:
            connection.close()

    @staticmethod
    def leave(connection, rng, fate):
        if connection.sock is not None and rng.random() < 0.3:
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return fate + " (reset)"
        return fate

    def metrics(self):
        text = urllib.request.urlopen(self.url + "/metrics", timeout=60).read().decode()
        values = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                values[name.split("{")[0]] = values.get(name.split("{")[0], 0) + float(value)
        return values

    def wait_until_idle(self, patience_seconds=60):
        deadline = time.monotonic() + patience_seconds
        while True:
            values = self.metrics()
            busy = {name: values[name] for name in IDLE_GAUGES if values[name] != 0}
            # The connection that asks is one.
            if values["staffel_connections_open"] > 1:
                busy["staffel_connections_open"] = values["staffel_connections_open"]
            if not busy:
                return {}
            if time.monotonic() > deadline:
                return busy
            time.sleep(0.1)


def fill(storm, pids):
    """Waves of the largest requests until one makes no process grow; how many it took. One that always grows is left for the storm to show."""
    resident = [process_usage(pid)[1] for pid in pids]
    for wave in range(1, FILLING_WAVES_MAX + 1):
        storm.run_largest(wave)
        before, resident = resident, [process_usage(pid)[1] for pid in pids]
        if wave > 1 and all(new <= old + GROWTH_SEEN_BYTES for old, new in zip(before, resident)):
            break
    return wave


def process_usage(pid):
    """Open descriptors, resident bytes, threads."""
    descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    pages = int(open(f"/proc/{pid}/statm").read().split()[1])
    return descriptors, pages * os.sysconf("SC_PAGESIZE"), len(os.listdir(f"/proc/{pid}/task"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pid", type=int, action="append", default=[], help="a process to watch; may be given again")
    parser.add_argument("--descriptor-slack", type=int, default=8)
    arguments = parser.parse_args()
    storm = Storm(arguments.url, arguments.requests, arguments.clients, arguments.seed)
    print(f"seed {arguments.seed}, {arguments.requests} requests, {arguments.clients} clients", flush=True)

    # Pools and caches fill first, and KV blocks get their memory when they are first written: as many as the busiest moment needs, and the
    # share in which common beginnings are kept. What grows after that is a leak.
    print(f"{fill(storm, arguments.pid)} waves until no process grew", flush=True)
    storm.run(min(arguments.requests, 2 * arguments.clients))
    problems = [f"after the first wave still busy: {busy}" for busy in [storm.wait_until_idle()] if busy]
    before = {pid: process_usage(pid) for pid in arguments.pid}
    metrics_before = storm.metrics()
    storm.fates = {}
    start = time.monotonic()
    storm.run()
    seconds = time.monotonic() - start
    busy = storm.wait_until_idle()
    if busy:
        problems.append(f"still busy a minute after the last client left: {busy}")
    after = {pid: process_usage(pid) for pid in arguments.pid}
    metrics_after = storm.metrics()

    for fate, count in sorted(storm.fates.items()):
        print(f"  {count:6}  {fate}")
        if fate.startswith(("error", "status 5", "status 4", "ended without")) and fate != "status 429":
            problems.append(f"{count} x {fate}")
    if "process_open_fds" in metrics_before:
        compare("gateway", (metrics_before["process_open_fds"], metrics_before["process_resident_memory_bytes"]),
                (metrics_after["process_open_fds"], metrics_after["process_resident_memory_bytes"]), arguments, problems)
    for pid in arguments.pid:
        compare(f"process {pid}", before[pid], after[pid], arguments, problems)
    print(f"{seconds:.1f} s, {metrics_after['staffel_clients_gone_total'] - metrics_before['staffel_clients_gone_total']:.0f} clients seen leaving")
    for problem in problems:
        print(f"FAIL  {problem}")
    if not problems:
        print("PASS  all sequences freed, no descriptors, memory or connections kept")
    sys.exit(1 if problems else 0)


def compare(name, before, after, arguments, problems):
    print(f"  {name}: descriptors {before[0]:.0f} -> {after[0]:.0f}, memory {before[1] / 2**20:.1f} -> {after[1] / 2**20:.1f} MiB")
    if after[0] > before[0] + arguments.descriptor_slack:
        problems.append(f"{name}: {after[0] - before[0]:.0f} descriptors more than before")
    if after[1] > before[1] + MEMORY_SLACK_BYTES:
        problems.append(f"{name}: {(after[1] - before[1]) / 2**20:.1f} MiB more than before")


if __name__ == "__main__":
    main()
