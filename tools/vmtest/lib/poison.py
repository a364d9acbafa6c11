# SPDX-License-Identifier: GPL-2.0
"""A server whose connection ends at each write of one block, as one does that crashes on it and is started again."""

import socket
import threading
import time

from lib import nbd
from lib.check import Failure

WRITES = (nbd.WRITE, nbd.WRITE_ZEROES, nbd.TRIM)


class Poison:
    """A script of such a server. It carries out everything but that write, and that one too once `heal` was called."""

    def __init__(self, offset):
        self.offset = offset
        self.is_there = True
        # When each such write came.
        self.times = []
        self._changed = threading.Condition()

    @property
    def count(self):
        """How often the server was sent such a write."""
        return len(self.times)

    def heal(self):
        """The write is one as any other from now on."""
        self.is_there = False

    def wait_for(self, count, seconds, what):
        """Waits until the server was sent such a write so often."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.count >= count, seconds):
                raise Failure(f"not within {seconds} s: {what}; {self.count} of {count} writes that end the connection")

    def __call__(self, talk):
        talk.negotiate()
        talk.serve(self._hook)

    def _hook(self, talk, request):
        covers = request.offset <= self.offset < request.offset + request.length
        if not (self.is_there and covers and request.command in WRITES):
            return False
        with self._changed:
            self.times.append(time.monotonic())
            self._changed.notify_all()
        # Not a reset, which it would be if something came that nobody reads.
        talk.sock.shutdown(socket.SHUT_WR)
        return talk.swallow()
