# SPDX-License-Identifier: GPL-2.0
"""A server whose disk has places that cannot be read until they are written."""

from lib import nbd
from lib.impostor import Impostor


class Worn(Impostor):
    """A server in this process. `bad` has the blocks of 4 KiB that cannot be read; it may be changed meanwhile."""

    BLOCK = 4096

    def __init__(self, bad=(), **more):
        super().__init__(self._serve, **more)
        self.bad = set(bad)
        self.refuses_writes = False

    def _serve(self, talk):
        talk.negotiate()
        talk.serve(self._hook)

    def _hook(self, talk, request):
        blocks = range(request.offset // self.BLOCK, -(-(request.offset + request.length) // self.BLOCK))
        if request.command == nbd.READ and not self.bad.isdisjoint(blocks):
            talk.answer(request, nbd.EIO)
            return True
        if request.command in (nbd.WRITE, nbd.WRITE_ZEROES):
            if self.refuses_writes:
                talk.answer(request, nbd.EIO)
                return True
            self.bad.difference_update(blocks)
        return False
