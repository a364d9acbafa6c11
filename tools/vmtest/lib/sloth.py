# SPDX-License-Identifier: GPL-2.0
"""A server that leaves a write lying, and carries it out when nobody expects it any more."""

import threading

from lib import nbd
from lib.impostor import Gone


class Sloth:
    """A script that leaves the next write to one block lying until it is told to carry it out."""

    def __init__(self, offset):
        self.offset = offset
        self.armed = False
        self.lying = threading.Event()
        self.go_on = threading.Event()
        self.done = threading.Event()

    def arm(self):
        """The next write is left lying."""
        for event in (self.lying, self.go_on, self.done):
            event.clear()
        self.armed = True

    def __call__(self, talk):
        talk.negotiate()
        talk.serve(self._hook)

    def _hook(self, talk, request):
        if not self.armed or (request.command, request.offset) != (nbd.WRITE, self.offset):
            return False
        self.armed = False
        self.lying.set()
        self.go_on.wait(120)
        talk.carry_out(request)
        self.done.set()
        # As a server that goes on reading finds: the client is gone.
        raise Gone
