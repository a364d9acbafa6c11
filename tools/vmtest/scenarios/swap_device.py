# SPDX-License-Identifier: GPL-2.0
"""The device as swap, with both servers on the same machine: a program whose cgroup holds half of its memory finds all of it, while
a connection is cut, and while a server is killed, misses writes, and is brought back."""

from lib import check
from lib.cgroup import Cgroup
from lib.feast import Feast
from lib.mirror import Mirror
from lib.program import run as run_program
from lib.server import Nbdkit, QemuNbd

LIMIT_S = 240
MIB = 1 << 20
SIZE = 32 * MIB
EATEN = 17 * MIB
LIMIT = 14 * MIB
PAGE = 4096


def run():
    def locked(store):
        return Nbdkit(store, more=["--swap"])

    with Mirror(kinds=[locked, QemuNbd], size=SIZE, settings=["timeout=4", "resync_min=100000"]) as mirror:
        run_program("mkswap", mirror.disk.path)
        run_program("swapon", mirror.disk.path)
        try:
            before = swapped()
            with Cgroup("glutton", LIMIT) as cgroup, Feast(cgroup, "memory", EATEN) as feast:
                eat(mirror, feast)
                check.equal(cgroup.events()["oom_kill"], 0, "programs killed for want of memory")
            out, back = (after - first for after, first in zip(swapped(), before, strict=True))
            least = (EATEN - LIMIT) // PAGE
            check.that(out > least and back > least, f"pages were swapped out ({out}) and in ({back})")
        finally:
            run_program("swapoff", mirror.disk.path)
        mirror.check_same()


def eat(mirror, feast):
    """What happens meanwhile."""
    feast.wait_for(1, 90, "before")
    run_program("ss", "-K", "dst", mirror.servers[0].endpoint.host, "dport", "=", mirror.servers[0].endpoint.port)
    mirror.wait_until(lambda s: any(c.reconnects for c in s.of_group(0)), 30, "group 0 has reconnected")
    feast.wait_for(1, 90, "after a group's connections were cut")
    mirror.wait_in_sync(60)
    mirror.servers[1].kill()
    mirror.wait_until(lambda s: s.mark(1) == "F", 30, "group 1 is faulted")
    feast.wait_for(1, 90, "with one server")
    check.that(mirror.status().dirty > 0, "what group 1 misses is marked")
    mirror.servers[1].start()
    mirror.wait_in_sync(90)
    feast.wait_for(1, 90, "with both servers again")


def swapped():
    """Pages that went out, and that came back, since the system started."""
    with open("/proc/vmstat", encoding="ascii") as file:
        table = dict(line.split() for line in file)
    return int(table["pswpout"]), int(table["pswpin"])
