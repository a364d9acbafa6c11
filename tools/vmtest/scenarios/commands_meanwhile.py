# SPDX-License-Identifier: GPL-2.0
"""While a connect waits for a server that does not answer, setfaulty and the settings of its device are carried out at once."""

import os

from lib import check, nbdinfo
from lib.errand import Errand
from lib.impostor import Impostor
from lib.mirror import Mirror

# How long a connect waits, and what is much less.
CONNECT_S, AT_ONCE_S = 30, 15
MIB = 1 << 20
SETTINGS = ("timeout=5", "show_errs=1", "show_errs=0", "autoadd=1", "autoadd=0", "resync_min=1", "resync_max=1", "resync_max=0")


def run():
    on_a_mirror()
    on_a_new_device()


def on_a_mirror():
    """A group is taken out, and I/O goes on without it."""
    with Mirror(settings=[f"connect_timeout={CONNECT_S}"]) as mirror, Impostor(lambda talk: talk.hold()) as silent:
        waiting = Errand("a connect to a silent server", nbdinfo.times_out, f"connect[a]=2 {silent.endpoint} name=x")
        check.until(lambda: silent.talks, 30, "the connection comes")
        with check.within(AT_ONCE_S, "setfaulty and settings while a connect waits"):
            mirror.command("setfaulty=1", *SETTINGS, "connect_timeout=1")
        check.that(not waiting.has_ended(), "the connect waits still")
        check.equal(mirror.status().group_lines[1][0], "faulty", "state of the group that was set faulty")
        mirror.disk.write(0, os.urandom(MIB), os.O_SYNC)
        check.equal(mirror.status().dirty_columns[1], MIB // 4096, "blocks that it misses")
        waiting.join(CONNECT_S + 30)
        mirror.resync(1)
        mirror.check_same()


def on_a_new_device():
    """A setting stays, though the connect which made the device fails."""
    with Impostor(lambda talk: talk.hold()) as silent:
        waiting = Errand("a connect on a new device", nbdinfo.times_out, f"connect[d]=0 {silent.endpoint} name=x")
        check.until(lambda: silent.talks, 30, "the connection comes")
        nbdinfo.command("timeout[d]=7")
        check.that(not waiting.has_ended(), "the connect waits still")
        waiting.join(60)
        check.equal(nbdinfo.devices(), ["d"], "devices after a connect that failed, and a setting that did not")
        nbdinfo.command("reset[d]=1")
