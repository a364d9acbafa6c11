# SPDX-License-Identifier: GPL-2.0
"""What the comparison has to come out at, and whether it does."""

from bench.workloads import COUNTED, WORKLOADS

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


# Whether what repeated string instructions move counts.
COPIES = ((False, "client alone"), (True, "client alone, copies counted"))


def _apart(found):
    for copies, words in COPIES:
        for workload in WORKLOADS:
            value = ratio(*(found.apart(peer, workload.name, copies) for peer in ("enbd-1", "drbd-diskless")))
            yield goal(f"instructions of {workload.name}, {words}, one group to DRBD without a disk", value, 1)
        for which, value in zip(("second", "third"), found.further("4k-randwrite-d32", copies), strict=True):
            yield goal(f"instructions of 4k-randwrite-d32, {words}, {which} group to the first", value, 0.8)


def _speed(found):
    for counted, words in ((True, "one processor, counted"), (False, "two processors")):
        def compared(one, other, name, counted=counted):
            return ratio(found.speed(one, name, counted=counted), found.speed(other, name, counted=counted))

        for workload in WORKLOADS:
            value = compared("enbd-1", "nbd.ko", workload.name)
            yield goal(f"throughput of {workload.name}, {words}, one group to nbd.ko", value, 1, at_most=False)
        for workload in WORKLOADS:
            value = compared("enbd-2", "md", workload.name)
            yield goal(f"throughput of {workload.name}, {words}, two groups to md without bitmap", value, 1,
                       at_most=False)
        value = compared("enbd-2", "md+bitmap", "4k-randwrite-d32")
        yield goal(f"throughput of 4k-randwrite-d32, {words}, two groups to md with bitmap", value, 1.5, at_most=False)


def _scale(found):
    name = "4k-randread-d32"
    for words in ("", COUNTED):
        case = f"limited servers{words}"
        value = ratio(found.scaled(case, "enbd-2", name), found.scaled(case, "enbd-1", name))
        yield goal(f"reads from two groups to one, {case}", value, 1.6, at_most=False)


def _resync(found):
    for case in ("post", "scattered"):
        value = ratio(found.resync("enbd-2", case, "moved"), found.resync("enbd-2", case, "dirty"))
        yield goal(f"bytes moved to dirty bytes, {case}", value, 1.05)
    value = ratio(found.resync("enbd-2", "scattered", "seconds"), found.resync("md+bitmap", "scattered", "seconds"))
    yield goal("time of a resync of scattered blocks to md's", value, 0.1)
    value = ratio(found.resync_rate("enbd-2"), found.resync_rate("nbdcopy"))
    yield goal("speed of a full resync to nbdcopy's", value, 0.9, at_most=False)
    for case in ("scattered", "full"):
        for side in ("read", "write"):
            figure = found.slowdown("enbd-2", case, side)
            yield goal(f"p99 of {side}s during a resync to without, {case}", figure and figure.median, 2)


def _memory(found):
    tables, pages = found.last("memory", what="table"), found.maps()
    clustered = [line["tib"] / (line["share"] * (1 << 20)) for line in pages
                 if line["how"] == "clustered" and line["share"] >= 0.01]
    yield goal("bytes of dirty map a MiB of clustered dirt, from 1 % of a TiB on", max(clustered, default=None), 40)
    worst = max((line["tib"] / (1 << 20) for line in pages), default=None)
    yield goal("MiB of dirty map a TiB at worst", worst if tables else None, 33)


JUDGES = (_cost, _apart, _speed, _scale, _resync, _memory)


def judge(found):
    """All goals."""
    return [one for judges in JUDGES for one in judges(found)]
