# SPDX-License-Identifier: GPL-2.0
"""One server of a mirror stops while many large writes are queued: reads of the device go on, another device goes on, and the
kernel takes no more memory than the copies that a device has room for. When the group is set faulty the writes end."""

import mmap
import os

from lib import account, check
from lib.errand import Errand
from lib.mirror import MIB, Mirror
from lib.server import Nbdkit, QemuNbd
from lib.traffic import Traffic

LIMIT_S = 180
WRITERS = 48
EACH = MIB
SIZE = (WRITERS + 16) * MIB
# Copies of writes that a device has room for: Documentation/mirror.rst.
ROOM = 8 * MIB
# These, and what the sockets of a server that does not read may hold.
MOST_KIB = (ROOM + 32 * MIB) >> 10
# What may be left afterwards: caches of the kernel.
LEFT_KIB = 24 << 10


def run():
    settings = ["timeout=600", "resync_min=1000000"]
    with Mirror("b", size=4 * MIB), Mirror("a", kinds=[Nbdkit, QemuNbd], size=SIZE, settings=settings) as mirror:
        mirror.disk.write(SIZE - 16 * MIB, os.urandom(16 * MIB), os.O_DSYNC)
        before = kernel_kib()
        with mmap.mmap(-1, EACH) as buffer, memoryview(buffer) as view, mirror.disk.open() as disk:
            view[:] = os.urandom(EACH)
            hung(mirror, [disk.fd, view], before)
        mirror.servers[1].resume()
        mirror.wait_until(lambda s: all(c.is_up for c in s.channels), 60, "the channels are back")
        mirror.resync(1, 60)
        check.between(kernel_kib() - before, -(1 << 30), LEFT_KIB, "KiB that the kernel has kept")
        mirror.check_same()


def kernel_kib():
    """Memory that is neither free nor a program's nor the page cache's."""
    taken = ("MemFree", "Buffers", "Cached", "AnonPages", "SReclaimable", "PageTables")
    return account.meminfo("MemTotal") - sum(account.meminfo(name) for name in taken)


def hung(mirror, where, before):
    """The server stops, the writers come, everybody else goes on."""
    fd, view = where
    mirror.servers[1].pause()
    writers = [Errand(f"writer {n} ends", os.pwritev, fd, [view], n * EACH) for n in range(WRITERS)]
    mirror.wait_until(lambda s: s.queued_current >= ROOM // EACH, 30, "writes are queued")
    with Traffic("b") as traffic:
        for number in range(3):
            traffic.wait_for(30, 60, "on another device, while a server of this one hangs")
            read(mirror, number)
            most = kernel_kib() - before
            check.between(most, -(1 << 30), MOST_KIB, "KiB that the kernel has taken for queued writes")
    traffic.verify()
    check.that(not all(one.has_ended() for one in writers), "writers wait for the server that hangs")
    mirror.command("setfaulty=1")
    for one in writers:
        one.join(60)
    mirror.disk.write(0, os.urandom(EACH), os.O_DSYNC)
    check.that(mirror.status().dirty_columns[1] >= EACH // 4096, "what the group misses is marked")


def read(mirror, number):
    """Reads some where nobody writes, large and small."""
    reader = Errand("a read of the device ends", mirror.disk.read, SIZE - (number + 1) * MIB, MIB)
    reader.join(60)
    small = Errand("a small read of the device ends", mirror.disk.read, SIZE - (number + 5) * MIB, 4096)
    small.join(60)
