# SPDX-License-Identifier: GPL-2.0
"""Faults of servers that are there and answer, but are not well: nbdkit with a filter that makes it so. Generators as in
`faults.py`."""

import os
import time

from lib.server import Nbdkit
from parts.kind import Reach, fault
from parts.victim import TIMEOUT_S

# Between two looks at the list of what a server was asked.
LOOK_S = 0.02


def _begin(server, name, *words):
    """Starts the server anew, with this filter. The file where it keeps a list of what it was asked, and what became of it."""
    path = f"{server.store.path}.asked"
    server.kill()
    # The first filter sees what the second one has done.
    server.filters, server.more = ["log", name], [f"logfile={path}", *words]
    server.start()
    return path


def _ends(path, request):
    """Of such requests how many have failed, and how many have ended."""
    with open(path, encoding="utf-8") as file:
        ends = [line for line in file if f" ...{request} id=" in line]
    return sum(" return=-1" in line for line in ends), len(ends)


def _end(victim, server, path, request):
    """Starts it anew as it was before."""
    server.kill()
    server.filters, server.more = [], []
    server.start()
    failed, ended = _ends(path, request)
    os.unlink(path)
    victim.watch.log(f"  {request}: {failed} of {ended} failed")


@fault(Reach.OUT, Nbdkit)
def poisonous(victim, group, dice):
    """A server that ends the connection when it gets a write of more than so many bytes."""
    server = victim.servers[group]
    path = _begin(server, "blocksize-policy", f"blocksize-write-disconnect={dice.choice([4, 16, 64])}K")
    yield dice.uniform(2, 4) * TIMEOUT_S
    _end(victim, server, path, "Write")


@fault(Reach.OUT, Nbdkit)
def zeroes_refused(victim, group, dice):
    """A server that offers to write zeroes, and refuses it once or a few times."""
    server = victim.servers[group]
    trigger = f"{server.store.path}.refuses"
    path = _begin(server, "error", "error-zero=EINVAL", "error-zero-rate=100%", f"error-zero-file={trigger}")
    if victim.load.RAW:
        # Until the group is back, mostly, and users ask it for zeroes. A file system seldom does, but the resync as well.
        yield dice.uniform(1.5, 2.5) * TIMEOUT_S
    with open(trigger, "w", encoding="ascii"):
        pass
    # A device of which eight were refused offers its users none any more, until it is enabled again: a long run is to have zeroes
    # for most of its time.
    until = time.monotonic() + dice.uniform(2, 3) * TIMEOUT_S
    while time.monotonic() < until and not _ends(path, "Zero")[0]:
        time.sleep(LOOK_S)
    os.unlink(trigger)
    yield dice.uniform(0, 1) * TIMEOUT_S
    _end(victim, server, path, "Zero")
