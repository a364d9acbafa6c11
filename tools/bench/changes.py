# SPDX-License-Identifier: GPL-2.0
"""What changed between two files of figures, and whether anything became worse.

enbd's own figures are judged; those of its peers are told, since they say what the machine was like. A figure is worse, or better,
if its median changed by more than what two runs of one driver differ by in that stage, and no round of one run is as good, or as
bad, as one of the other.
"""

import dataclasses
import statistics

from bench.figures import MORE_IS_BETTER

# By how much of the figure medians of two runs may differ, by stage: bench.rst says how much rounds do.
LIMITS = {"cost": 0.06, "apart": 0.25, "insn": 0.05, "pace": 0.03, "speed": 0.25, "scale": 0.25, "resync": 0.25,
          "failover": 1.0, "memory": 0.05}
# Latencies vary more, where time is counted too.
LATENCIES = ("p50", "p99", "p999")
LATENCY_LIMIT = 0.5
OURS = "enbd"


@dataclasses.dataclass(frozen=True)
class Change:
    """One figure in two runs."""

    name: str
    old: float
    new: float
    verdict: str

    @property
    def is_ours(self):
        """Whether it is one of enbd's."""
        return self.name.rsplit("/", 1)[1].startswith(OURS)

    def line(self):
        """For people."""
        times = f"{self.new / self.old:.2f}" if self.old else "-"
        return f"{self.verdict:7} {times:>5}  {self.old:>9g} -> {self.new:<9g} {self.name}"


def limit_of(name):
    """By how much of it a figure may change."""
    stage, kind = name.split("/")[:2]
    return max(LIMITS.get(stage, 0.25), LATENCY_LIMIT if kind in LATENCIES else 0)


def judge(name, old, new):
    """`same`, `better` or `worse`."""
    before, after = statistics.median(old), statistics.median(new)
    if abs(after - before) <= limit_of(name) * abs(before):
        return "same"
    if min(new) <= max(old) and min(old) <= max(new):
        return "same"
    has_grown = after > before
    return "better" if has_grown == (name.split("/")[1] in MORE_IS_BETTER) else "worse"


def changes(old, new):
    """All figures that both have."""
    return [Change(name, statistics.median(rounds), statistics.median(new.figures[name]), judge(name, rounds, new.figures[name]))
            for name, rounds in old.figures.items() if name in new.figures]


def report(old, new):
    """What to say, and whether one of enbd's figures is worse."""
    found = changes(old, new)
    ours = [change for change in found if change.is_ours]
    lines = [change.line() for verdict in ("worse", "better") for change in ours if change.verdict == verdict]
    peers = [change for change in found if not change.is_ours and change.verdict != "same"]
    if peers:
        lines += ["", "Peers, which are not judged:", *(change.line() for change in peers)]
    for words, one, other in (("only in the old run", old, new), ("only in the new run", new, old)):
        count = len(one.figures.keys() - other.figures.keys())
        if count:
            lines += ["", f"{count} figures are {words}."]
    counts = {verdict: sum(change.verdict == verdict for change in ours) for verdict in ("worse", "better", "same")}
    lines += ["", ", ".join(f"{count} {verdict}" for verdict, count in counts.items())]
    return lines, counts["worse"] > 0, bool(ours)
