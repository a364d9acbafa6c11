# SPDX-License-Identifier: GPL-2.0
"""What the VMs reported, to be asked for figures."""

import itertools
import json
import statistics

MARK = "@bench "
HOST = "@host "


class Figure:
    """One measured value: what each round gave."""

    def __init__(self, values):
        self.values = list(values)

    @property
    def median(self):
        """The value to compare."""
        return statistics.median(self.values)

    @property
    def spread(self):
        """Half of what lies between the least and the most, as a share of the median."""
        return (max(self.values) - min(self.values)) / 2 / abs(self.median) if self.median else 0.0

    def less(self, amount):
        """The figure without a constant part."""
        return Figure(value - amount for value in self.values)


class Results:
    """All lines of a log, by stage."""

    def __init__(self, path):
        self.lines, self.host, self.facts = [], {}, []
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith(HOST):
                    key, value = line[len(HOST):].rstrip("\n").split(" ", 1)
                    self.host[key] = value
                elif line.startswith(MARK):
                    self._take(json.loads(line[len(MARK):]))

    def _take(self, line):
        if line["stage"] == "facts":
            self.facts.append(line)
        else:
            self.lines.append(line)

    def of(self, stage, **wanted):
        """The lines of a stage that have these values."""
        return [line for line in self.lines
                if line["stage"] == stage and all(line.get(key) == value for key, value in wanted.items())]

    def settings(self):
        """How each peer was set up: the first time, which stands for the others."""
        found = {}
        for line in self.lines:
            if "settings" in line:
                where = ", in a VM of its own" if line["stage"] == "apart" else ""
                found.setdefault(line["peer"] + where, line["settings"])
        return found

    def cost(self, peer, workload, part="all"):
        """Instructions a request: `all`, `server`, or `client`, which is the rest. None if it was not measured."""
        rounds = self._costs("cost", peer, workload)
        if not rounds:
            return None
        if part == "client":
            return Figure(one["all"] - one["server"] for one in rounds)
        return Figure(one[part] for one in rounds)

    def net_cost(self, peer, workload, part="all"):
        """The same without the load generator, as far as that was measured."""
        figure, floor = self.cost(peer, workload, part), self.cost("null_blk", workload)
        return figure.less(floor.median) if figure and floor else figure

    def apart(self, peer, workload, copies=False):
        """What a request costs a client whose servers are elsewhere, without the load generator.

        With `copies` a repeated string instruction counts for each unit that it moves, else as one.
        """
        figure, floor = (
            Figure(one["all"] + (one["string"] if copies else 0) for one in self._costs("apart", name, workload))
            for name in (peer, "null_blk")
        )
        return figure.less(floor.median) if figure.values and floor.values else None

    def further(self, workload, copies=False):
        """What a second and a third group cost more than one less, as a share of what the first costs."""
        costs = [self.apart(f"enbd-{count}", workload, copies) for count in (1, 2, 3)]
        return [(more.median - less.median) / costs[0].median if costs[0] and less and more else None
                for less, more in itertools.pairwise(costs)]

    def _costs(self, stage, peer, workload):
        lines = [line for line in self.of(stage, peer=peer, workload=workload) if "rounds" in line]
        return lines[-1]["rounds"] if lines else []

    def speed(self, peer, workload, key="iops", counted=False):
        """Throughput, or a latency; on two processors, or where time counts instructions."""
        lines = [line for line in self.of("speed", workload=workload, counted=counted) if peer in line["rounds"]]
        return Figure(one[key] for one in lines[-1]["rounds"][peer]) if lines else None

    def last(self, stage, **wanted):
        """The last such line, or None."""
        return (self.of(stage, **wanted) or [None])[-1]

    def resync(self, peer, case, key):
        """`moved`, `dirty`, `wire`, `seconds` of a resync that nobody disturbed."""
        line = self.last("resync", peer=peer, case=case)
        if line is None or any(key not in one for one in line["rounds"]):
            return None
        return Figure(one[key] for one in line["rounds"])

    def resync_rate(self, peer):
        """Bytes a second of a full resync."""
        line = self.last("resync", peer=peer, case="full")
        return Figure(one["moved"] / one["seconds"] for one in line["rounds"]) if line else None

    def slowdown(self, peer, case, side):
        """An application's p99 during a resync, to the same without."""
        line = self.last("resync", peer=peer, case=case)
        if line is None or "used" not in line:
            return None
        return Figure(one["busy"][side] / one["quiet"][side] for one in line["used"])

    def scaled(self, case, peer, workload, key="iops"):
        """A figure of the stage that varies channels, groups and the network."""
        line = self.last("scale", case=case, workload=workload)
        return Figure(one[key] for one in line["rounds"][peer]) if line and peer in line["rounds"] else None

    def maps(self):
        """The dirty maps that were measured."""
        return self.of("memory", what="map")
