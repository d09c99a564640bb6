"""What a drill showed: of each fault, of each request, of each process's memory; and whether that is what was promised."""

import json
import re
import statistics
import time

import faults
from drill import recovery, resident

# From a fault to the first word of it: the coordinator's, or of the coordinator's own death its peers'.
DETECTION_MAX_SECONDS = 2.0
DETECTED = ("kill -9 worker", "kill -9 two workers", "SIGSTOP worker", "link down", "stage link down", "half-open link", "stage thread stuck",
            "kill -9 coordinator", "revoke key")
# A hand-over may hold steps for so many times what one takes, and for the transfer of the last blocks.
HELD_STEPS = 2.0
# The formula: detection, loading, and so many times the prefill of the context that was lost.
PREFILL_FACTOR = 1.5
BOUND_KINDS = ("kill -9 worker",)
# A process may keep so much more of its own memory at the end than after the undisturbed run, which was its first work.
GROWTH_SHARE, GROWTH_BYTES, GROWTH_DESCRIPTORS = 0.25, 16 << 20, 16
SILENT = ("the coordinator is silent; connecting anew", "joined the cluster")


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] if values else None


class Verdict:
    def __init__(self, drill):
        self.drill, self.failures = drill, []
        self.wall_offset = time.time() - time.monotonic()
        self.streams = list(drill.traffic.streams)

    def judge(self):
        for record in self.drill.records:
            self.examine(record)
        for record in self.drill.records:
            record.facts["overlaps"] = self.overlaps(record)
        self.requests()
        for record in self.drill.records:
            self.hold(record)
        self.recoveries()
        self.memory()
        self.processes()
        return self

    def fail(self, text):
        self.failures.append(text)

    # Faults

    def examine(self, record):
        """Fills `facts`; done as soon as the fault is over, for the progress lines, too."""
        hit = [stream for stream in self.drill.traffic.streams if stream.is_open(record.at)]
        events = self.drill.cluster.events("coordinator", record.wall, record.over + self.wall_offset)
        noticed = self.noticed(record, events)
        facts = record.facts
        facts["hit"] = len(hit)
        facts["noticed"] = noticed - record.wall if noticed else None
        facts["reasons"] = [event["reason"] for event in events if event["message"] == "epoch ended"]
        since = self.drill.serves_since(record, events)
        moments = [stream.next_event(since) for stream in hit]
        lost = facts["reasons"] or faults.KINDS[record.kind][1] == "restart"
        facts["recovered"] = [moment - record.at for moment in moments if moment is not None] if lost else []
        facts["p50"], facts["p95"] = percentile(facts["recovered"], 0.5), percentile(facts["recovered"], 0.95)
        facts["pause"] = max((stream.pause(record.at, record.over) for stream in hit), default=0.0)
        facts["context"] = sum(self.drill.expected[stream.number].prompt_tokens + stream.tokens_by(record.at) for stream in hit)
        facts["told"] = next((event.get("reason", "") for event in events if faults.is_loss(event)), None)
        facts["held"] = [{key: int(event[key]) for key in HELD_FIELDS} for event in events if event["message"] == "layers were handed over"]
        facts["reload"] = self.reload(events) if lost else None
        facts["bound"] = DETECTION_MAX_SECONDS + (facts["reload"] or 0.0) + PREFILL_FACTOR * facts["context"] / self.drill.prefill_rate if lost else None

    def noticed(self, record, events):
        """Wall time of the first word of it."""
        if record.kind == "kill -9 coordinator":
            peers = [self.drill.cluster.events(role.name, record.wall) for role in self.drill.cluster.roles()[1:]]
            return min((event["at"] for events in peers for event in events if event["message"] in SILENT), default=None)
        names = record.victim.split(", ") if record.kind.startswith("kill") else None
        return next((event["at"] for event in events if faults.is_loss(event)
                     and (names is None or event["message"] != "worker lost" or event["name"] in names)), None)

    @staticmethod
    def reload(events):
        """From the first stage that was assigned until all served."""
        assigned, back = recovery(events)
        return max(0.0, back - assigned) if assigned and back else 0.0

    def overlaps(self, record, until=None):
        """Whether another fault struck until then, or while the streams of this one recovered."""
        until = until or record.at + (max(record.facts["recovered"], default=0.0) or 1.0)
        return any(other is not record and other.at < until and (other.over or until) > record.at for other in self.drill.records)

    def hold(self, record):
        """The promises about one fault."""
        facts, what = record.facts, f"{record.kind} of {record.victim}"
        is_hand_over = faults.KINDS[record.kind][1] == "hand over"
        # A hand-over may be given up for another fault's sake, and who sends nothing can't be tampered with; the streams have no excuse.
        may_be_in_vain = is_hand_over or record.kind.startswith(("wrong bytes", "malformed"))
        if record.trouble and not (may_be_in_vain and self.overlaps(record, record.over)):
            self.fail(f"{what}: {record.trouble}")
        if self.overlaps(record):
            return
        if record.kind in DETECTED and (facts["noticed"] is None or facts["noticed"] > DETECTION_MAX_SECONDS):
            found = "not noticed" if facts["noticed"] is None else f"noticed after {facts['noticed']:.2f} s"
            self.fail(f"{what}: {found}; {DETECTION_MAX_SECONDS:g} s are promised")
        wanted = faults.REASONS.get(record.kind)
        if wanted and not re.search(wanted, facts["told"] or ""):
            self.fail(f"{what}: taken for something else: {facts['told']}")
        if faults.KINDS[record.kind][1] == "none" and facts["reasons"]:
            self.fail(f"{what}: an epoch was lost for it: {facts['reasons'][0]}")
        counted = facts.get("counted")
        if is_hand_over and counted:
            if counted["recomputed"] or counted["recoveries"]:
                self.fail(f"{what}: {counted['recomputed']:.0f} positions computed twice, {counted['recoveries']:.0f} epochs lost; none are promised")
            if not counted["moved_bytes"]:
                self.fail(f"{what}: no keys and values moved")
            self.hold_pauses(what, facts["held"])

    def hold_pauses(self, what, held):
        if not held:
            self.fail(f"{what}: no hand-over was completed")
        for found in held:
            if not found["step_us"]:
                self.fail(f"{what}: no step's time was measured before its hand-over")
            elif found["pause_us"] > pause_allowed(found):
                self.fail(f"{what}: steps were held for {found['pause_us'] / 1e3:.0f} ms; {pause_allowed(found) / 1e3:.0f} ms are promised: {pause_words(found)}")

    def recoveries(self):
        """Every stream's time from a kill -9 until it went on, as a share of the formula's."""
        for record in self.drill.records:
            # A fault that hit nobody, or whose streams were not seen to go on, would keep any promise.
            if record.kind in BOUND_KINDS and not self.overlaps(record) and not (record.facts["recovered"] and record.facts["bound"]):
                self.fail(f"{record.kind} of {record.victim}: no stream was seen to go on after it, so its recovery can't be judged")
        held = [(record, moment) for record in self.drill.records if record.kind in BOUND_KINDS and not self.overlaps(record)
                for moment in record.facts["recovered"]]
        self.kill_times = [moment for _, moment in held]
        self.kill_shares = [moment / record.facts["bound"] for record, moment in held if record.facts["bound"]]
        share = percentile(self.kill_shares, 0.95)
        if share is not None and share > 1:
            self.fail(f"after kill -9 of a worker, streams went on at p95 after {share:.2f} times what detection + reload + "
                      f"{PREFILL_FACTOR:g} x prefill allows")

    # Requests

    def requests(self):
        expected = self.drill.expected
        self.wrong = [stream for stream in self.streams if stream.error]
        self.unequal = [stream for stream in self.streams if not stream.error and stream.answer != expected[stream.number].answer]
        for stream in self.wrong[:5]:
            self.fail(f"request {stream.number}, begun {stream.began - self.drill.began:.1f} s: {stream.error}")
        for stream in self.unequal[:5]:
            self.fail(f"request {stream.number}, begun {stream.began - self.drill.began:.1f} s: {difference(stream, expected[stream.number])}")
        if len(self.wrong) > 5 or len(self.unequal) > 5:
            self.fail(f"in all {len(self.wrong)} requests ended with an error, {len(self.unequal)} unequal")
        if len(self.streams) < self.drill.options.answers:
            self.fail(f"{len(self.streams)} requests while faults struck; {self.drill.options.answers} are wanted")

    # Processes

    def memory(self):
        """By process: its memory and descriptors after the undisturbed run and at the end; a worker may have got more layers. Own memory and mapped
        files count together: weights lie in its own when it has just packed them, and are mapped when it found them packed. A KV block takes memory
        from when it is first written, and by the end more may have been than in the undisturbed run."""
        self.memories = []
        block_bytes = self.drill.cluster.kv_block_bytes()
        workers = [found for name, found in self.drill.baseline.items() if name.startswith("w") and found["layers"]]
        for name, end in self.drill.final.items():
            begin = self.drill.baseline.get(name)
            # Who stood by then may compute now, and more than others did: it is held against those that computed, by the layer.
            if name.startswith("w"):
                begin = max(workers, key=resident)
            limit = resident(begin) * (1 + GROWTH_SHARE) * max(1.0, end["layers"] / max(1, begin["layers"])) + GROWTH_BYTES
            limit += (end["kv_blocks"] - begin["kv_blocks"]) * block_bytes * end["layers"]
            is_fine = resident(end) <= limit and end["descriptors"] <= begin["descriptors"] + GROWTH_DESCRIPTORS
            self.memories.append({"name": name, "begin": begin, "end": end, "limit": int(limit), "fine": is_fine})
            if not is_fine:
                self.fail(f"{name} has {mebibytes(resident(end))} MiB and {end['descriptors']} descriptors at the end; it had "
                          f"{mebibytes(resident(begin))} and {begin['descriptors']}; its descriptors: {end['kinds']}, before {begin['kinds']}")

    def processes(self):
        for trouble in self.drill.troubles:
            self.fail(trouble)
        for line in self.drill.cluster.errors()[:5]:
            self.fail(f"a log line that none should write: {line}")
        for role in self.drill.cluster.roles():
            if not role.is_running:
                self.fail(f"{role.name} has ended with {role.process.returncode}")

    # Words

    def lines(self):
        drill = self.drill
        yield f"{drill.cluster.worker_count} workers and {drill.cluster.spares} to spare, {drill.options.streams} streams at once, seed {drill.options.seed}"
        yield drill.network.kind
        yield ""
        yield from fault_table(drill.records, drill.began)
        yield ""
        counts = len(self.streams) - len(self.wrong) - len(self.unequal), len(self.unequal), len(self.wrong)
        pauses = [stream.pause() for stream in self.streams]
        yield (f"requests {len(self.streams)}: {counts[0]} equal to the undisturbed run, {counts[1]} unequal, {counts[2]} errors; "
               f"longest pause {max(pauses, default=0):.2f} s (undisturbed {drill.undisturbed_pause:.2f} s), median of pauses {statistics.median(pauses or [0]):.2f} s")
        if self.kill_times:
            yield (f"streams after kill -9 of a worker: p50 {percentile(self.kill_times, 0.5):.2f} s, p95 {percentile(self.kill_times, 0.95):.2f} s; "
                   f"of what the formula allows p50 {percentile(self.kill_shares, 0.5):.2f}, p95 {percentile(self.kill_shares, 0.95):.2f}")
        elif any(record.kind in BOUND_KINDS for record in drill.records):
            yield "no kill -9 of a worker struck alone: the time of recovery is not judged"
        held = [found for record in drill.records for found in record.facts["held"]]
        if held:
            worst = max(held, key=lambda found: found["pause_us"] / max(1.0, pause_allowed(found)))
            yield (f"hand-overs {len(held)}, of which the one nearest to its limit held steps for {worst['pause_us'] / 1e3:.0f} ms of "
                   f"{pause_allowed(worst) / 1e3:.0f} ms: {pause_words(worst)}")
        yield (f"in all {drill.totals['recoveries']:.0f} recoveries, {drill.totals['recomputed']:.0f} positions computed again, "
               f"{drill.totals['handovers']:.0f} hand-overs ({drill.totals['rolled_back']:.0f} rolled back), {mebibytes(drill.totals['moved_bytes'])} MiB moved, "
               f"{drill.totals['frames_dropped']:.0f} frames refused")
        if any(record.facts["overlaps"] for record in drill.records):
            yield "* another fault struck meanwhile: no time of it is judged"
        for kind, why in drill.skipped:
            yield f"left out: {kind}, {why}"
        yield ""
        yield from table(["process", "own MiB", "at the end", "mapped", "at the end", "in all", "at the end", "limit", "descriptors", "at the end"], [
            [found["name"], mebibytes(found["begin"]["anonymous"]), mebibytes(found["end"]["anonymous"]),
             mebibytes(found["begin"]["mapped"]), mebibytes(found["end"]["mapped"]), mebibytes(resident(found["begin"])), mebibytes(resident(found["end"])),
             mebibytes(found["limit"]), str(found["begin"]["descriptors"]), str(found["end"]["descriptors"])]
            for found in self.memories])
        yield f"KV blocks in use at once: {next(iter(drill.baseline.values()))['kv_blocks']} undisturbed, {drill.kv_peak} in all"
        yield ""
        for failure in self.failures:
            yield f"FAIL {failure}"
        if not self.failures:
            yield f"PASS {len(drill.records)} faults, {len(self.streams)} requests"

    def json(self):
        drill = self.drill
        return {
            "passed": not self.failures, "failures": self.failures, "seed": drill.options.seed, "links": drill.network.kind,
            "workers": drill.cluster.worker_count, "spares": drill.cluster.spares, "streams": drill.options.streams,
            "prefill_tokens_per_second": round(drill.prefill_rate, 1), "undisturbed_tokens_per_second": round(drill.tokens_per_second, 1),
            "undisturbed_longest_pause_seconds": round(drill.undisturbed_pause, 3), "totals": drill.totals,
            "requests": {"count": len(self.streams), "unequal": len(self.unequal), "errors": len(self.wrong),
                         "longest_pause_seconds": round(max((stream.pause() for stream in self.streams), default=0.0), 3)},
            "recovery_after_kill": {"p50_seconds": percentile(self.kill_times, 0.5), "p95_seconds": percentile(self.kill_times, 0.95),
                                    "p95_share_of_bound": percentile(self.kill_shares, 0.95)},
            "faults": [{"kind": record.kind, "victim": record.victim, "at_seconds": round(record.at - drill.began, 3), "detail": record.detail,
                        "over_seconds": round(record.over - drill.began, 3), "trouble": record.trouble,
                        **{key: value for key, value in record.facts.items()}} for record in drill.records],
            "planned": drill.plan, "skipped": drill.skipped, "memory": self.memories,
            "streams_detail": [{"request": stream.number, "began": round(stream.began - drill.began, 3), "ended": round((stream.ended or 0) - drill.began, 3),
                                "tokens": len(stream.tokens), "pause": round(stream.pause(), 3), "error": stream.error,
                                "remarks": [(round(at - drill.began, 3), text) for at, text in stream.remarks]} for stream in self.streams],
        }

    def write(self, path):
        with open(path, "w") as file:
            json.dump(self.json(), file, indent=1)


