# SPDX-License-Identifier: GPL-2.0
"""200 rounds of connect, enable, a little I/O, disable and reset, two groups with two channels each: no growth of slab, vmalloc,
threads, sockets or orphans, and every round in bounded time."""

import time

from lib import account, check, module, nbdinfo
from lib.disk import Disk
from lib.program import run as run_program
from lib.server import Nbdkit
from lib.store import Store

LIMIT_S = 300
ROUNDS = 200
# What the first rounds leave in caches for good is no leak.
WARM_UP = 20
ROUND_S = 5
# Freed in heaps, when many have come together.
LAZY = {"vmap_area"}


def run():
    # Each connection would be remembered for a minute after its end.
    run_program("sysctl", "-q", "net.ipv4.tcp_max_tw_buckets=0")
    with Nbdkit(Store("zero", 1 << 20)) as zero, Nbdkit(Store("one", 1 << 20)) as one:
        for number in range(WARM_UP):
            one_round(zero, one, number)
        before = take_stock()
        slowest = max(one_round(zero, one, number) for number in range(ROUNDS))
        check.that(slowest <= ROUND_S, f"the slowest round took {slowest:.1f} s")
        compare(before, settled(before))


def one_round(zero, one, number):
    """One round; gives its seconds. Both groups are at one server in each fourth."""
    began = time.monotonic()
    servers = (zero, one) if number % 4 else (zero, zero)
    for group, server in enumerate(servers):
        nbdinfo.command(f"connect[a]={group} {server.endpoint} name={server.export} channels=2 force")
    nbdinfo.command("enable[a]=1")
    with Disk().open() as disk:
        disk.write(0, bytes([number % 256]) * 16384)
        disk.flush()
    if number % 3 == 0 and number % 4:
        nbdinfo.command("setfaulty[a]=1", "hotadd[a]=1")
    nbdinfo.command("enable[a]=0")
    if number % 5:
        nbdinfo.command("reset[a]=1")
    else:
        nbdinfo.command("disconnect[a]=0", "disconnect[a]=1", "reset[a]=1")
    return time.monotonic() - began


def take_stock():
    """Numbers that must not grow."""
    return {
        "slab KiB": account.slab_kib(), "vmalloc KiB": account.vmalloc_kib(), "threads": len(module.threads()),
        "sockets": sum(account.sockets().values()), "orphans": account.orphans(), "objects": account.slab_objects(),
    }


def settled(before):
    """The numbers when sockets have ended that take a moment to."""
    check.until(lambda: sum(account.sockets().values()) <= before["sockets"], 20, "all sockets are closed")
    return take_stock()


def compare(before, after):
    """Fails if anything has grown by more than noise: less than one small object a round."""
    for name, least in (("threads", 0), ("sockets", 0), ("orphans", 0), ("slab KiB", 1024), ("vmalloc KiB", 512)):
        grown = after[name] - before[name]
        check.that(grown <= least, f"{name} grew by {grown} in {ROUNDS} rounds")
    grown = {name: count - before["objects"].get(name, 0) for name, count in after["objects"].items()}
    leaks = {name: count for name, count in grown.items() if count >= ROUNDS and name not in LAZY}
    check.equal(leaks, {}, f"slab caches with {ROUNDS} objects more")
