"""What a pipeline of two workers reaches. Started by ops/bench-pipeline.

Each worker has one thread and one processor; coordinator, gateway and this program run where the system puts them. What is compared is
measured in turn, in an order that changes from round to round, and the ratio within a round counts, so it does not matter that virtual
machines change their speed every few seconds.

    streams    tokens a second of 1, 4 and 8 streams beside llama.cpp over RPC with two servers of one thread; of 16 beside one worker
    idle       share of the time in which each stage had nothing to do, with 8 streams; and with a neighbour that takes half of a processor
    slow       the same with one worker slowed down to half, before and after the planner has cut anew; see bench_slow.py
    prefill    time to the first token of a prompt of 4,096 tokens, two workers beside one
    itl        time between tokens of running streams while such a prompt is prefilled, beside what it is without
    prefix     64 requests with the same 1,000 tokens first, with and without prefix sharing
    overhead   a step's time without what its stages compute, beside what libzmq alone takes, and what the threads that compute ask of the heap

Every output is compared with that of `staffel generate`.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import time

import bench_slow
from allocation_counts import AllocationCounts
from pipeline_cluster import Cluster, StageThread, Stream, run_streams, shared_window, tokens_per_second
from rpc_client import Peer

WORDS = (
    "the a relay team runner baton hands on over line river mountain bridge house garden window table letter music paper light water stone road "
    "field morning evening winter summer old young small large first last early late quiet loud carries keeps finds gives takes turns holds").split()

# Shape, layers. The first has the proportions of the 72B class, its output matrix as heavy as a layer and a half. The second can be cut into
# two even stages, and its context is long enough for a prompt of 4,096 tokens with others beside it.
LARGE = ("qwen2-72b", 4)
EVEN = ("mistral-7b", 17)
KIND = "q4_0"
# For what the machine itself takes: a few seconds.
HOP_SECONDS = 120


class Bench:
    def __init__(self, arguments):
        self.arguments = arguments
        self.quick = arguments.quick
        self.cpus = arguments.cpus
        self.rounds = arguments.rounds or (1 if arguments.quick else 3)
        self.outputs = []
        self.references = {}
        self.item = None
        self.clusters = 0

    def model(self, shape):
        """The file of that shape, made when it is first wanted and kept."""
        if self.quick:
            return self.arguments.small
        name, layers = shape
        path = os.path.join(self.arguments.cache, "models", f"synth-{name}-{layers}-{KIND}.gguf")
        if not os.path.exists(path):
            say(f"making {path}")
            partial = path + ".part"
            subprocess.run(
                [self.arguments.lab, "synth", "--shape", name, "--layers", str(layers), "--type", KIND, partial], check=True,
                stdout=subprocess.DEVNULL)
            os.rename(partial, path)
        return path

    def cluster(self, model, workers=2, **settings):
        say(f"starting a cluster of {workers} for {os.path.basename(model)}")
        # One pipeline over both, also where two of one stage each would give more tokens.
        settings["REPLICAS"] = "1"
        if self.arguments.traces:
            self.clusters += 1
            settings["TRACE"] = os.path.join(os.path.abspath(self.arguments.traces), f"{self.item}-{self.clusters}.json")
        return Cluster(
            self.arguments.staffel, model, self.cpus[:workers], memory="5GiB" if workers == 1 else "3GiB", context=8192, settings=settings)

    # MARK: Equality

    def note(self, model, streams):
        self.outputs += [(model, stream.body["prompt"], stream.tokens) for stream in streams]

    def check_outputs(self):
        """How many of the noted outputs equal what one process generates, and how many there are."""
        wanted = {}
        for model, prompt, tokens in self.outputs:
            wanted[model, prompt] = max(wanted.get((model, prompt), 0), len(tokens))
        for number, ((model, prompt), count) in enumerate(wanted.items()):
            if len(self.references.get((model, prompt), [])) < count:
                say(f"comparing with staffel generate, {number + 1} of {len(wanted)}")
                self.references[model, prompt] = self.generate(model, prompt, count)
        equal = sum(self.references[model, prompt][: len(tokens)] == tokens for model, prompt, tokens in self.outputs)
        result = {"equal": equal, "of": len(self.outputs)}
        self.outputs = []
        return result

    def generate(self, model, prompt, count):
        command = [
            self.arguments.staffel, "generate", model, "--prompt", "-", "--max-tokens", str(count), "--temperature", "0", "--ignore-eos", "--json"]
        done = subprocess.run(command, input=prompt.encode(), stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout)["choices"][0]["token_ids"]


def words(seed, count):
    chosen = random.Random(seed)
    return " ".join([f"{seed}:"] + [chosen.choice(WORDS) for _ in range(count)])


def text_of(cluster, seed, tokens):
    """Text of at most so many tokens, as near to it as whole words come."""
    fitting, too_many = 0, tokens + 1
    while too_many - fitting > 1:
        middle = (fitting + too_many) // 2
        if cluster.count_tokens(words(seed, middle)) <= tokens:
            fitting = middle
        else:
            too_many = middle
    return words(seed, fitting)


# MARK: The items


def streams(bench):
    """Item 1."""
    model = bench.model(LARGE)
    # Enough that the last of 16 prompts is there before the first stream ends.
    tokens = 64 if bench.quick else 40
    prompts = [words(f"stream {number}", 12) for number in range(16)]
    rounds = []
    with bench.cluster(model) as ours, bench.cluster(model, workers=1) as single:
        cut = [layers for _, layers in ours.stages()]
        encoded = {prompt: ours.post("/tokenize", {"prompt": prompt})["tokens"] for prompt in prompts}
        with Peer(bench, model, sequences=8, positions=64 + tokens) as peer:
            say("warming up")
            for warm in (ours, single):
                run_streams(warm, prompts, 8)
            for number in range(bench.rounds):
                say(f"streams: round {number + 1} of {bench.rounds}")
                rounds.append(streams_round(bench, model, ours, single, peer, prompts, encoded, tokens, is_first_ours=number % 2 == 0))
    figures = []
    for count, goal in ((1, 3), (4, 3), (8, 4.5)):
        mine = [values["ours"][count] for values in rounds]
        figures.append(rate(f"{count} stream{'s' * (count > 1)}", mine))
        if peer.is_there:
            theirs = [values["peer"][count] for values in rounds]
            figures.append(rate(f"{count} stream{'s' * (count > 1)}, llama.cpp", theirs))
            figures.append(ratio(f"{count} stream{'s' * (count > 1)}, ratio", mine, theirs, at_least=goal))
    two, one = [values["ours"][16] for values in rounds], [values["single"] for values in rounds]
    figures += [rate("16 streams, two workers", two), rate("16 streams, one worker", one), ratio("16 streams, ratio", two, one, at_least=1.5)]
    return {"figures": figures, "cut": cut, "outputs": bench.check_outputs()}


def streams_round(bench, model, ours, single, peer, prompts, encoded, tokens, is_first_ours):
    found = {"ours": {}, "peer": {}}

    def run(cluster, count):
        done = run_streams(cluster, prompts[:count], tokens)
        bench.note(model, done)
        return done

    for count in (1, 4, 8):
        # The peer is fed the tokens that were drawn here, which it needs to know first: when it comes first, those of the round before.
        if is_first_ours or not peer.is_there:
            done = run(ours, count)
            found["ours"][count] = tokens_per_second(done)
            peer.remember(count, [stream.tokens[:-1] for stream in done])
        if peer.is_there:
            found["peer"][count] = peer.tokens_per_second([encoded[prompt] for prompt in prompts[:count]], count)
        if not is_first_ours and peer.is_there:
            found["ours"][count] = tokens_per_second(run(ours, count))
    both = [(ours, "two"), (single, "one")]
    for cluster, name in both if is_first_ours else reversed(both):
        value = tokens_per_second(run(cluster, 16))
        if name == "two":
            found["ours"][16] = value
        else:
            found["single"] = value
    return found


def idle(bench):
    """Item 2."""
    model = bench.model(EVEN)
    tokens = 96 if bench.quick else 64
    found = {"alone": [], "neighbour later": [], "neighbour first": []}
    accounts = {name: [] for name in found}
    cuts = {}

    def measure(name, cluster):
        shares, account = idle_shares(bench, model, cluster, tokens)
        found[name].append(shares)
        accounts[name].append(account)

    for number in range(bench.rounds):
        say(f"idle: round {number + 1} of {bench.rounds}")
        with bench.cluster(model) as cluster:
            cuts["alone"] = cuts["neighbour later"] = [layers for _, layers in cluster.stages()]
            idle_shares(bench, model, cluster, 8)
            measure("alone", cluster)
            with Neighbour(bench.cpus[1]):
                measure("neighbour later", cluster)
        with Neighbour(bench.cpus[1]), bench.cluster(model) as cluster:
            cuts["neighbour first"] = [layers for _, layers in cluster.stages()]
            idle_shares(bench, model, cluster, 8)
            measure("neighbour first", cluster)
    figures = []
    for name, rows in found.items():
        for stage in range(2):
            # A neighbour that comes later is shown for what the planner has to put right; the goal is for cuts that know of it.
            figures.append(
                figure(f"stage {stage + 1} idle, {name}", "%", [100 * row[stage] for row in rows], at_most=None if "later" in name else 8))
            if all(accounts[name]):
                figures.append(figure(f"stage {stage + 1} idle, {name}, its own account", "%", [100 * row[stage] for row in accounts[name]]))
    missing = [] if all(map(all, accounts.values())) else ["the stages' own account of idle time: the status has none"]
    return {"figures": figures, "cut": cuts, "missing": missing, "outputs": bench.check_outputs()}


def idle_shares(bench, model, cluster, tokens):
    """By stage: the share of the time in which its thread neither ran nor waited for its processor, while all of 8 streams decode. And the same
    from the stages' own account, over the whole run; None where they keep none."""
    first = own_idle(cluster)
    threads = [StageThread(pid) for pid, _ in cluster.stages()]
    streams = [Stream(cluster, words(f"idle {number}", 12), tokens) for number in range(8)]
    for stream in streams:
        stream.start()
    for stream in streams:
        stream.first_token.wait()
    start, before = time.perf_counter(), [thread.times() for thread in threads]
    while all(len(stream.arrived) < tokens - 1 and stream.is_alive() for stream in streams):
        time.sleep(0.005)
    end, after = time.perf_counter(), [thread.times() for thread in threads]
    bench.note(model, [stream.finish() for stream in streams])
    last = own_idle(cluster)
    account = [(new[0] - old[0]) / (new[1] - old[1]) for old, new in zip(first, last)] if first else None
    return [1 - (sum(new) - sum(old)) / (end - start) for old, new in zip(before, after)], account


