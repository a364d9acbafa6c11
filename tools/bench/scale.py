# SPDX-License-Identifier: GPL-2.0
"""How throughput grows with channels and groups, over a slow network, and where servers are the limit."""

import contextlib

from bench import calm, peers
from bench.servers import MIB, bank, limited
from bench.speed import measure, show
from bench.stages import emit
from bench.workloads import named

SIZE = 16 * MIB
CHANNELS = (1, 2, 4, 8)
DELAYS_MS = (0.5, 5, 50)
# What a server may give out, so that it and not the processor is the limit.
LIMIT_BITS = 32 << 20
ALL = ("4k-randread-d32", "4k-randwrite-d32", "256k-read-d8", "256k-write-d8", "256k-read-d64", "256k-write-d64")


@contextlib.contextmanager
def delay(milliseconds):
    """Each packet takes so long, in either direction: an answer takes twice that."""
    peers.run("tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", f"{milliseconds}ms", "limit", "100000")
    try:
        yield
    finally:
        peers.run("tc", "qdisc", "del", "dev", "lo", "root")


def by_channels(stack):
    """nbd.ko and enbd with one server, for each number of channels."""
    for index, channels in enumerate(CHANNELS):
        (one,), (other,) = stack.enter_context(bank(1, SIZE)), stack.enter_context(bank(1, SIZE))
        yield peers.NbdKo(one, channels, index, name=f"nbd.ko-{channels}ch")
        yield peers.Enbd([other], channels, name=f"enbd-1-{channels}ch", letter="abcd"[index])


def by_groups(stack):
    """enbd with one, two and three servers."""
    for count in (1, 2, 3):
        servers = stack.enter_context(bank(count, SIZE))
        yield peers.Enbd(servers, name=f"enbd-{count}", letter="abc"[count - 1])


def by_limited_servers(stack):
    """enbd and md over servers that give out no more than a certain number of bytes a second."""
    for count in (1, 2, 3):
        servers = [stack.enter_context(limited(SIZE, LIMIT_BITS)) for _ in range(count)]
        yield peers.Enbd(servers, name=f"enbd-{count}", letter="abc"[count - 1])
    servers = [stack.enter_context(limited(SIZE, LIMIT_BITS)) for _ in range(2)]
    yield peers.Md(servers, bitmap=False)


def compare(case, make, workloads, rounds, seconds, pause=None):
    """All peers that `make` gives, at the same time, with each of the workloads."""
    with contextlib.ExitStack() as stack:
        everybody = list(make(stack))
        for peer in everybody:
            stack.enter_context(peer)
            emit("scale", case=case, peer=peer.name, settings=peer.settings)
        if pause:
            stack.enter_context(delay(pause))
        for workload in workloads:
            result = measure([(peer.name, peer.device) for peer in everybody], workload, rounds, seconds)
            emit("scale", case=case, workload=workload.name, rounds=result)
            print(f"-- {case}")
            show(workload.name, result)


def run(options):
    """Where the processors are the limit; and, with time for it, over slow networks and servers too."""
    emit("scale", calm=calm.settle())
    rounds, seconds = (1, 1) if options.quick else (3, 2)
    small = named("4k-randread-d32", "4k-randwrite-d32")
    compare("channels", by_channels, small, rounds, seconds)
    compare("groups", by_groups, small, rounds, seconds)
    slow("", rounds, 6, [(pause, 2 * seconds, ALL) for pause in DELAYS_MS])


def slow(words, rounds, limited_s, delays):
    """Slow servers and slow networks. `delays` has for each the time in ms, for how many seconds, which workloads."""
    compare(f"limited servers{words}", by_limited_servers, named("4k-randread-d32"), rounds, limited_s)
    for pause, seconds, names in delays:
        compare(f"delay {pause} ms{words}", by_channels, named(*names), rounds, seconds, pause)
