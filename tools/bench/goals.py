# SPDX-License-Identifier: GPL-2.0
"""What the comparison has to come out at, and whether it does."""

from bench.workloads import WORKLOADS

COST_SINGLE = ("4k-randread-d32", "4k-randwrite-d32", "256k-read-d8", "256k-write-d8")


def ratio(one, other):
    """How two figures compare, None where one is missing."""
    return one.median / other.median if one and other and other.median else None


def goal(what, value, limit, at_most=True):
    """One goal, judged."""
    met = None if value is None else (value <= limit if at_most else value >= limit)
    figure = None if value is None else f"{value:.3g}"
    return {"what": what, "figure": figure, "limit": f"{'≤' if at_most else '≥'} {limit:g}", "met": met}


def _cost(found):
    for workload in COST_SINGLE:
        for part, words in (("all", "whole path"), ("client", "client's side alone")):
            value = ratio(found.net_cost("enbd-1", workload, part), found.net_cost("nbd.ko", workload, part))
            yield goal(f"instructions of {workload}, {words}, one group to nbd.ko", value, 0.85)
    name = "4k-randwrite-d32"
    for part, words in (("all", "whole path"), ("client", "client's side alone")):
        value = ratio(found.net_cost("enbd-2", name, part), found.net_cost("md+bitmap", name, part))
        yield goal(f"instructions of {name}, {words}, two groups to md with bitmap", value, 0.6)
    for workload in WORKLOADS:
        value = ratio(found.net_cost("enbd-2", workload.name), found.net_cost("md", workload.name))
        yield goal(f"instructions of {workload.name}, whole path, two groups to md without bitmap", value, 1)
    for workload in WORKLOADS:
        value = ratio(found.net_cost("enbd-2", workload.name, "client"),
                      found.net_cost("drbd", workload.name, "client"))
        yield goal(f"instructions of {workload.name}, client's side alone, two groups to DRBD", value, 1)


def _speed(found):
    for workload in WORKLOADS:
        value = ratio(found.speed("enbd-1", workload.name), found.speed("nbd.ko", workload.name))
        yield goal(f"throughput of {workload.name}, one group to nbd.ko", value, 1, at_most=False)
    for workload in WORKLOADS:
        value = ratio(found.speed("enbd-2", workload.name), found.speed("md", workload.name))
        yield goal(f"throughput of {workload.name}, two groups to md without bitmap", value, 1, at_most=False)
    name = "4k-randwrite-d32"
    value = ratio(found.speed("enbd-2", name), found.speed("md+bitmap", name))
    yield goal(f"throughput of {name}, two groups to md with bitmap", value, 1.5, at_most=False)


JUDGES = (_cost, _speed)


def judge(found):
    """All goals."""
    return [one for judges in JUDGES for one in judges(found)]