def own_idle(cluster):
    """By stage: seconds that it was idle, and seconds in all, since the epoch began; empty where the status has no such account."""
    stages = cluster.status().get("pipeline", {}).get("stages", [])
    return [(stage["total"]["idle_seconds"], stage["total"]["idle_seconds"] + stage["total"]["compute_seconds"]) for stage in stages]


class Neighbour:
    """A process that takes what it gets of one processor, for an hour at the most."""

    def __init__(self, cpu):
        self.code = f"import os, time\nos.sched_setaffinity(0, {{{cpu}}})\nend = time.monotonic() + 3600\nwhile time.monotonic() < end: pass"

    def __enter__(self):
        self.process = subprocess.Popen([sys.executable, "-c", self.code])
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def slow(bench):
    """Item 2, the uneven cut corrected by the planner."""
    return bench_slow.slow(bench, words, bench.model(EVEN), Neighbour, figure, say)


def prefill(bench):
    """Item 3."""
    model = bench.model(EVEN)
    prompt_tokens = 512 if bench.quick else 4096
    taken = {1: [], 2: []}
    with bench.cluster(model) as two, bench.cluster(model, workers=1) as one:
        cut = [layers for _, layers in two.stages()]
        for cluster in (one, two):
            run_streams(cluster, [words("warm", 200)], 1)
        for number in range(bench.rounds):
            prompt = text_of(two, f"prefill {number}", prompt_tokens)
            for cluster in (one, two) if number % 2 == 0 else (two, one):
                workers = len(cluster.cpus)
                say(f"prefill: round {number + 1} of {bench.rounds}, {workers} worker{'s' * (workers > 1)}")
                [stream] = run_streams(cluster, [prompt], 4)
                bench.note(model, [stream])
                taken[workers].append(stream.arrivals[0] - stream.started)
    figures = [
        figure("first token, two workers", "s", taken[2]), figure("first token, one worker", "s", taken[1]),
        ratio("first token, ratio", taken[2], taken[1], at_most=0.62)]
    return {"figures": figures, "cut": cut, "promptTokens": prompt_tokens, "outputs": bench.check_outputs()}


