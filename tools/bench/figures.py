# SPDX-License-Identifier: GPL-2.0
"""Figures by name: what a run came out at, in a form that is kept, and that two runs can be compared in.

A name is a path, `STAGE/KIND/CASE/.../PEER`; its value is what each round gave, in ascending order. Units: instructions a request
(cost, apart), thousands of them an I/O (insn), requests a second (iops), microseconds (p50, p99, p999), MiB (moved), seconds,
milliseconds (stall_ms), MiB (memory); `read` and `write` of a resync are an application's p99 to that without one.
"""

import dataclasses
import json

from bench.workloads import WORKLOADS

FORMAT = 1
MIB = 1 << 20
# Kinds of figures of which more is better; of all others less is.
MORE_IS_BETTER = ("iops",)


class Malformed(Exception):
    """A file that is not one of figures."""


@dataclasses.dataclass
class Run:
    """One file. `parts` says of which commit which stages are, `remarks` by stage what no figure was kept of."""

    date: str
    circumstances: dict
    parts: list
    figures: dict
    remarks: dict = dataclasses.field(default_factory=dict)

    def get(self, *path):
        """The rounds of a figure, or nothing."""
        return self.figures.get("/".join(path), [])

    def write(self, path):
        """Writes it, a line for each figure, so that a diff of two is one of figures."""
        head = {"format": FORMAT, "date": self.date, "circumstances": self.circumstances, "parts": self.parts,
                "remarks": self.remarks}
        text = json.dumps(head, indent=1, ensure_ascii=False).removesuffix("\n}") + ',\n "figures": {\n'
        text += ",\n".join(f"  {json.dumps(name)}: {json.dumps(self.figures[name])}" for name in sorted(self.figures))
        with open(path, "w", encoding="utf-8") as file:
            file.write(text + "\n }\n}\n")


def read(path):
    """The run in a file."""
    try:
        with open(path, encoding="utf-8") as file:
            told = json.load(file)
        if told["format"] != FORMAT:
            raise Malformed(f"{path}: format {told['format']} is not known, {FORMAT} is")
        run = Run(told["date"], told["circumstances"], told["parts"], told["figures"], told["remarks"])
    except (ValueError, KeyError, TypeError) as error:
        raise Malformed(f"{path}: no file of figures: {error!r}") from error
    for name, rounds in run.figures.items():
        if not (isinstance(rounds, list) and rounds and all(isinstance(one, int | float) for one in rounds)):
            raise Malformed(f"{path}: {name}: {rounds!r} are no figures")
    return run


def of_run(found, date):
    """The file of what the VMs reported."""
    facts = found.facts[0] if found.facts else {}
    around = {"kernel": facts.get("kernel", "unknown"), "QEMU": found.host.get("qemu", "unknown"),
              "processor": found.host.get("processor", "unknown"), "QUICK": found.host.get("quick", "no")}
    figures = gather(found)
    stages = list(dict.fromkeys(name.split("/", 1)[0] for name in figures))
    return Run(date, around, [{"stages": stages, "commit": found.host.get("commit", "unknown")}], figures)


def gather(found):
    """All figures of what the VMs reported."""
    figures = {}

    def put(figure, *path):
        if figure is not None and figure.values:
            figures["/".join(path)] = sorted(rounded(value) for value in figure.values)

    for workload in (one.name for one in WORKLOADS):
        for peer in peers_of(found, "cost"):
            for part in ("all", "client"):
                put(found.net_cost(peer, workload, part), "cost", part, workload, peer)
        for peer in peers_of(found, "apart"):
            put(found.apart(peer, workload), "apart", "strings as one", workload, peer)
            put(found.apart(peer, workload, copies=True), "apart", "copies counted", workload, peer)
    for line in found.of("speed"):
        if "rounds" not in line:
            continue
        stage = "pace" if line["counted"] else "speed"
        put_rounds(put, line, stage, line["workload"], ("iops", "p50", "p99", "p999"))
    for line in found.of("scale"):
        if "rounds" in line:
            put_rounds(put, line, "scale", f"{line['case']}/{line['workload']}", ("iops", "p50", "p99"))
    for line in found.of("failover"):
        put_rounds(put, line, "failover", line["case"], ("stall_ms",))
    gather_resync(found, put)
    gather_memory(found, figures)
    return figures


def peers_of(found, stage):
    """Who was measured, but for the load generator's own part, which is subtracted."""
    return dict.fromkeys(line["peer"] for line in found.of(stage) if line.get("peer", "null_blk") != "null_blk")


def put_rounds(put, line, stage, case, kinds):
    """The figures of a line that has all peers."""
    for peer, rounds in line["rounds"].items():
        for kind in kinds:
            put(Values(one[kind] for one in rounds), stage, kind, case, peer)


def gather_resync(found, put):
    """The figures of bringing copies back."""
    for line in found.of("resync"):
        if "rounds" not in line:
            continue
        case, peer = line["case"], line["peer"]
        put(Values(one["moved"] / MIB for one in line["rounds"] if "moved" in one), "resync", "moved", case, peer)
        put(Values(one["seconds"] for one in line["rounds"] if "seconds" in one), "resync", "seconds", case, peer)
        for side in ("read", "write"):
            put(found.slowdown(peer, case, side), "resync", side, case, peer)
        put(Values(one["seconds"] for one in line.get("used", ())), "resync", "seconds under use", case, peer)


def gather_memory(found, figures):
    """The figures of memory, which has no rounds."""
    for line in found.of("memory", what="modules"):
        for who, size in line["bytes"].items():
            figures[f"memory/module/{who}"] = [rounded(size / MIB)]
    for line in found.of("memory", what="device"):
        figures[f"memory/device/{line['peer']}"] = [rounded(line["bytes"] / MIB)]
    for line in found.maps():
        figures[f"memory/map of a TiB/{line['share'] * 100:g} % dirty, {line['how']}/enbd"] = [rounded(line["tib"] / MIB)]
    for line in found.of("memory", what="peer"):
        figures[f"memory/a TiB/{line['peer']}"] = [rounded(line["bytes"] / MIB)]


class Values:
    """Rounds that need no more than to be listed."""

    def __init__(self, values):
        self.values = list(values)


def rounded(value):
    """Four digits that count, which is more than any of them is good for."""
    return float(f"{value:.4g}") if abs(value) < 1000 else round(value)
