# SPDX-License-Identifier: GPL-2.0
"""A server leaves a write lying for several timeouts, its connection half closed, while its other connections work. The group
must not be in sync before the old write is out of the world; and when it is, it holds the newer data. Meanwhile the status calls
it suspect. One that has forgotten the write is had back by disconnecting it."""

import os
import time

from lib import check, nbd
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
    late()
    forgotten()


def late():
    """It is carried out in the end."""
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
        check.equal(mirror.status().suspects, set(), "suspect groups when all is well again")
        check.that(bytes(impostor.data[OFFSET:OFFSET + BLOCK]) == new, "the newer data is what stays")
        mirror.disable()


class Forgetful:
    """A script that forgets one write to the block."""

    def __init__(self):
        self.armed = True

    def __call__(self, talk):
        talk.negotiate()
        talk.serve(self._hook)

    def _hook(self, _talk, request):
        forgets = self.armed and (request.command, request.offset) == (nbd.WRITE, OFFSET)
        self.armed &= not forgets
        return forgets


def forgotten():
    """Nobody knows that it never will be."""
    impostor = Impostor(Forgetful(), size=SIZE)
    with Mirror(kinds=[Nbdkit, lambda store: impostor], size=SIZE, settings=[f"timeout={TIMEOUT_S}"]) as mirror:
        mirror.disk.write(OFFSET, os.urandom(BLOCK))
        mirror.wait_until(lambda s: s.mark(1) == "F", 10, "group 1 is faulted")
        new = os.urandom(BLOCK)
        mirror.disk.write(OFFSET, new)
        stays_away(mirror)
        mirror.command("disconnect=1")
        mirror.connect(1)
        mirror.hotadd(1)
        mirror.wait_in_sync(30)
        check.equal(mirror.status().suspects, set(), "suspect groups when the address was disconnected")
        check.that(bytes(impostor.data[OFFSET:OFFSET + BLOCK]) == new, "the newer data is what it holds")
        mirror.disable()


def stays_away(mirror):
    """For many timeouts; there is no event for something that must not happen."""
    end = time.monotonic() + 8 * TIMEOUT_S
    check.until(lambda: time.monotonic() > end or mirror.status().mark(1) != "F", 30, "time passes")
    now = mirror.status()
    check.equal((now.mark(1), now.suspects), ("F", {1}), "mark of a group that may still carry out an old write, and suspect ones")
