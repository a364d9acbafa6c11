# SPDX-License-Identifier: GPL-2.0
"""Blocks of a disk that cannot be read. With two groups in sync nobody notices. A full resync from such a group copies all the
rest, names the blocks, and leaves the group out of service with them marked; when they are written it gets in sync. What the only
group in sync cannot read is read from one that is out of service if it holds it for certain, and fails if it has missed it."""

import errno
import os

from lib import check
from lib.afresh import reset_all
from lib.cases import case
from lib.kmsg import Kmsg
from lib.mirror import MIB, Mirror
from lib.server import Nbdkit
from lib.store import Store
from lib.worn import Worn

LIMIT_S = 300
SIZE = 8 * MIB
BLOCK = 4096
BAD = (7, 500, 501, SIZE // BLOCK - 1)
REASON = "in sync but for blocks that no group in sync can read"
ENOUGH_S = 60


def run():
    with case("a bad block each", reset_all):
        one_each()
    with case("a resync from a group with bad blocks", reset_all):
        resync_past_them()
    with case("read from a group out of service", reset_all):
        rescued()


def two():
    """Two servers whose disks may get bad blocks, and a device over them."""
    servers = [Worn(size=SIZE), Worn(size=SIZE)]
    queue = list(servers)
    return servers, Mirror(kinds=[lambda store: queue.pop(0)] * 2, size=SIZE, settings=["autoadd=0"])


def fill(mirror):
    """Something that is no zeroes; gives it."""
    data = os.urandom(SIZE)
    with mirror.disk.open() as disk:
        for offset in range(0, SIZE, MIB):
            disk.write(offset, data[offset : offset + MIB])
        disk.flush()
    return data


def block_of(data, block):
    return data[block * BLOCK : (block + 1) * BLOCK]


def read(mirror, block):
    return mirror.disk.read(block * BLOCK, BLOCK)


def one_each():
    """Each of two groups in sync has a bad block: both can be read."""
    servers, device = two()
    with device as mirror:
        data = fill(mirror)
        servers[0].bad, servers[1].bad = {3}, {9}
        for _ in range(20):
            for block in (3, 9):
                check.that(read(mirror, block) == block_of(data, block), f"block {block}")
        check.equal(mirror.status().marks(), {0: "", 1: ""}, "marks")


def resync_past_them():
    """Group 1 is copied from group 0, which cannot read all."""
    source = Worn(size=SIZE)
    with Mirror(kinds=[lambda store: source], size=SIZE) as mirror, Kmsg() as kmsg:
        data = fill(mirror)
        source.bad = set(BAD)
        target = mirror.add(Nbdkit(Store("target", SIZE)))
        kmsg.forget()
        mirror.hotadd(target)
        kmsg.wait_for(rf"\[a\] group 1 is in sync but for {len(BAD)} blocks", ENOUGH_S)
        now = mirror.status()
        check.equal(now.group_lines[1], ("faulty", False, REASON), "what is said of the group")
        check.equal(now.dirty_columns[1], len(BAD), "blocks that are marked")
        for first, last in ((7, 7), (500, 501), (BAD[-1], BAD[-1])):
            check.equal(len(kmsg.lines(rf"nbd_resync cannot read blocks {first}-{last} ")), 1, f"lines that name {first}")
        copied = mirror.servers[target].store.read(0, SIZE)
        differing = [block for block in range(SIZE // BLOCK) if block_of(copied, block) != block_of(data, block)]
        check.equal(differing, list(BAD), "blocks that were not copied")
        # Who writes them mends them.
        for block in BAD:
            mirror.disk.write(block * BLOCK, os.urandom(BLOCK))
        mirror.resync(target, ENOUGH_S)
        mirror.disable()
        check.that(mirror.servers[target].store.read(0, SIZE) == bytes(source.data), "both groups hold the same")


def rescued():
    """Group 1 has refused a write of one block, and group 0 cannot read two: one that group 1 holds, and the one that it missed."""
    servers, device = two()
    with device as mirror, Kmsg() as kmsg:
        data = fill(mirror)
        missed, held = 20, 40
        servers[1].refuses_writes = True
        mirror.disk.write(missed * BLOCK, os.urandom(BLOCK))
        servers[1].refuses_writes = False
        mirror.wait_until(lambda s: s.mark(1) == "F" and s.dirty_columns[1] == 1, ENOUGH_S, "group 1 is faulty")
        servers[0].bad = {missed, held}
        kmsg.forget()
        check.that(read(mirror, held) == block_of(data, held), "a block that the group which is faulty holds")
        kmsg.wait_for(r"\[a\] group 1, which is faulty, served 4096 bytes at 163840 ", ENOUGH_S)
        with check.refused(errno.EIO, "a read of a block that it has missed"):
            read(mirror, missed)
        # Set faulty by the administrator it is not asked.
        mirror.command("setfaulty=1")
        with check.refused(errno.EIO, "a read, when the administrator has said that the group is faulty"):
            read(mirror, held)
        servers[0].bad = set()
        check.that(read(mirror, held) == block_of(data, held), "the block when it can be read again")
        mirror.resync(1, ENOUGH_S)
        mirror.disable()
        check.that(servers[0].data == servers[1].data, "both groups hold the same")
