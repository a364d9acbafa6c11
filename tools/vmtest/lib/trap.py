# SPDX-License-Identifier: GPL-2.0
"""A script for an impostor that is honest until it is asked for something of one kind, and after that again."""

from lib import check

# Single reads stay with a group for a while, so the one that they stay with may be asked for nothing else for long.
TRIES = 300


class Trap:
    """What is done with the next request of one kind."""

    def __init__(self):
        self.command, self.act = None, None

    def set(self, command, act):
        """Sets it. `act` is given the talk and the request, and ends with the connection or goes on with it."""
        self.command, self.act = command, act

    def spring(self, use, what):
        """Calls `use`, which uses the device, until the trap has closed."""
        for _ in range(TRIES):
            use()
            if self.command is None:
                return
        check.equal(self.command, None, f"the server was asked for what it spoils, {what}")

    def __call__(self, talk):
        talk.negotiate()
        talk.serve(self._hook)

    def _hook(self, talk, request):
        if request.command != self.command:
            return False
        act, self.command = self.act, None
        act(talk, request)
        return True


def refusal(error):
    """An act: an error reply."""

    def act(talk, request):
        talk.answer(request, error)

    return act