def itl(bench):
    """Item 4. Undisturbed before and after the prompt, in the same run."""
    model = bench.model(EVEN)
    undisturbed = 20 if bench.quick else 100
    calm, disturbed, seconds = [], [], []
    with bench.cluster(model) as cluster:
        run_streams(cluster, [words(f"itl {number}", 12) for number in range(4)], 8)
        for number in range(bench.rounds):
            say(f"itl: round {number + 1} of {bench.rounds}")
            prompt = text_of(cluster, f"long {number}", 1024 if bench.quick else 4096)
            streams = [Stream(cluster, words(f"itl {number} {index}", 12), 4000) for index in range(4)]
            for stream in streams:
                stream.start()
            wait_for(streams, undisturbed)
            long = Stream(cluster, prompt, 1)
            long.start()
            long.join()
            wait_for(streams, undisturbed, from_now=True)
            for stream in streams:
                stream.leave()
            bench.note(model, [stream.finish() for stream in [*streams, long]])
            start, end = long.started, long.arrivals[0]
            seconds.append(end - start)
            first, last = shared_window(streams)
            calm.append(percentile(gaps(streams, first, start, whole=True) + gaps(streams, end, last, whole=True), 99))
            disturbed.append(percentile(gaps(streams, start, end), 99))
    figures = [
        figure("p99 between tokens, undisturbed", "ms", [1e3 * value for value in calm]),
        figure("p99 between tokens, beside the prompt", "ms", [1e3 * value for value in disturbed]),
        ratio("p99 between tokens, ratio", disturbed, calm, at_most=2.5), figure("the prompt's first token", "s", seconds)]
    return {"figures": figures, "outputs": bench.check_outputs()}


