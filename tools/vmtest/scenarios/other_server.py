# SPDX-License-Identifier: GPL-2.0
"""A server comes back with the right size and flags, but with other data where nothing was missed: it is refused, not copied to
and not read, until the administrator has it copied in full. One whose data is right comes back by itself."""

import os

from lib import check
from lib.kmsg import Kmsg
from lib.mirror import Mirror
from lib.server import Nbdkit, QemuNbd

SIZE = 4 << 20
LIMIT_S = 180


def run():
    with Mirror(kinds=[Nbdkit, QemuNbd], size=SIZE, settings=["timeout=4", "blocksize=1024"]) as mirror, Kmsg() as kmsg:
        # Durable, else all of it would be marked when the server is lost.
        mirror.disk.write(0, os.urandom(SIZE), os.O_SYNC)
        come_back(mirror, kmsg, mirror.servers[1].store.read(0, SIZE))
        kmsg.wait_for(r"\[a\] nbd_resync of group 1 .* [1-9]\d* clean blocks compared", 30)
        mirror.wait_in_sync(30)

        other = os.urandom(SIZE)
        come_back(mirror, kmsg, other)
        kmsg.wait_for(r"\[a\] group 1 is faulty: clean blocks differ", 30)
        kmsg.wait_for(r"\[a\] nbd_resync of group 1 refused: .*hotadd\[a\]=1 full", 30)
        faulty = mirror.status()
        check.equal(faulty.mark(1), "F", "the mark of the group that differs")
        written = mirror.servers[1].store.read(0, SIZE)
        differing = sum(written[at:at + 1024] != other[at:at + 1024] for at in range(0, SIZE, 1024))
        check.between(differing, 0, 1, "blocks that were copied to the other server")

        mirror.command("hotadd=1 full")
        mirror.wait_in_sync(60)
        mirror.check_same()


def come_back(mirror, kmsg, data):
    """The second server is lost, one block is written without it, and it is there again, with this data."""
    server = mirror.servers[1]
    server.kill()
    mirror.wait_until(lambda s: s.mark(1) == "F", 30, "the group is faulted")
    mirror.disk.write(0, os.urandom(1024), os.O_SYNC)
    server.store.write(0, data)
    kmsg.forget()
    server.start()
