# SPDX-License-Identifier: GPL-2.0
"""A server with a cache dies, and what it had not been told to flush is lost: when it is back, the blocks that were written since
the last flush are copied again, and both groups hold the same."""

import os
import random

from lib import check, nbd
from lib.impostor import Impostor
from lib.mirror import Mirror
from lib.server import Nbdkit

LIMIT_S = 120
SIZE = 1 << 20
BLOCK = 4096
ROUNDS = 5


class Cached:
    """A script whose server has a cache: `stable` is what survives."""

    def __init__(self):
        self.stable = bytearray(SIZE)

    def __call__(self, talk):
        talk.negotiate()
        talk.serve(self._hook)

    def _hook(self, talk, request):
        if request.command == nbd.FLUSH:
            self.stable[:] = talk.server.data
        elif request.flags & nbd.FLAG_FUA:
            talk.carry_out(request)
            end = request.offset + request.length
            self.stable[request.offset:end] = talk.server.data[request.offset:end]
        return False

    def crash(self, impostor):
        """Ends all connections and forgets the cache."""
        impostor.stop()
        impostor.talks.clear()
        impostor.data[:] = self.stable


def run():
    cached = Cached()
    impostor = Impostor(cached, size=SIZE)
    dice = random.Random(11)
    with Mirror(kinds=[Nbdkit, lambda store: impostor], size=SIZE, settings=["timeout=1"]) as mirror:
        for number in range(ROUNDS):
            with mirror.disk.open() as disk:
                write_some(disk, dice)
                disk.flush()
                write_some(disk, dice)
            cached.crash(impostor)
            if number % 2:
                write_some_on(mirror, dice)
            impostor.start()
            mirror.wait_until(lambda s: s.is_clean() and all(c.is_up for c in s.channels), 40, "all is well again")
            same = mirror.servers[0].store.read(0, SIZE) == bytes(impostor.data)
            check.that(same, f"both groups hold the same after crash {number}")
        mirror.disable()
        check.that(mirror.servers[0].store.read(0, SIZE) == bytes(cached.stable), "both groups hold the same in the end")


def write_some(disk, dice):
    """A few blocks anywhere."""
    for _ in range(8):
        disk.write(dice.randrange(SIZE // BLOCK) * BLOCK, os.urandom(BLOCK))


def write_some_on(mirror, dice):
    """The same while the server is away."""
    with mirror.disk.open() as disk:
        write_some(disk, dice)
