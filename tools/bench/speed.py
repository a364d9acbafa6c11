# SPDX-License-Identifier: GPL-2.0
"""Throughput and latency, in a VM with two processors.

All devices are there at the same time and are used in turn, a second each, again and again: whatever else the machine
does meets all of them alike.
"""

import contextlib

from bench import calm, load
from bench.servers import MIB, bank
from bench.stages import chosen, emit, everybody, median_of, workloads

SIZE = 64 * MIB
# Filling takes its time, and where every instruction is counted a long time.
SMALL_SIZE = 16 * MIB
PERCENTILES = {"p50": "50.000000", "p99": "99.000000", "p999": "99.900000"}


def measure(named_devices, workload, rounds, seconds, warm=True):
    """Uses devices in turn, after a round for nothing: for each name a list with one dictionary a round."""
    # A job's name has to be plain, for fio.
    jobs = [_job("warm", device, workload, seconds) for _, device in named_devices if warm]
    for number in range(rounds):
        for index, (_, device) in enumerate(named_devices):
            jobs.append(_job(f"{index}-{number}", device, workload, seconds))
    _, reports = load.run(None, *jobs)
    return {
        name: [figures(reports[f"{index}-{number}"][workload.side]) for number in range(rounds)]
        for index, (name, _) in enumerate(named_devices)
    }


def _job(name, device, workload, seconds):
    timing = ["time_based=1", f"runtime={int(seconds * 1000)}ms", "stonewall"]
    return load.job(name, f"filename={device}", *workload.lines(), *timing)


def figures(side):
    """What counts of fio's report: throughput, and latencies in microseconds."""
    result = {"iops": side["iops"], "mib_s": side["bw_bytes"] / MIB, "max": side["clat_ns"]["max"] / 1000}
    for name, key in PERCENTILES.items():
        result[name] = side["clat_ns"].get("percentile", {}).get(key, 0) / 1000
    return result


def show(workload, result):
    """A line for people, a peer."""
    for name, rounds in result.items():
        middle = {key: median_of(rounds, key) for key in rounds[0]}
        print(f"{workload:20} {name:14} {middle['iops']:9.0f} IO/s {middle['mib_s']:8.1f} MiB/s"
              f"   p50 {middle['p50']:7.0f}  p99 {middle['p99']:7.0f}  p99.9 {middle['p999']:8.0f} us", flush=True)


def run(options):
    """Each workload, all peers, on two processors."""
    compare(options, calm.settle(), *((3, 0.5) if options.quick else (7, 2)), counted=False)


def compare(options, settings, rounds, seconds, counted):
    """All peers at once, used in turn. `counted` is whether the clock counts instructions."""
    emit("speed", calm=settings, counted=counted)
    size = SMALL_SIZE if counted or options.quick else SIZE
    with contextlib.ExitStack() as stack:
        peers = chosen(options, everybody(lambda count: stack.enter_context(bank(count, size)), size))
        for peer in peers:
            if peer.kind != "floor":
                stack.enter_context(peer)
                emit("speed", peer=peer.name, kind=peer.kind, settings=peer.settings)
        named = [(peer.name, peer.device) for peer in peers if peer.kind != "floor"]
        for workload in workloads(options):
            result = measure(named, workload, rounds, seconds, warm=not options.quick)
            emit("speed", workload=workload.name, rounds=result, counted=counted)
            show(workload.name, result)
