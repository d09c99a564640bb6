#!/usr/bin/env python3
"""One client with hundreds of streams waiting, and another one's single request: who is held up by whom?

Requirements: Python 3.9 or later, nothing else.

    python3 ops/clients/fair_shares.py http://127.0.0.1:8080 --keys KEY_OF_MANY KEY_OF_ONE [--requests 500] [--tokens 48] [--singles 3]

First the single request alone, for comparison. Then the first key asks for --requests streams at once, and when tokens flow the second
key asks for one after another of its own. What is asserted is order, never a time: each single one has to be over before a twentieth of
the many that were open when it came, and more than what runs at once may not end before it; and every one of the many ends as it should.
Exits 0 when that holds, 1 when not, 2 on wrong usage.
"""

import argparse
import http.client
import json
import sys
import threading
import time
import urllib.parse

PATIENCE_SECONDS = 1200


class Crowd:
    """The many streams of one key, and what has become of them so far."""

    def __init__(self, url, key, requests, tokens):
        self.url, self.key, self.tokens = url, key, tokens
        self.lock = threading.Lock()
        self.first_tokens = self.ended = 0
        self.wrong = []
        self.threads = [threading.Thread(target=self.one, args=(number,), daemon=True) for number in range(requests)]

    def one(self, number):
        try:
            body = {"prompt": f"{number} stories of rivers and hills begin like this:", "seed": number}
            tokens = stream(self.url, self.key, body, self.tokens, self.first)
            fault = None if tokens == self.tokens else f"stream {number} has {tokens} tokens of {self.tokens}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            fault = f"stream {number}: {error}"
        with self.lock:
            self.ended += 1
            if fault:
                self.wrong.append(fault)

    def first(self):
        with self.lock:
            self.first_tokens += 1

    def counts(self):
        with self.lock:
            return self.first_tokens, self.ended

    def start(self):
        threading.stack_size(256 << 10)
        for thread in self.threads:
            thread.start()

    def wait(self):
        deadline = time.monotonic() + PATIENCE_SECONDS
        for thread in self.threads:
            thread.join(max(0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self.threads)


def stream(url, key, body, tokens, on_first):
    """Reads one stream to its end; how many tokens its usage names."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=PATIENCE_SECONDS)
    try:
        body = dict(body, max_tokens=tokens, ignore_eos=True, stream=True, stream_options={"include_usage": True})
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        connection.request("POST", "/v1/completions", json.dumps(body), headers)
        response = connection.getresponse()
        if response.status != 200:
            raise ValueError(f"status {response.status}, retry-after {response.headers.get('retry-after')}: {response.read().decode()}")
        count, done, begun = None, False, False
        for line in response:
            if line.startswith(b"data: [DONE]"):
                done = True
            elif line.startswith(b"data: "):
                event = json.loads(line[6:])
                if "error" in event:
                    raise ValueError(str(event["error"]))
                if event["choices"] and not begun:
                    begun = True
                    on_first()
                if event.get("usage"):
                    count = event["usage"]["completion_tokens"]
        if not done:
            raise ValueError("ended without [DONE]")
        return count
    finally:
        connection.close()


def single(url, key, tokens, number):
    """Seconds to the first token and to the end."""
    times = []
    begun = time.monotonic()
    count = stream(url, key, {"prompt": f"One question, number {number}:", "seed": number}, tokens, lambda: times.append(time.monotonic() - begun))
    if count != tokens:
        raise ValueError(f"the single request has {count} tokens of {tokens}")
    return times[0], time.monotonic() - begun


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--keys", nargs=2, required=True, metavar=("MANY", "ONE"), help="API keys of two clients of equal weight")
    parser.add_argument("--requests", type=int, default=500, help="streams of the first key")
    parser.add_argument("--tokens", type=int, default=48, help="tokens of each of these streams")
    parser.add_argument("--single-tokens", type=int, default=8, help="tokens of each single request")
    parser.add_argument("--singles", type=int, default=3, help="single requests, one after another")
    arguments = parser.parse_args()
    url, (many, one) = arguments.url.rstrip("/"), arguments.keys

    single(url, one, arguments.single_tokens, 0)
    idle_first, idle_end = single(url, one, arguments.single_tokens, 1)
    print(f"alone: first token after {idle_first * 1e3:.0f} ms, the end after {idle_end * 1e3:.0f} ms")

    crowd = Crowd(url, many, arguments.requests, arguments.tokens)
    crowd.start()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while crowd.counts()[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.005)

    failures = []
    for number in range(2, 2 + arguments.singles):
        begun_before, ended_before = crowd.counts()
        first, end = single(url, one, arguments.single_tokens, number)
        begun_after, ended_after = crowd.counts()
        left, overtakers = arguments.requests - ended_before, ended_after - ended_before
        print(
            f"beside {left} streams ({begun_before - ended_before} with tokens): first token after {first * 1e3:.0f} ms"
            f" ({first / idle_first:.1f} times as long as alone), the end after {end * 1e3:.0f} ms ({end / idle_end:.1f} times);"
            f" {begun_after - begun_before} of the many began and {overtakers} ended meanwhile")
        if left < arguments.requests / 2:
            failures.append(f"only {left} of the many were left when single request {number} came: give more --requests or --tokens")
        if overtakers > max(1, begun_before - ended_before, arguments.requests // 20):
            failures.append(f"single request {number} waited for {overtakers} of the {left} streams of the other key")
    if not crowd.wait():
        failures.append("some of the many streams never ended")
    failures += crowd.wrong[:5]
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    print("fair" if not failures else "not fair")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
