# SPDX-License-Identifier: GPL-2.0
"""A server is lost, and nothing answers the connections that are to bring it back, for far longer than `timeout`: what is held
for it goes on after `timeout` all the same, or fails with show_errs where it was the last one."""

import errno
import os

from lib import check
from lib.errand import Errand
from lib.mirror import Mirror
from lib.server import Nbdkit

MIB = 1 << 20
# How long a connection hangs, and what is much shorter and much longer than timeout.
CONNECT_S, ENOUGH_S = 300, 60
SETTINGS = [f"connect_timeout={CONNECT_S}", "timeout=3"]


def run():
    goes_on_without()
    fails()


def hangs(mirror, group):
    """Whether the channels of the group are in connections that hang: of them and the one that fills the queue one is in it,
    and the SYNs of the others go unanswered."""
    states = mirror.servers[group].endpoint.sockets()
    # 02 is a socket that has sent its SYN.
    return states.count("02") >= mirror.channels


def goes_on_without():
    """The other group goes on, and the server that is lost is taken back."""
    with Mirror(settings=SETTINGS) as mirror:
        mirror.disk.write(0, os.urandom(MIB), os.O_SYNC)
        lost = mirror.servers[1]
        lost.kill()
        with lost.endpoint.swallowing():
            write = Errand("a write that is held for a lost server", mirror.disk.write, 0, os.urandom(MIB), os.O_SYNC)
            write.join(ENOUGH_S)
            check.until(lambda: hangs(mirror, 1), 10, "the channels hang in their connections")
            now = mirror.status()
            check.equal(now.mark(1), "F", "mark of the group that is lost")
            check.equal(now.group_lines[1][2], "no channel was up for the timeout", "why it is faulty")
            check.that(now.dirty_columns[1] >= MIB // 4096, "what it misses is marked")
            # The threads that hang can be ended.
            with check.within(ENOUGH_S, "a disconnect of channels that hang"):
                mirror.command("disconnect=1")
        lost.start()
        mirror.connect(1)
        mirror.resync(1, 60)
        mirror.check_same()


def fails():
    """Where it is the last server, show_errs holds too."""
    with Mirror(kinds=[Nbdkit], settings=[*SETTINGS, "show_errs=1"]) as mirror:
        lost = mirror.servers[0]
        lost.kill()
        with lost.endpoint.swallowing():
            write = Errand("a write without a server", refused_write, mirror.disk)
            write.join(ENOUGH_S)
            check.until(lambda: hangs(mirror, 0), 10, "the channels hang in their connections")
            mirror.command("reset=1")


def refused_write(disk):
    with check.refused(errno.EIO, "a write without a server"):
        disk.write(0, os.urandom(MIB), os.O_SYNC)
