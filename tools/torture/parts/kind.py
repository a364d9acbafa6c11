# SPDX-License-Identifier: GPL-2.0
"""What a kind of fault is."""

import enum

from lib.server import Server


class Reach(enum.Enum):
    """How much of a device a fault takes away, which decides what else may happen to it at the same time."""

    GENTLE = "the group goes on"
    OUT = "the group may get lost; another one has to stay whole"
    CUT = "no group can serve: requests are held"
    ALONE = "the group may get lost, and nothing else may happen"


class Kind:
    """A kind of fault."""

    def __init__(self, name, reach, run, server):
        self.name, self.reach, self.run, self.server = name, reach, run, server
        self.what = run.__doc__.strip().rstrip(".")

    def groups(self, victim):
        """The groups that it can happen to."""
        return [number for number, server in enumerate(victim.servers) if isinstance(server, self.server)]


def fault(reach, server=Server):
    """Makes a kind of fault of a generator function `(victim, group, dice)`, for groups with such a server."""
    return lambda run: Kind(run.__name__, reach, run, server)
