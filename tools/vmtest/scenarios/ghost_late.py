# SPDX-License-Identifier: GPL-2.0
"""A server leaves a write lying for several timeouts, its connection half closed, while its other connections work. The group
must not be in sync before the old write is out of the world; and when it is, it holds the newer data."""

import os
import time

from lib import check
from lib.impostor import Impostor
from lib.mirror import Mirror
from lib.server import Nbdkit
from lib.sloth import Sloth

LIMIT_S = 120
SIZE = 1 << 20
BLOCK = 4096
OFFSET = 64 * BLOCK
TIMEOUT_S = 1


def run():
    sloth = Sloth(OFFSET)
    impostor = Impostor(sloth, size=SIZE)
    with Mirror(kinds=[Nbdkit, lambda store: impostor], size=SIZE, settings=[f"timeout={TIMEOUT_S}"]) as mirror:
        sloth.arm()
        mirror.disk.write(OFFSET, os.urandom(BLOCK))
        mirror.wait_until(lambda s: s.mark(1) == "F", 10, "group 1 is faulted")
        new = os.urandom(BLOCK)
        mirror.disk.write(OFFSET, new)
        stays_away(mirror)
        with check.refused(16, "hotadd of a group that may still carry out an old write"):
            mirror.command("hotadd=1")
        sloth.go_on.set()
        check.that(sloth.done.wait(10), "the old write is carried out")
        mirror.wait_in_sync(60)
        check.that(bytes(impostor.data[OFFSET:OFFSET + BLOCK]) == new, "the newer data is what stays")
        mirror.disable()


def stays_away(mirror):
    """For many timeouts; there is no event for something that must not happen."""
    end = time.monotonic() + 8 * TIMEOUT_S
    check.until(lambda: time.monotonic() > end or mirror.status().mark(1) != "F", 30, "time passes")
    check.equal(mirror.status().mark(1), "F", "mark of a group that may still carry out an old write")
