# SPDX-License-Identifier: GPL-2.0
"""The tables that Documentation/bench.rst and performance.rst include, made of a file of figures."""

import dataclasses
import statistics
import textwrap

from bench.tables import short
from bench.workloads import WORKLOADS

LOADS = tuple(workload.name for workload in WORKLOADS)
SINGLE = ("nbd.ko", "enbd-1")
MIRROR = ("md+bitmap", "md", "drbd", "enbd-2")
# enbd's figure to the peer's.
RATIOS = (("enbd-1", "nbd.ko"), ("enbd-2", "md+bitmap"), ("enbd-2", "md"))
# Who loses a server or a connection.
PATIENT = ("nbd.ko", "md+bitmap", "md+bitmap, nbd -t 3", "enbd-1", "enbd-2")
LATENCIES = ("p50", "p99", "p999")
WIDTH = 100
NOTE = ".. Made by tools/bench/publish of {name}. Not to be edited."


@dataclasses.dataclass(frozen=True)
class Column:
    """Names what it shows: `figures(run, row)` gives the texts of one or several figures."""

    head: str
    text: object


def median(run, *path):
    """The median of the rounds, or nothing."""
    rounds = run.get(*path)
    return statistics.median(rounds) if rounds else None


def figure(*stage, peer, scale=1):
    """A column of one peer's medians."""
    def text(run, row):
        value = median(run, *stage, row, peer)
        return "" if value is None else short(value * scale)

    return Column(peer, text)


def ratio(*stage, one, other):
    """A column of how two peers compare."""
    def text(run, row):
        ours, theirs = median(run, *stage, row, one), median(run, *stage, row, other)
        return "" if ours is None or not theirs else f"{ours / theirs:.2f}"

    return Column(f"{one}/{other}", text)


def against(*stage):
    """Peers with one server and those that mirror, and how enbd compares."""
    return [*(figure(*stage, peer=peer) for peer in SINGLE + MIRROR),
            *(ratio(*stage, one=one, other=other) for one, other in RATIOS)]


def several(peer, stage, kinds, scale=1.0):
    """A column with a figure of each kind."""
    def text(run, row):
        values = [median(run, stage, kind, row, peer) for kind in kinds]
        return " ".join(short(value * scale) for value in values if value is not None)

    return Column(peer, text)


def rounds(peer, *stage):
    """A column with what each round gave."""
    return Column(peer, lambda run, row: " ".join(short(value) for value in run.get(*stage, row, peer)))


def apart():
    """A client whose servers are elsewhere."""
    stage = ("apart", "strings as one")
    peers = ("nbd.ko", "drbd-diskless", "enbd-1", "drbd", "enbd-2", "enbd-3")
    pairs = (("enbd-1", "drbd-diskless"), ("enbd-2", "enbd-1"))
    return [*(figure(*stage, peer=peer) for peer in peers), *(ratio(*stage, one=one, other=other) for one, other in pairs)]


def paths(run, *stage):
    """What stands between a stage and the peer, in the order of the file."""
    prefix = "/".join(stage) + "/"
    return list(dict.fromkeys(name[len(prefix):].rsplit("/", 1)[0] for name in run.figures if name.startswith(prefix)))


def by_channels(run, counted):
    """Cases with nbd.ko and enbd over several numbers of channels."""
    return [row for row in paths(run, "scale", "iops")
            if row.startswith(("channels", "delay")) and (", counted/" in row) == counted]


def by_groups(run):
    """Cases with one, two and three groups."""
    return [row for row in paths(run, "scale", "iops") if row.startswith(("groups", "limited"))]


def channels(peer):
    """A column with 1, 2, 4 and 8 channels."""
    def text(run, row):
        values = [median(run, "scale", "iops", row, f"{peer}-{count}ch") for count in (1, 2, 4, 8)]
        return " ".join("-" if value is None else short(value) for value in values) if any(values) else ""

    return Column(peer, text)


def resync_rows(run):
    """Cases, and in each who was measured."""
    return [f"{case}/{peer}" for case in ("post", "scattered", "full") for peer in (*MIRROR, "nbdcopy")]


def of_row(head, *stage):
    """A column for rows that name the peer too."""
    def text(run, row):
        value = median(run, *stage, row)
        return "" if value is None else short(value)

    return Column(head, text)


RESYNC = (
    of_row("MiB moved", "resync", "moved"), of_row("s", "resync", "seconds"), of_row("p99 reads ×", "resync", "read"),
    of_row("p99 writes ×", "resync", "write"), of_row("s under use", "resync", "seconds under use"),
)


