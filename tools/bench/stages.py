# SPDX-License-Identifier: GPL-2.0
"""The stages of the comparison, who takes part, and how results leave the VM."""

import json
import statistics

from bench import peers
from bench.workloads import WORKLOADS

# Each has a module of that name with a function run(options).
# `far` is the other VM of `apart`, and measures nothing.
STAGES = ("facts", "cost", "apart", "far", "pace", "delay", "speed", "scale", "resync", "failover", "memory")
MARK = "@bench "


def emit(stage, **result):
    """Reports a result."""
    print(MARK + json.dumps({"stage": stage, **result}), flush=True)


def chosen(options, everybody):
    """Those of the peers that the command line wants."""
    wanted = [name for name in options.only.split(",") if name]
    return [peer for peer in everybody if not wanted or peer.name in wanted]


def workloads(options):
    """Those of the workloads that the command line wants."""
    wanted = [name for name in options.workload.split(",") if name]
    return [workload for workload in WORKLOADS if not wanted or workload.name in wanted]


def everybody(bank, size):
    """All peers, each as it is compared in the main tables. `bank(n)` gives n servers of that size.

    They can be there at the same time: each has servers of its own, and numbers that no other has.
    """
    one, two, three, four = bank(1), bank(2), bank(2), bank(2)
    return [
        peers.NullBlk(size), peers.NbdKo(one[0]), peers.Enbd(bank(1)), peers.Md(two, bitmap=True, number=0),
        peers.Md(three, bitmap=False, number=1), peers.Drbd(size), peers.Enbd(four, letter="b"),
    ]


def median_of(rounds, key):
    """The median of one figure."""
    return statistics.median(one[key] for one in rounds)
