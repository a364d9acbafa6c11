# SPDX-License-Identifier: GPL-2.0
"""The device as swap of a machine that has no memory left, as a whole and not a cgroup of it: what could be freed can only go to
the device. Then all connections are cut, of all groups at once, again and again. They come back, though what they need to do so
cannot be freed before, nobody is killed for want of memory, and a program finds all of its own."""

import os

from lib import check
from lib.ballast import Ballast, Machine, counter, kept, memory, pin_down
from lib.feast import Feast
from lib.mirror import Mirror
from lib.program import run as run_program
from lib.server import Nbdkit

LIMIT_S = 900
MIB = 1 << 20
SIZE = 192 * MIB
# What the machine has left for the program, and what that uses.
LEFT, EATEN = 96 * MIB, 160 * MIB
CUTS = 3
# How long a round of the program may take.
ROUND_S = 400
# Pages that go out between two cuts: by then all memory is in use again.
BETWEEN = 500


class Apart(Nbdkit):
    """A server that stands for one on another machine: it and what it holds are never swapped out, and it may have memory when
    others have to wait for it. (What lies in a file may be, on this very device.)"""

    def __init__(self, store):
        super().__init__(store, plugin=["memory", str(SIZE), "allocator=malloc,mlock=true"])

    def argv(self):
        # With --swap the stacks of its threads are locked, each as long as it may get.
        return ["prlimit", f"--stack={256 << 10}", "chrt", "-f", "1", *super().argv(), "--swap", "--threads", "4"]


def run():
    with Mirror(kinds=[Apart, Apart], size=SIZE, settings=["timeout=20"]) as mirror:
        # By now the servers have all memory that they will ever need.
        for offset in range(0, SIZE, MIB):
            mirror.disk.write(offset, os.urandom(MIB))
        run_program("mkswap", mirror.disk.path)
        run_program("swapon", mirror.disk.path)
        pin_down()
        killed = counter("oom_kill")
        try:
            with Ballast(LEFT), Feast(Machine, "memory", EATEN, end_s=ROUND_S) as feast:
                feast.wait_for(1, ROUND_S, "before")
                cut_at_the_peak(mirror)
                feast.wait_for(1, ROUND_S, "after the cuts")
                mirror.wait_in_sync(60)
        finally:
            run_program("swapoff", mirror.disk.path)
        check.equal(counter("oom_kill"), killed, "programs killed for want of memory")
        mirror.disable()
        sums = [run_program("sh", "-c", f"nbdcopy nbd://{server.endpoint} - | md5sum") for server in mirror.servers]
        check.equal(sums[0], sums[1], "what both servers hold")


def cut_at_the_peak(mirror):
    """Cuts all connections, each time when all memory is in use."""
    ports = [word for server in mirror.servers for word in ("or", "dport", "=", f":{server.endpoint.port}")][1:]
    for number in range(CUTS):
        out, before = counter("pswpout"), sum(c.reconnects for c in mirror.status().channels)
        check.until(lambda goal=out + BETWEEN: counter("pswpout") > goal, 120, f"pages are swapped out, cut {number}")
        free = memory("MemFree")
        check.that(free < 2 * kept(), f"the machine has no more memory free than what is kept for emergencies: {free}")
        run_program("ss", "-K", "state", "connected", " ".join(ports))
        channels = len(mirror.status().channels)
        mirror.wait_until(
            lambda s, goal=before + channels: sum(c.reconnects for c in s.channels) >= goal and all(c.is_up for c in s.channels),
            60, f"all channels are back after cut {number}",
        )
