"""The drill as one SVG: tokens a second of all streams, a strip for each place of a stream, and where the faults struck."""

import math
from html import escape

WIDTH, MARGIN, RATE_HEIGHT, STRIP, GAP, LEGEND_LINE = 1400, 60, 220, 12, 3, 17
BIN_SECONDS = 0.25
LABEL_HEIGHT = 34
COLUMNS = 3


def write(path, drill):
    with open(path, "w") as file:
        file.write("\n".join(elements(drill)) + "\n")


def elements(drill):
    streams = [stream for stream in drill.traffic.streams if stream.began is not None]
    begin = min(stream.began for stream in streams)
    end = max([stream.ended or stream.began for stream in streams] + [record.over for record in drill.records])
    scale = (WIDTH - 2 * MARGIN) / (end - begin)
    slots = 1 + max(stream.slot for stream in streams)
    bins = math.ceil((end - begin) / BIN_SECONDS) + 1

    def x(moment):
        return MARGIN + (moment - begin) * scale

    total, by_slot = [0] * bins, [[0] * bins for _ in range(slots)]
    for stream in streams:
        for moment, count, before in zip(stream.times, stream.counts, [0] + stream.counts):
            place = int((moment - begin) / BIN_SECONDS)
            total[place] += count - before
            by_slot[stream.slot][place] += count - before
    top = MARGIN + LABEL_HEIGHT
    strips = top + RATE_HEIGHT + 38
    bottom = strips + slots * (STRIP + GAP)
    legend_lines = math.ceil(len(drill.records) / COLUMNS)
    height = bottom + 60 + legend_lines * LEGEND_LINE
    yield f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="11">'
    yield f'<rect width="{WIDTH}" height="{height}" fill="white"/>'
    yield (f'<text x="{MARGIN}" y="26" font-size="16">{len(streams)} streams, {slots} at once, {len(drill.records)} faults; '
           f'{escape(drill.network.kind)}; seed {drill.options.seed}</text>')
    yield from marks(drill.records, x, top, bottom)
    yield from rate(total, x, begin, top)
    for slot in range(slots):
        yield from strip([stream for stream in streams if stream.slot == slot], by_slot[slot], x, begin, strips + slot * (STRIP + GAP))
    yield f'<text x="{MARGIN}" y="{strips - 6}">each stream\'s tokens; grey: open, nothing comes; red: error</text>'
    yield from clock(begin, end, x, bottom)
    yield from legend(drill.records, begin, bottom + 50)
    yield "</svg>"


def marks(records, x, top, bottom):
    for number, record in enumerate(records, 1):
        at = x(record.at)
        yield f'<rect x="{at:.1f}" y="{top}" width="{max(1.0, x(record.over) - at):.1f}" height="{bottom - top}" fill="#e8590c" opacity="0.08"/>'
        yield f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{top - 4}" y2="{bottom}" stroke="#e8590c" stroke-width="1"/>'
        # Neighbours stand above each other.
        yield f'<text x="{at:.1f}" y="{top - 8 - 12 * (number % 2)}" fill="#c2410c" text-anchor="middle">{number}</text>'


def rate(total, x, begin, top):
    rates = [count / BIN_SECONDS for count in total]
    highest = max(rates + [1.0])
    step = 10 ** math.floor(math.log10(highest))
    step = step if highest / step >= 3 else step / 2
    for line in range(1, int(highest / step) + 1):
        y = top + RATE_HEIGHT * (1 - line * step / highest)
        yield f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
        yield f'<text x="{MARGIN - 6}" y="{y + 4:.1f}" text-anchor="end">{line * step:g}</text>'
    points = [f"{x(begin):.1f},{top + RATE_HEIGHT}"]
    for place, value in enumerate(rates):
        y = top + RATE_HEIGHT * (1 - value / highest)
        points += [f"{x(begin + place * BIN_SECONDS):.1f},{y:.1f}", f"{x(begin + (place + 1) * BIN_SECONDS):.1f},{y:.1f}"]
    points.append(f"{x(begin + len(rates) * BIN_SECONDS):.1f},{top + RATE_HEIGHT}")
    yield f'<polygon points="{" ".join(points)}" fill="#1971c2" opacity="0.75"/>'
    yield f'<text x="{MARGIN}" y="{top + RATE_HEIGHT + 12}">tokens a second, all streams</text>'


def strip(streams, counts, x, begin, y):
    for stream in streams:
        ended = stream.ended or stream.began
        color = "#e03131" if stream.error else "#ced4da"
        yield f'<rect x="{x(stream.began):.1f}" y="{y}" width="{max(1.0, x(ended) - x(stream.began)):.1f}" height="{STRIP}" fill="{color}"/>'
    # Runs of like bins in one piece, so that hours stay a small file.
    most, place = max(counts + [1]), 0
    while place < len(counts):
        shade, first = math.ceil(4 * counts[place] / most), place
        while place < len(counts) and math.ceil(4 * counts[place] / most) == shade:
            place += 1
        if shade:
            left, right = x(begin + first * BIN_SECONDS), x(begin + place * BIN_SECONDS)
            yield f'<rect x="{left:.1f}" y="{y}" width="{right - left:.1f}" height="{STRIP}" fill="#1971c2" opacity="{0.25 + 0.1875 * shade:.2f}"/>'
    for stream in streams:
        yield f'<line x1="{x(stream.began):.1f}" x2="{x(stream.began):.1f}" y1="{y}" y2="{y + STRIP}" stroke="white" stroke-width="1.5"/>'


def clock(begin, end, x, bottom):
    step = next(step for step in (5, 10, 20, 30, 60, 120, 300, 600, 3600) if (end - begin) / step <= 24 or step == 3600)
    for number in range(int((end - begin) / step) + 1):
        at = x(begin + number * step)
        yield f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{bottom}" y2="{bottom + 5}" stroke="black"/>'
        yield f'<text x="{at:.1f}" y="{bottom + 18}" text-anchor="middle">{number * step} s</text>'


def legend(records, begin, y):
    lines = math.ceil(len(records) / COLUMNS)
    for number, record in enumerate(records):
        column, line = divmod(number, max(1, lines))
        facts = record.facts
        seen = f", noticed {facts['noticed']:.1f} s" if facts.get("noticed") is not None else ""
        seen += f", on again {facts['p95']:.1f} s" if facts.get("p95") is not None else ""
        words = f"{number + 1}  {record.kind}: {record.victim} at {record.at - begin:.0f} s{seen}"
        color = "#e03131" if record.trouble else "black"
        yield f'<text x="{MARGIN + column * (WIDTH - 2 * MARGIN) / COLUMNS:.0f}" y="{y + line * LEGEND_LINE}" fill="{color}">{escape(words)}</text>'