def memory_rows(run):
    """All that was measured."""
    return [name.removeprefix("memory/") for name in run.figures if name.startswith("memory/")]


def fixed(*rows):
    """Rows that are always the same."""
    return lambda run: rows


# Each table by the name by which pages include it: what the first column has, the rows, the columns.
TABLES = {
    "cost": ("workload", fixed(*LOADS), against("cost", "all")),
    "client": ("workload", fixed(*LOADS), against("cost", "client")),
    "speed": ("workload", fixed(*LOADS), against("speed", "iops")),
    "latency": ("workload", fixed(*LOADS), [several(peer, "speed", LATENCIES, 0.001) for peer in (*SINGLE, "md", "enbd-2")]),
    "channels": ("case", lambda run: by_channels(run, False), [channels("nbd.ko"), channels("enbd-1")]),
    "channels counted": ("case", lambda run: by_channels(run, True), [channels("nbd.ko"), channels("enbd-1")]),
    "groups": ("case", by_groups, [figure("scale", "iops", peer=peer) for peer in ("enbd-1", "enbd-2", "enbd-3", "md")]),
    "resync": ("case, peer", resync_rows, RESYNC),
    "failover": ("what happened", fixed("nothing", "connection reset", "server killed", "connection reset, one server"),
                 [rounds(peer, "failover", "stall_ms") for peer in PATIENT]),
    "pace": ("workload", fixed(*LOADS), against("pace", "iops")),
    "pace latency": ("workload", fixed(*LOADS), [several(peer, "pace", LATENCIES, 0.001) for peer in (*SINGLE, "md", "enbd-2")]),
    "apart": ("workload", fixed(*LOADS), apart()),
    "memory": ("what", memory_rows, [of_row("MiB", "memory")]),
    "insn": ("workload", fixed(*LOADS),
             [figure("insn", "one group", peer=peer) for peer in ("nbd.ko", "before", "enbd-1", "bare")]
             + [ratio("insn", "one group", one="enbd-1", other="nbd.ko")]),
    "insn groups": ("workload", fixed(*LOADS),
                    [figure("insn", "two groups", peer=peer) for peer in ("md+bitmap", "before", "enbd-2")]
                    + [ratio("insn", "two groups", one="enbd-2", other="md+bitmap")]),
}


def grid(run, corner, rows, columns):
    """A simple table of reStructuredText, without the rows and columns in which nothing was measured."""
    texts = {row: [column.text(run, row) for column in columns] for row in rows}
    texts = {row: cells for row, cells in texts.items() if any(cells)}
    shown = [number for number in range(len(columns)) if any(cells[number] for cells in texts.values())]
    lines = [[corner, *(columns[number].head for number in shown)]]
    lines += [[row, *(cells[number] for number in shown)] for row, cells in texts.items()]
    if len(lines) == 1:
        return ["Not measured."]
    widths = [max(len(line[number]) for line in lines) for number in range(len(lines[0]))]
    rule = "  ".join("=" * width for width in widths)
    told = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return [rule, told[0], rule, *told[1:], rule]


def circumstances(run):
    """Of when, of what and on what."""
    lines = textwrap.wrap(f"Of {run.date}; " + ", ".join(f"{key} {value}" for key, value in run.circumstances.items()) + ".", WIDTH)
    for part in run.parts:
        words = f"{', '.join(part['stages'])}: commit {part['commit']}" + (f", {part['note']}" if part.get("note") else "") + "."
        lines += ["", *textwrap.wrap(words, WIDTH, initial_indent="- ", subsequent_indent="  ")]
    return lines


def remarks(run, name):
    """What is known of a table beside its figures."""
    lines = []
    for words in run.remarks.get(name, ()):
        lines += ["", *textwrap.wrap(words, WIDTH, initial_indent="- ", subsequent_indent="  ")]
    return lines


def document(run, name):
    """All tables, each between a line that begins it and one that ends it."""
    parts = {"circumstances": circumstances(run)}
    for title, (corner, rows, columns) in TABLES.items():
        parts[title] = [*grid(run, corner, rows(run), columns), *remarks(run, title)]
    lines = [".. SPDX-License-Identifier: GPL-2.0", NOTE.format(name=name)]
    for title, part in parts.items():
        lines += ["", f".. begin {title}:", "", *part, "", f".. end {title}:"]
    return "\n".join(lines) + "\n"
