# SPDX-License-Identifier: GPL-2.0
"""Instructions a request, in a VM whose clock counts instructions.

A job with N requests and one with 9 N are run in turn. The difference of what they cost is what 8 N requests cost:
starting and ending fio and reading the counters cancel out. What null_blk needs for the same is the load generator's.
"""

from bench import calm, counter, load
from bench.servers import MIB, bank
from bench.stages import chosen, emit, everybody, median_of, workloads

SIZE = 64 * MIB
# Requests of the short job. Bulk workloads are cheaper by the byte, and cost a thousand times more each.
SHORT = 250
SHORT_BULK = 24
FACTOR = 9
# What costs next to nothing is repeated more often, or chance would be as large.
MORE_OF_FLOOR = 8


def measure(peer, meter, wanted, rounds, share=1):
    """The cost of a request to a peer: for each workload one dictionary a round. `share` is of the usual length."""
    script = meter.script()
    jobs = []
    for workload in wanted:
        short = int((SHORT_BULK if workload.is_bulk else SHORT) * share)
        if peer.kind == "floor":
            short *= MORE_OF_FLOOR
        jobs.append(_job(f"{workload.name}.warm", workload, short))
        for number in range(rounds):
            jobs.append(_job(f"{workload.name}.short{number}", workload, short, script))
            jobs.append(_job(f"{workload.name}.long{number}", workload, short * FACTOR, script))
    directory, reports = load.run(peer.device, *jobs, common=["gtod_reduce=1"])
    return {
        workload.name: [_round(directory, reports, meter, workload, number) for number in range(rounds)]
        for workload in wanted
    }


def _job(name, workload, count, script=None):
    lines = workload.lines() + [f"number_ios={count}", "stonewall"]
    if script:
        lines += [f"exec_prerun={script}", f"exec_postrun={script}"]
    return load.job(name, *lines)


def _round(directory, reports, meter, workload, number):
    spent, requests = [], []
    for name in (f"{workload.name}.short{number}", f"{workload.name}.long{number}"):
        spent.append(meter.between(f"{directory}/{name}.prerun.txt", f"{directory}/{name}.postrun.txt"))
        requests.append(reports[name][workload.side]["total_ios"])
    count = requests[1] - requests[0]
    return {"requests": count, **meter.each(*spent, count)}


def run(options):
    """Each peer, each workload. One peer at a time: what others do when they idle would be counted too."""
    emit("cost", calm=calm.settle(time_leaps=True))
    with bank(2, SIZE) as servers:
        all_peers = everybody(lambda count: servers[:count], SIZE)
        for peer in chosen(options, all_peers[options.half - 1::2] if options.half else all_peers):
            with peer:
                emit("cost", peer=peer.name, kind=peer.kind, settings=peer.settings)
                meter = counter.Threads({server.process.pid for server in servers}, peer.is_server_thread)
                measured = measure(peer, meter, workloads(options), *((2, 0.3) if options.quick else (7, 1)))
                for name, rounds in measured.items():
                    emit("cost", peer=peer.name, workload=name, rounds=rounds)
                    _show(peer, name, rounds)


def _show(peer, name, rounds):
    total, server = median_of(rounds, "all"), median_of(rounds, "server")
    print(f"{peer.name:12} {name:18} {total:10.0f} instructions a request, by servers {server:10.0f},"
          f" by all else {total - server:10.0f}", flush=True)
