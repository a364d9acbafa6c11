# SPDX-License-Identifier: GPL-2.0
"""A server that never answers a write, in the only group. The write is sent again on another connection, but not before the old
one was reset, so that nothing of it can still leave for the server, and some time has passed since."""

import os
import threading
import time

from lib import check, nbd
from lib.impostor import Gone, Impostor
from lib.mirror import Mirror

SIZE = 1 << 20
BLOCK = 4096
TIMEOUT_S = 2
# The driver waits for the whole timeout after the reset; the machine may be slow to see the reset.
LEAST_S = TIMEOUT_S / 2


class Silent:
    """Takes no more on the connection on which the first write came, and notes when that is reset and when a write comes again."""

    def __init__(self):
        self.lock = threading.Lock()
        self.taken = False
        self.reset_at = self.again_at = None

    def __call__(self, talk):
        talk.negotiate()
        talk.serve(self._hook)

    def _hook(self, talk, request):
        if request.command != nbd.WRITE:
            return False
        with self.lock:
            first, self.taken = not self.taken, True
        if not first:
            self.again_at = self.again_at or time.monotonic()
            return False
        try:
            # Other requests may still come, like those with which enbd looks at a device that was just enabled.
            while talk.sock.recv(65536):
                pass
        except ConnectionResetError:
            self.reset_at = time.monotonic()
        raise Gone


def run():
    silent = Silent()
    impostor = Impostor(silent, size=SIZE)
    with Mirror(kinds=[lambda store: impostor], size=SIZE, channels=2, settings=[f"timeout={TIMEOUT_S}"]) as mirror:
        data = os.urandom(BLOCK)
        mirror.disk.write(0, data)
        check.that(silent.reset_at, "the connection with the old write is reset before the write has ended")
        gap = silent.again_at - silent.reset_at
        check.that(gap >= LEAST_S, f"the write comes again {gap:.2f} s after the reset")
        check.that(bytes(impostor.data[:BLOCK]) == data, "it is carried out")
        mirror.wait_until(lambda s: all(c.is_up for c in s.channels), 20, "all channels are back")
        mirror.disable()
