# SPDX-License-Identifier: GPL-2.0
"""A program changes its buffer while a direct write of it is under way, which it may: what the blocks hold then is anything, but
the same in all groups. Writes of 4 KiB to 1 MiB, two and three groups, writes that are sent again since their connection was
lost, and pages of the page cache that are mapped."""

import mmap
import os
import socket

from lib import check, nbd
from lib.afresh import reset_all
from lib.cases import case
from lib.impostor import Impostor
from lib.kmsg import Kmsg
from lib.mirror import MIB, Mirror
from lib.restless import Restless
from lib.server import Nbdkit, QemuNbd
from lib.store import BLOCK, differing_blocks

LIMIT_S = 180
SIZE = 20 * MIB
# Bytes of a write, and where the area begins and ends that is written so.
AREAS = ((4096, 0, MIB), (128 << 10, MIB, 9 * MIB), (MIB, 9 * MIB, 17 * MIB))
MAPPED = (17 * MIB, 19 * MIB)
SYNCS = 8
# The connections of a group of which one after the other is lost, each with one write of so many.
CHANNELS, LOST = 3, 5


def run():
    for kinds in ([Nbdkit, QemuNbd], [Nbdkit, QemuNbd, Nbdkit]):
        with case(f"{len(kinds)} groups", reset_all), Mirror(kinds=kinds, size=SIZE) as mirror:
            for length, start, end in AREAS:
                write(mirror, length, start, end)
            write_mapped(mirror, *MAPPED)
            mirror.disable()
            check_areas([*differing_blocks(mirror.stores)], f"{len(kinds)} groups")
    with case("writes that are sent again", reset_all):
        sent_again()


def write(mirror, length, start, end):
    """Writes an area, each piece once, from a buffer that changes all the time."""
    with mmap.mmap(-1, length) as buffer, Restless(buffer), mirror.disk.open() as disk, memoryview(buffer) as view:
        for offset in range(start, end, length):
            check.equal(os.pwritev(disk.fd, [view], offset), length, f"bytes of a write at {offset}")


def write_mapped(mirror, start, end):
    """Changes pages of the page cache while they are written back."""
    fd = os.open(mirror.disk.path, os.O_RDWR | os.O_CLOEXEC)
    with mmap.mmap(fd, end - start, offset=start) as pages:
        with Restless(pages):
            for _ in range(SYNCS):
                pages.flush()
        pages.flush()
    os.fsync(fd)
    os.close(fd)


def check_areas(blocks, what):
    """Fails if blocks differ, and says of each kind of write how many."""
    areas = [*((f"direct, {length >> 10} KiB", start, end) for length, start, end in AREAS), ("mapped", *MAPPED)]
    differ = {name: sum(start <= block * BLOCK < end for block in blocks) for name, start, end in areas}
    told = ", ".join(f"{name}: {differ[name]} of {(end - start) // BLOCK}" for name, start, end in areas)
    check.that(not blocks, f"{what}: the stores are the same; blocks that differ: {told}")


class Hasty:
    """A script that carries out half of one write in a few, and closes the connection, which is the last of it. Another one is
    always left, so that the server never counts as lost."""

    def __init__(self):
        self.writes = self.closed = 0
        self.connections = set()

    def __call__(self, talk):
        talk.negotiate()
        self.connections.add(talk)
        try:
            talk.serve(self._hook)
        finally:
            self.connections.discard(talk)

    def _hook(self, talk, request):
        if request.command != nbd.WRITE:
            return False
        self.writes += 1
        if self.writes < LOST or len(self.connections) < CHANNELS:
            return False
        self.writes, self.closed = 0, self.closed + 1
        self.connections.discard(talk)
        half = request.length // 2
        talk.carry_out(request._replace(length=half, data=request.data[:half]))
        # What comes still is read, else the end of the connection would be a reset, which says less.
        talk.sock.shutdown(socket.SHUT_WR)
        talk.swallow()
        return True


def sent_again():
    """A write that is sent again is what the other group has got."""
    hasty = Hasty()
    impostor = Impostor(hasty, size=SIZE)
    with Mirror(kinds=[Nbdkit, lambda store: impostor], size=SIZE, channels=CHANNELS) as mirror, Kmsg() as kmsg:
        # Each is one request, so that nothing is left unread when the connection ends.
        for length, start, end in AREAS[:2]:
            write(mirror, length, start, end)
        check.that(hasty.closed >= 3, f"connections were lost with their write; {hasty.closed} were")
        check.that(mirror.status().errored > 0, "writes were sent again")
        check.equal(kmsg.lines("group 1 is faulty"), [], "lines of the log of a group that only has to be sent some writes again")
        mirror.disable()
        held, other = mirror.servers[0].store.snapshot(), bytes(impostor.data)
        blocks = [at // BLOCK for at in range(0, SIZE, BLOCK) if held[at:at + BLOCK] != other[at:at + BLOCK]]
        check_areas(blocks, "writes that were sent again")
