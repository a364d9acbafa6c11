# SPDX-License-Identifier: GPL-2.0
"""Whoever waits in a command can be killed at once: one that waits until another one has been carried out, and a `disconnect` that
waits for a server. What was asked for goes on, and the device takes commands as before."""

import os

from lib import check, nbdinfo
from lib.errand import Errand
from lib.impostor import Impostor
from lib.mirror import Mirror
from lib.sloth import Sloth
from lib.waiting import Waiting

LIMIT_S = 180
# How long a connect and a disconnect wait at least; they are killed long before.
LONG_S = 40
SIZE = 1 << 20
BLOCK = 4096
OFFSET = 64 * BLOCK


def run():
    behind_another()
    in_a_disconnect()


def behind_another():
    """A connect to a silent server is carried out meanwhile."""
    with Mirror(settings=[f"connect_timeout={LONG_S}"]) as mirror, Impostor(lambda talk: talk.hold()) as silent:
        first = Errand("a connect to a silent server", nbdinfo.times_out, f"connect[a]=2 {silent.endpoint} name=x")
        check.until(lambda: silent.talks, 30, "the connection comes")
        for line in ("hotadd[a]=1", "disconnect[a]=1", "reset[a]=1"):
            Waiting(line).kill()
        check.that(not first.has_ended(), "the connect waits still")
        now = mirror.status()
        check.equal([now.mark(0), now.mark(1)], ["", ""], "marks of the groups: nothing was carried out")
        first.join(LONG_S + 30)
        mirror.command("setfaulty=1")
        mirror.resync(1)
        mirror.check_same()


def in_a_disconnect():
    """One address of the only group, whose server leaves a write lying."""
    sloths = [Sloth(OFFSET), Sloth(OFFSET)]
    servers = [Impostor(sloth, size=SIZE) for sloth in sloths]
    servers[1].data = servers[0].data
    mirror = Mirror(kinds=[lambda store: servers[0]], size=SIZE, channels=1, settings=[f"timeout={LONG_S}"])
    with mirror, servers[1]:
        mirror.connect(0, server=servers[1])
        for sloth in sloths:
            sloth.arm()
        data = os.urandom(BLOCK)
        writer = Errand("the write", mirror.disk.write, OFFSET, data)
        check.until(lambda: any(sloth.lying.is_set() for sloth in sloths), 10, "the write is left lying")
        at = 0 if sloths[0].lying.is_set() else 1
        sloths[1 - at].armed = False
        line = f"disconnect[a]=0 {servers[at].endpoint}"
        Waiting(line).kill()
        check.that(not writer.has_ended(), "the write is held as long as the old one may be carried out")
        sloths[at].go_on.set()
        nbdinfo.command(line)
        writer.join(60)
        check.equal(len(mirror.status().channels), 1, "channels when the same was asked for once more")
        check.that(mirror.disk.read(OFFSET, BLOCK) == data, "what was written is read")
        mirror.disable()