def wait_for(streams, count, from_now=False):
    """Until each has brought so many chunks."""
    targets = [count + (len(stream.arrived) if from_now else 0) for stream in streams]
    while any(len(stream.arrived) < target and stream.is_alive() for stream, target in zip(streams, targets)):
        time.sleep(0.01)


def gaps(streams, start, end, whole=False):
    """Times between a stream's tokens that end in the window; with `whole` only those that begin there too."""
    return [
        later - earlier for stream in streams for earlier, later in zip(stream.arrivals, stream.arrivals[1:])
        if start < later <= end and (earlier >= start or not whole)]


def percentile(values, percent):
    if not values:
        raise SystemExit("no token came in the window that was to be measured")
    return sorted(values)[-(-len(values) * percent // 100) - 1]


def prefix(bench):
    """Item 5."""
    model = bench.arguments.small
    requests = 16 if bench.quick else 64
    taken = {"on": [], "off": []}
    computed = {"on": [], "off": []}
    ideal = []
    with bench.cluster(model, PREFIX_SHARING="on") as on, bench.cluster(model, PREFIX_SHARING="off") as off:
        for cluster in (on, off):
            run_streams(cluster, [words("warm", 200)], 1)
        for number in range(bench.rounds):
            common = text_of(on, f"common {number}", 1000)
            prompts = [f"{common} {words(f'own {number} {request}', 12)}" for request in range(requests)]
            lengths = [on.count_tokens(prompt) for prompt in prompts]
            shared = on.count_tokens(common) // 32 * 32
            ideal.append(sum(lengths) - (requests - 1) * shared)
            pair = [("on", on), ("off", off)]
            for name, cluster in pair if number % 2 == 0 else reversed(pair):
                say(f"prefix: round {number + 1} of {bench.rounds}, sharing {name}")
                before = cluster.status()
                start = time.perf_counter()
                done = run_streams(cluster, prompts, 8)
                taken[name].append(time.perf_counter() - start)
                after = cluster.status()
                positions, known = (after[key] - before[key] for key in ("prefill_positions", "prefill_positions_shared"))
                computed[name].append(positions - known)
                bench.note(model, done)
    figures = [
        figure("prompt positions computed, sharing", "", computed["on"]), figure("the same, without", "", computed["off"]),
        # 1: the full blocks of the common beginning were computed once.
        ratio("computed, of once the beginning and each its own", computed["on"], ideal, at_most=1),
        figure("time, sharing", "s", taken["on"]), figure("time, without", "s", taken["off"]), ratio("time, ratio", taken["on"], taken["off"])]
    return {"figures": figures, "requests": requests, "outputs": bench.check_outputs()}


def overhead(bench):
    """Item 6. With one stream the time between two tokens is one step's way: to the first stage, through both, and back."""
    model = bench.arguments.small
    tokens = 100 if bench.quick else 400
    found, hops, missing = [], [], set()
    with bench.cluster(model) as cluster:
        run_streams(cluster, [words("warm", 12)], 64)
        for number in range(bench.rounds):
            say(f"overhead: round {number + 1} of {bench.rounds}")
            stream = Stream(cluster, words(f"overhead {number}", 12), tokens)
            stream.start()
            wait_for([stream], 4)
            before, first = cluster.computed(), len(stream.arrived)
            wait_for([stream], tokens - 4)
            after, last = cluster.computed(), len(stream.arrived)
            bench.note(model, [stream.finish()])
            between = [1e6 * (later - earlier) for earlier, later in zip(stream.arrivals[first:last], stream.arrivals[first + 1 : last])]
            # Not what the threads ran: a stage that waits rehearses (Sources/Node/Rehearsal.swift).
            steps = after[2] - before[2]
            computed, wire = (1e6 * (new - old) / steps for new, old in zip(after[:2], before[:2]))
            found.append((statistics.median(between), statistics.mean(between), computed, wire, own_account(cluster, missing)))
            hops.append(two_hops(bench))
    figures = [
        figure("a step, p50", "us", [median for median, *_ in found]),
        figure("both stages' computing, mean", "us", [computed for _, _, computed, _, _ in found]),
        # With the steps that the coordinator sends among those that the stages add by themselves, and with what the client and the system add.
        # Less than nothing where the first stage begins before the last one has ended (Sources/ClusterCore/WorkerForetold.swift).
        figure("a step without it, mean", "us", [mean - computed for _, mean, computed, _, _ in found])]
    accounts = [own for *_, own in found]
    if None not in accounts:
        figures.append(figure("the coordinator's account, p50", "us", accounts, at_most=400))
    # What the same hops take where nothing hides them: the time of a step in which its stages do not compute it, by the coordinator's clock.
    wires = [wire for _, _, _, wire, _ in found]
    figures.append(figure("hops, hidden behind computing or not, mean", "us", wires))
    figures.append(figure("two hops by libzmq alone, p50 (lab bench hop)", "us", hops))
    figures.append(ratio("the hops, of libzmq's", wires, hops))
    own, in_turns = zip(*stage_allocations(bench, model))
    figures.append(figure("allocations of the stages' threads, a step", "", own, at_most=0))
    # Handing a step on is the sockets' work whoever does it, and so is what a stage rehearses while it waits.
    figures.append(figure("in their turns at the sockets and rehearsals", "", in_turns))
    return {"figures": figures, "missing": sorted(missing), "outputs": bench.check_outputs()}


def two_hops(bench):
    """What the machine itself takes for a step's way there and back in this minute: microseconds, where both processors compute before they send."""
    command = [bench.arguments.lab, "bench", "hop", "--json", "--cpus", ",".join(map(str, bench.arguments.cpus))]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=HOP_SECONDS)
    return 2e6 * json.loads(done.stdout)["computingSeconds"]["median"]


def stage_allocations(bench, model):
    """By stage, its own and those in turns at the worker's sockets, in a cluster of its own, because counting takes time. Between the 145th and the
    245th position or so: tables that double have their size then, and three blocks of keys and values are begun."""
    first, last = 120, 220
    with AllocationCounts() as counts, bench.cluster(model) as cluster:
        threads = [StageThread(pid).id for pid, _ in cluster.stages()]
        stream = Stream(cluster, words("allocations", 12), 250)
        stream.start()
        wait_for([stream], first)
        before, begin = [counts.of(thread) for thread in threads], len(stream.arrived)
        wait_for([stream], last)
        after, end = [counts.of(thread) for thread in threads], len(stream.arrived)
        bench.note(model, [stream.finish()])
    if not all(own for own, _ in before):
        raise SystemExit("the allocations of a stage's thread were not counted: not even its first ones")
    return [tuple((new - old) / (end - begin) for old, new in zip(*pair)) for pair in zip(before, after)]


def own_account(cluster, missing):
    """What the coordinator says a step's overhead is, in microseconds; None, with a word in `missing`, where it doesn't."""
    seconds = cluster.status().get("pipeline", {}).get("overhead_p50_seconds")
    if seconds is None:
        missing.add("the coordinator's own account: its status has no overhead_p50_seconds")
        return None
    return 1e6 * seconds


# MARK: Figures


def figure(name, unit, values, at_least=None, at_most=None):
    """The median of the rounds counts."""
    median = statistics.median(values)
    goal = at_least if at_least is not None else at_most
    reached = None if goal is None else median >= goal if at_least is not None else median <= goal
    return {
        "name": name, "unit": unit, "median": median, "min": min(values), "max": max(values), "rounds": values,
        "goal": None if goal is None else f"{'>=' if at_least is not None else '<='} {goal}", "reached": reached}


def rate(name, values):
    return figure(name, "tokens/s", values)


def ratio(name, values, others, **goal):
    return figure(name, "x", [value / other for value, other in zip(values, others)], **goal)


def show(item, result):
    print(f"\n{item}" + (f", layers {result['cut']}" if "cut" in result else ""))
    for row in result["figures"]:
        verdict = "" if row["reached"] is None else "reached" if row["reached"] else "MISSED"
        digits = 2 if abs(row["median"]) < 100 else 0
        print(
            f"  {row['name']:<50} {row['median']:>9.{digits}f} {row['unit']:<9} ({row['min']:.{digits}f} - {row['max']:.{digits}f})"
            f"{'   ' + row['goal'] if row['goal'] else '':<12} {verdict}")
    for line in result.get("missing", []):
        print(f"  not measured: {line}")
    outputs = result["outputs"]
    print(f"  {outputs['equal']} of {outputs['of']} outputs equal staffel generate's", flush=True)


def say(text):
    print(text, file=sys.stderr, flush=True)


ITEMS = {"streams": streams, "idle": idle, "slow": slow, "prefill": prefill, "itl": itl, "prefix": prefix, "overhead": overhead}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("items", nargs="*", help=", ".join(ITEMS))
    parser.add_argument("--staffel", required=True)
    parser.add_argument("--lab", required=True)
    parser.add_argument("--small", required=True, help="SmolLM2's file")
    parser.add_argument("--cache", required=True)
    parser.add_argument("--peer", help="an interpreter that has llama-cpp-python; without it llama.cpp is left out")
    parser.add_argument("--cpus", type=lambda text: [int(word) for word in text.split(",")], default=[0, 1])
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--slow", choices=["neighbour", "quota"], default="neighbour", help="how a worker is slowed down")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--traces", help="a folder for the step traces of each cluster")
    parser.add_argument("--json", help="a file for all figures")
    arguments = parser.parse_args()
    unknown = [item for item in arguments.items if item not in ITEMS]
    if unknown or len(arguments.cpus) != 2:
        parser.error(f"no item is called {unknown[0]}" if unknown else "--cpus takes two processors")
    bench = Bench(arguments)
    results = {}
    for bench.item in arguments.items or ITEMS:
        item = bench.item
        results[item] = ITEMS[item](bench)
        show(item, results[item])
        if arguments.json:
            pathlib.Path(arguments.json).write_text(json.dumps(results, indent=1) + "\n")
    sys.exit(any(result["outputs"]["equal"] < result["outputs"]["of"] for result in results.values()))


if __name__ == "__main__":
    main()
