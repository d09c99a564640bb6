"""The drill itself: undisturbed first, then faults while streams run, then quiet again; what was seen is judged in verdict.py."""

import contextlib
import heapq
import subprocess
import sys
import threading
import time

import faults
from cluster import COUNTERS, HTTP_PORT, Failed, wait_until
from faults import Nobody, Record, Until
from streams import Stream, Traffic, make_requests

POLL_SECONDS = 0.1
# A status costs a process; several faults that wait at once share one.
STATUS_SECONDS = 0.4
COUNTER_SECONDS = 1.0
KV_SECONDS = 0.25
WHOLE_SECONDS = 90
STREAMS_SECONDS = 180
IDLE_SECONDS = 4.0
# Most streams have so many tokens, and all have run undisturbed for so long, before a fault of the list strikes.
TOKENS_BEFORE, FLOW_SECONDS = 4, 2.0
# Boxes that may be hit at the same time: those that are left have memory for the model.
TAKEN_MAX = 2
# How long a fault of a random run waits until there is somebody whom it may hit.
POSTPONED_SECONDS = 20.0
PREFILL_WORDS = 900


class Drill:
    def __init__(self, cluster, network, options):
        self.cluster, self.network, self.options = cluster, network, options
        self.began = time.monotonic()
        self.requests = make_requests(options.requests, options.tokens, options.seed)
        self.traffic = Traffic(network.addresses["gateway"], HTTP_PORT, self.requests, options.seed)
        self.further_box = f"w{cluster.worker_count + cluster.spares + 1}"
        self.records, self.skipped, self.programs, self.troubles = [], [], [], []
        self.plan, self.occupied, self.known_stages = [], set(), []
        self.asked, self.answer = 0.0, None
        self.kv_peak = 0
        self.totals, self.counted, self.counted_at = dict.fromkeys(COUNTERS, 0.0), None, 0.0

    def say(self, text):
        print(f"[{time.monotonic() - self.began:6.1f} s] {text}", file=sys.stderr, flush=True)

    # What faults ask for

    def status(self):
        if time.monotonic() - self.asked > STATUS_SECONDS:
            self.answer, self.asked = self.cluster.status(), time.monotonic()
        return self.answer

    def names(self):
        return {worker["name"] for worker in (self.status() or {"workers": []})["workers"]}

    def state(self, name):
        """What the coordinator calls a worker's state; `None` for one that it does not know."""
        return next((worker["state"] for worker in (self.status() or {"workers": []})["workers"] if worker["name"] == name), None)

    def stages(self):
        """Who computes; while nobody does, who did."""
        status = self.status()
        if status and status["state"] == "serving":
            self.known_stages = [stage["name"] for stage in status["pipeline"]["stages"]]
        return [name for name in self.known_stages if name in self.cluster.workers]

    def serves(self):
        return (self.status() or {}).get("state") == "serving"

    @contextlib.contextmanager
    def taken(self, what):
        """For one fault at a time."""
        if what in self.occupied:
            raise Nobody
        self.occupied.add(what)
        try:
            yield
        finally:
            self.occupied.discard(what)

    @contextlib.contextmanager
    def victim(self, index):
        """The worker that computes stage `index`, or the next one that no other fault has."""
        stages = self.stages()
        if not stages or sum(name in self.cluster.workers for name in self.occupied) >= TAKEN_MAX:
            raise Nobody
        for offset in range(len(stages)):
            name = stages[(index + offset) % len(stages)]
            if name not in self.occupied and self.cluster.workers[name].is_running:
                with self.taken(name):
                    yield self.cluster.workers[name]
                return
        raise Nobody

    def present(self, name):
        yield Until(lambda: name in self.names(), WHOLE_SECONDS, f"{name} is there again")

    def process(self, words):
        self.programs.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
        return self.programs[-1]

    # Phases

    def undisturbed(self):
        self.watch_kv()
        self.say(f"{len(self.requests)} distinct requests without a fault, {self.options.streams} at once")
        began = time.monotonic()
        self.expected = self.traffic.undisturbed(self.options.streams)
        wrong = [f"request {stream.number}: {stream.error}" for stream in self.expected.values() if stream.error]
        if wrong:
            raise Failed(f"{len(wrong)} undisturbed requests failed; {wrong[0]}")
        tokens, took = sum(len(stream.tokens) for stream in self.expected.values()), time.monotonic() - began
        self.tokens_per_second = tokens / took
        self.undisturbed_pause = max(stream.pause() for stream in self.expected.values())
        busy = self.memory()
        self.measure_prefill()
        self.say(f"{tokens} tokens in {took:.1f} s, longest pause {self.undisturbed_pause:.2f} s; a prompt takes {1000 / self.prefill_rate:.1f} s "
                 "for a thousand tokens")
        time.sleep(IDLE_SECONDS)
        # Where the layers were cut anew meanwhile, nothing was written into the new stages' KV blocks yet.
        self.baseline = {name: max(busy.get(name, memory), memory, key=resident) for name, memory in self.memory().items()}

    def measure_prefill(self):
        """Tokens a second of one long prompt that nobody has seen, through all stages."""
        words = " ".join(f"{number * 7919 % 1000}" for number in range(PREFILL_WORDS // 2))
        stream = Stream(self.traffic.address, self.traffic.port, -1, {"prompt": words, "max_tokens": 1, "temperature": 0}).run()
        if stream.error or not stream.times:
            raise Failed(f"the long prompt failed: {stream.error}")
        self.prefill_rate = stream.prompt_tokens / (stream.times[0] - stream.began)

    def watch_kv(self):
        """Notes for good how many KV blocks were in use at once: so many were written, and keep their memory."""
        def watch():
            while True:
                self.kv_peak = max(self.kv_peak, self.cluster.kv_blocks())
                time.sleep(KV_SECONDS)

        threading.Thread(target=watch, daemon=True).start()

    def memory(self):
        status = self.cluster.status()
        layers = {worker["name"]: worker["layers"][1] - worker["layers"][0] for worker in status["workers"]} if status else {}
        return {role.name: role.memory() | {"layers": layers.get(role.name, 0), "kv_blocks": self.kv_peak} for role in self.cluster.roles() if role.is_running}

    def begin_traffic(self):
        self.traffic.start(self.options.streams)
        self.count()
        self.await_streaming()

    def await_streaming(self):
        def flowing():
            self.count()
            streams = self.traffic.open_streams()
            return len(streams) >= self.options.streams and sum(len(stream.tokens) >= TOKENS_BEFORE for stream in streams) >= 0.75 * len(streams)

        wait_until(flowing, STREAMS_SECONDS, "the streams flow", POLL_SECONDS)

    def finish(self):
        self.say(f"no new streams; waiting for {len(self.traffic.open_streams())}")
        self.late = self.traffic.finish(STREAMS_SECONDS)
        try:
            wait_until(lambda: self.cluster.is_whole(), WHOLE_SECONDS, "at the end the cluster is whole", 0.5)
        except Failed as failure:
            self.troubles.append(str(failure))
        time.sleep(IDLE_SECONDS)
        self.count(force=True)
        self.final = self.memory()

    # Faults

    def run_list(self, kinds):
        """One after the other; the next one when the cluster is whole and the streams flow again."""
        for kind, index in kinds:
            self.await_streaming()
            time.sleep(FLOW_SECONDS)
            record = Record(kind, index)
            self.count(force=True)
            before, fault = dict(self.totals), faults.KINDS[kind][0](self, record, index)
            try:
                self.go(fault)
                self.settle(record)
            except Nobody:
                self.skipped.append((kind, "there was nobody whom it could hit"))
                continue
            except Failed as failure:
                record.trouble = str(failure)
                # Puts right what it has not yet.
                fault.close()
            record.over = record.over or time.monotonic()
            self.count(force=True)
            record.facts["counted"] = {name: self.totals[name] - before[name] for name in COUNTERS}
            self.records.append(record)
            yield record

    def go(self, fault):
        """To its end."""
        for wish in fault:
            if isinstance(wish, Until):
                wait_until(lambda wish=wish: self.count() and wish.condition(), wish.seconds, wish.what, POLL_SECONDS)
            else:
                wait_until(lambda until=time.monotonic() + wish: self.count() and time.monotonic() >= until, wish + 60, "time passes", 0.02)

    def settle(self, record):
        """All workers are back, and every stream that the fault hit has gone on or ended."""
        hit = self.traffic.open_streams(record.at)
        must_be_noticed = faults.KINDS[record.kind][1] == "recover"

        def settled():
            self.count()
            events = self.cluster.events("coordinator", record.wall)
            since = self.serves_since(record, events)
            if must_be_noticed and not any(map(faults.is_loss, events)):
                return False
            return self.cluster.is_whole() and all(stream.ended or stream.next_event(since) for stream in hit)

        wait_until(settled, WHOLE_SECONDS, f"after '{record.kind}' it is noticed, the cluster is whole and all streams go on", 0.2)
        record.over = time.monotonic()

    def serves_since(self, record, events=None):
        """Monotonic time from which tokens are of the time after the fault: what was on its way when it struck still comes for a while."""
        events = self.cluster.events("coordinator", record.wall) if events is None else events
        back = recovery(events)[1]
        marks = [back] if back else [event["at"] for event in events if faults.is_loss(event)]
        return max([record.wall, *marks]) - record.wall + record.at

    def run_random(self, plan):
        """Each at its time, beside those that still go on; one that can hit nobody is postponed, and after a while left out."""
        start, waiting, running = time.monotonic(), [(at, number, at, kind, index) for number, (at, kind, index) in enumerate(plan)], []
        heapq.heapify(waiting)
        while waiting or running:
            self.count()
            now = time.monotonic() - start
            if waiting and waiting[0][0] <= now:
                _, number, wanted_at, kind, index = heapq.heappop(waiting)
                record = Record(kind, index)
                fault = faults.KINDS[kind][0](self, record, index)
                step = Running(record, fault)
                if step.advance(self):
                    self.say(f"{kind}: {record.victim} {record.detail}")
                    running.append(step)
                    self.records.append(record)
                elif now - wanted_at < POSTPONED_SECONDS:
                    heapq.heappush(waiting, (now + 1.0, number, wanted_at, kind, index))
                else:
                    self.skipped.append((kind, f"nobody whom it could hit within {POSTPONED_SECONDS:g} s"))
            for step in running:
                step.advance_if_due(self)
            for step in [step for step in running if step.is_done]:
                running.remove(step)
                step.record.over = time.monotonic()
                if step.record.trouble:
                    self.say(f"{step.record.kind} {step.record.victim}: {step.record.trouble}")
            time.sleep(0.02)

    # Counters

    def count(self, force=False):
        """Adds what the coordinator counted since last time; a new one begins at zero. Always true, for use in conditions."""
        if not force and time.monotonic() - self.counted_at < COUNTER_SECONDS:
            return True
        self.counted_at = time.monotonic()
        found = self.cluster.counters()
        if found:
            before = self.counted if self.counted and self.counted["start"] == found["start"] else dict.fromkeys(COUNTERS, 0.0)
            if self.counted is None:
                before = found
            for name in COUNTERS:
                self.totals[name] += max(0.0, found[name] - before[name])
            self.counted = found
        return True


def resident(memory):
    return memory["anonymous"] + memory["mapped"]


def recovery(events):
    """Of what the coordinator logged from a fault on: when the first stage of the first new plan was assigned, and when all served again: the first
    time after the last loss that an epoch ended for. `None` for what is not there."""
    assigned = back = None
    for event in events:
        if event["message"] == "epoch ended":
            back = None
        elif event["message"] == "stage assigned":
            assigned = assigned or event["at"]
        elif event["message"] == "serving":
            back = back or event["at"]
    return assigned, back


class Running:
    """A fault of a random run, between two of its steps."""

    def __init__(self, record, fault):
        self.record, self.fault = record, fault
        self.is_done, self.wish, self.due, self.limit = False, None, 0.0, 0.0

    def advance(self, drill):
        """False when there was nobody whom it could hit."""
        try:
            self.wish = next(self.fault)
        except StopIteration:
            self.is_done = True
            return True
        except Nobody:
            self.is_done = True
            return bool(self.record.at)
        except Failed as failure:
            self.record.trouble, self.is_done = str(failure), True
            return True
        now = time.monotonic()
        if isinstance(self.wish, Until):
            self.limit = now + self.wish.seconds
        else:
            self.due = now + self.wish
        return True

    def advance_if_due(self, drill):
        if self.is_done:
            return
        now = time.monotonic()
        if not isinstance(self.wish, Until):
            if now >= self.due:
                self.advance(drill)
        elif self.wish.condition():
            self.advance(drill)
        elif now > self.limit:
            # Thrown in, so that the fault puts right what it can.
            try:
                self.fault.throw(Failed(f"{self.wish.what}: not within {self.wish.seconds:g} s"))
            except (Failed, StopIteration, Nobody) as failure:
                self.record.trouble = str(failure)
            self.is_done = True