def difference(stream, expected):
    """The first thing that is not as it was."""
    for place, (found, wanted) in enumerate(zip(stream.tokens, expected.tokens)):
        if found != wanted:
            return f"token {place} is {found}, undisturbed it was {wanted}"
    if len(stream.tokens) != len(expected.tokens):
        return f"{len(stream.tokens)} tokens, undisturbed {len(expected.tokens)}"
    if stream.text != expected.text:
        return "the text differs, the tokens do not"
    return f"ends with {stream.finish}, undisturbed with {expected.finish}" if stream.finish != expected.finish else "log-probabilities differ"


HELD_FIELDS = ("pause_us", "step_us", "waited_for_steps_us", "last_blocks_us", "last_blocks_bytes", "change_us", "bytes")


def pause_allowed(found):
    """Of one hand-over: twice what a step took lately from its sending to its result, and the transfer of the last blocks. Microseconds."""
    return HELD_STEPS * found["step_us"] + found["last_blocks_us"]


def pause_words(found):
    return (f"a step takes {found['step_us'] / 1e3:.0f} ms, those in flight took {found['waited_for_steps_us'] / 1e3:.0f} ms, the last blocks "
            f"{found['last_blocks_us'] / 1e3:.0f} ms for {mebibytes(found['last_blocks_bytes'])} MiB of {mebibytes(found['bytes'])}, "
            f"the change {found['change_us'] / 1e3:.0f} ms")


def mebibytes(count):
    return f"{count / (1 << 20):.1f}"


def seconds(value):
    return "-" if value is None else f"{value:.2f} s"


def fault_row(record, began):
    facts, counted = record.facts, record.facts.get("counted")
    return [f"{record.at - began:.0f} s", record.kind + (" *" if facts.get("overlaps") else ""), record.victim, seconds(facts["noticed"]), seconds(facts["p50"]), seconds(facts["p95"]),
            seconds(facts["bound"]), seconds(facts["pause"]), f"{counted['recomputed']:.0f}" if counted else "", str(facts["context"]),
            mebibytes(counted["moved_bytes"]) if counted else "", held_cell(facts["held"]), record.trouble.split("\n")[0] or record.detail]


HEAD = ["at", "fault", "whom", "noticed", "on p50", "on p95", "allowed", "pause", "recomputed", "of context", "MiB moved", "held ms", ""]


def held_cell(held):
    """How long steps were held by each hand-over, of how long they may be."""
    return ", ".join(f"{found['pause_us'] / 1e3:.0f}/{pause_allowed(found) / 1e3:.0f}" for found in held)


def fault_table(records, began):
    return table(HEAD, [fault_row(record, began) for record in records])


def table(head, rows):
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
