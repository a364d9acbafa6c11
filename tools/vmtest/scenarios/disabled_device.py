# SPDX-License-Identifier: GPL-2.0
"""A device that was enabled, and is not: what its groups lose, or never had, meanwhile is known when it is enabled again."""

import os

from lib import check
from lib.kmsg import Kmsg
from lib.mirror import MIB, Mirror
from lib.refusal import Refusals
from lib.server import Nbdkit, NbdServer
from lib.store import Store

ENODEV, EUCLEAN = 19, 117
SIZE = 4 * MIB


def run():
    with Kmsg() as kmsg:
        not_added(Refusals(kmsg))
        grown(Refusals(kmsg))
    other_blocks()


def not_added(refusals):
    """A group whose map is clean is not taken for equal without a look."""
    with Mirror() as mirror:
        mirror.disk.write(0, os.urandom(MIB))
        mirror.command("setfaulty=1")
        mirror.disable()
        refusals.expect("hotadd[a]=1", ENODEV, "hotadd on a device that was enabled before")
        check.equal(mirror.status().marks(), {0: "", 1: "F"}, "marks after hotadd on a disabled device")
        mirror.command("enable=1")
        mirror.resync(1)
        mirror.check_same()


def grown(refusals):
    """What lies behind the old end was never copied: it is, before a group is read from there."""
    kinds = [Nbdkit, lambda _: Nbdkit(Store("small", SIZE))]
    with Mirror(kinds=kinds, size=2 * SIZE) as mirror:
        large = Nbdkit(Store("large", 2 * SIZE))
        mirror.stores[0].write(SIZE, os.urandom(SIZE))
        group = mirror.add(large)
        mirror.resync(group)
        mirror.command("setfaulty=1", "hotremove=1")
        mirror.disable()
        refusals.expect("enable[a]=1", EUCLEAN, "more room, and two groups in sync")
        mirror.command(f"setfaulty={group}", "enable=1")
        now = mirror.status()
        wanted = (2 * SIZE // 4096, SIZE // 4096)
        check.equal((now.blocks, now.dirty), wanted, "blocks and marked blocks of a device that has grown")
        mirror.resync(group)
        mirror.disable()
        check.that(mirror.stores[0].read(0, 2 * SIZE) == large.store.read(0, 2 * SIZE), "both groups hold the same")


def other_blocks():
    """A server without FLUSH is lost while the block size has just been changed, and there is no map."""
    kinds = [Nbdkit, lambda store: NbdServer(store, settings=())]
    with Mirror(kinds=kinds, settings=["autoadd=0"]) as mirror:
        mirror.disk.write(0, os.urandom(MIB))
        mirror.disable()
        mirror.command("blocksize=1024")
        mirror.servers[1].restart()
        mirror.wait_until(lambda s: s.mark(1) == "F" and any(c.is_up for c in s.of_group(1)), 30, "the group is back, and faulty")
        mirror.command("enable=1")
        now = mirror.status()
        check.equal((now.marks(), now.dirty), ({0: "", 1: "F"}, now.blocks), "marks and marked blocks after a loss without a map")
        mirror.resync(1)
        mirror.check_same()
