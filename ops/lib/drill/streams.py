"""Clients: so many streams at once, a new one for each that ends, and what each of them got when."""

import http.client
import json
import random
import threading
import time

# A client that hears nothing for so long gives up; the gateway sends comments while it waits.
SILENCE_SECONDS = 60

OPENINGS = [
    "Once upon a time", "The history of the relay race begins", "Dear friend,\n", "A list of rivers in Europe: ", "def quicksort(items):\n",
    "The best way to cook rice is", "In the year 2150", "My grandmother always said that", "The lighthouse keeper wrote", "To repair a bicycle,",
]
QUESTIONS = [
    "Why is the sky blue?", "Tell me of a small town by the sea.", "How does a relay team hand the baton on?", "Write a poem about copper.",
    "What is a prime number?", "Explain tides to a child.",
]
# Of these long prompts are made, which take a while to compute.
WORDS = ("river stone lantern harbour winter copper engine garden letter window captain valley orchard signal bridge market thunder paper candle "
         "forest mirror station island silver meadow anchor village compass shelter blanket").split()


def make_requests(count, tokens, seed):
    """Distinct requests: greedy and sampled, completions and chats, short and long prompts, some with log-probabilities, some that end by themselves."""
    numbers = random.Random(seed)
    requests = []
    for index in range(count):
        length = numbers.randrange(tokens // 2, tokens + 1)
        filler = " ".join(numbers.choice(WORDS) for _ in range(numbers.randrange(150, 350))) if index % 3 == 2 else ""
        request = {"max_tokens": length, "ignore_eos": index % 8 != 7, "temperature": 0}
        if index % 2:
            request |= {"temperature": numbers.choice([0.7, 1.0, 1.3]), "top_p": 0.95, "seed": numbers.randrange(1 << 30)}
        if index % 5 == 1:
            request |= {"repetition_penalty": 1.1, "frequency_penalty": 0.3}
        if index % 4 < 2:
            request |= {"prompt": filler + OPENINGS[index % len(OPENINGS)]}
            if index % 8 == 4:
                request |= {"logprobs": 2}
        else:
            request |= {"messages": [{"role": "user", "content": f"{filler} {QUESTIONS[index % len(QUESTIONS)]}"}]}
            if index % 8 == 6:
                request |= {"logprobs": True, "top_logprobs": 2}
        requests.append(request)
    return requests


class Stream:
    """One request, from its first byte to its last."""

    def __init__(self, address, port, number, request):
        self.address, self.port, self.number, self.request = address, port, number, request
        self.text, self.tokens, self.finish, self.logprobs = "", [], [], {}
        self.remarks, self.error, self.is_done = [], None, False
        self.prompt_tokens = 0
        # When events with text came, and how many tokens had come by then; monotonic seconds.
        self.times, self.counts = [], []
        self.began = self.ended = None

    def run(self):
        self.began = time.monotonic()
        try:
            self.read()
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.error = f"{type(error).__name__}: {error}"
        if self.error is None and not self.is_done:
            self.error = "the stream ended without [DONE]"
        self.ended = time.monotonic()
        return self

    def read(self):
        connection = http.client.HTTPConnection(self.address, self.port, timeout=SILENCE_SECONDS)
        body = json.dumps({**self.request, "stream": True, "return_token_ids": True, "stream_options": {"include_usage": True}})
        path = "/v1/chat/completions" if "messages" in self.request else "/v1/completions"
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            self.error = f"status {response.status}: {response.read()[:300].decode(errors='replace')}"
            return
        for line in response:
            if line.startswith(b"data: [DONE]"):
                self.is_done = True
            elif line.startswith(b"data: "):
                self.take(json.loads(line[6:]))
            elif line.startswith(b":"):
                self.remarks.append((time.monotonic(), line[1:].decode().strip()))
        connection.close()

    def take(self, event):
        if "error" in event:
            self.error = json.dumps(event["error"])
        if event.get("usage"):
            self.prompt_tokens = event["usage"]["prompt_tokens"]
        for choice in event.get("choices", []):
            self.text += choice.get("text") or choice.get("delta", {}).get("content") or ""
            self.tokens += choice.get("token_ids") or []
            if choice.get("finish_reason"):
                self.finish.append(choice["finish_reason"])
            for name, values in (choice.get("logprobs") or {}).items():
                self.logprobs.setdefault(name, []).extend(values or [])
        if len(self.tokens) > (self.counts[-1] if self.counts else 0):
            self.times.append(time.monotonic())
            self.counts.append(len(self.tokens))

    @property
    def answer(self):
        """All that must not depend on the cluster's fate."""
        return self.text, self.tokens, self.finish, self.logprobs

    def is_open(self, at):
        return self.began <= at and (self.ended is None or self.ended > at)

    def tokens_by(self, at):
        """How many tokens had come by then."""
        found = 0
        for moment, count in zip(self.times, self.counts):
            if moment > at:
                break
            found = count
        return found

    def next_event(self, after):
        return next((moment for moment in self.times if moment > after), None)

    def pause(self, since=0.0, until=float("inf")):
        """The longest time between two events with tokens that overlaps the span; what lies after the span is another one's."""
        gaps = [min(b, until) - a for a, b in zip(self.times, self.times[1:]) if b > since and a < until]
        return max(gaps, default=0.0)


class Traffic:
    """Slots that each have one stream at a time."""

    def __init__(self, address, port, requests, seed):
        self.address, self.port, self.requests, self.seed = address, port, requests, seed
        self.streams, self.threads, self.is_ending = [], [], threading.Event()

    def stream(self, number):
        return Stream(self.address, self.port, number, self.requests[number])

    def undisturbed(self, at_once):
        """Each distinct request once, `at_once` at a time; its streams by the request's number."""
        waiting, found, lock = list(range(len(self.requests))), {}, threading.Lock()

        def work():
            while True:
                with lock:
                    if not waiting:
                        return
                    number = waiting.pop(0)
                found[number] = self.stream(number).run()

        threads = [threading.Thread(target=work, daemon=True) for _ in range(at_once)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found

    def start(self, slots):
        for slot in range(slots):
            thread = threading.Thread(target=self.fill, args=(slot, random.Random(f"{self.seed}/{slot}")), daemon=True)
            self.threads.append(thread)
            thread.start()

    def fill(self, slot, numbers):
        while not self.is_ending.is_set():
            stream = self.stream(numbers.randrange(len(self.requests)))
            stream.slot = slot
            stream.began = time.monotonic()
            self.streams.append(stream)
            stream.run()
            if stream.error:
                # A cluster that refuses at once is not asked a thousand times.
                self.is_ending.wait(0.5)

    def open_streams(self, at=None):
        at = time.monotonic() if at is None else at
        return [stream for stream in list(self.streams) if stream.is_open(at)]

    def finish(self, seconds):
        """No new streams; those that are open end within the limit, or are given by the number of those that did not."""
        self.is_ending.set()
        deadline = time.monotonic() + seconds
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        late = [stream for stream in self.streams if stream.ended is None]
        for stream in late:
            stream.error = stream.error or f"not ended {seconds} s after the last fault; {len(stream.tokens)} tokens came"
        return len(late)
