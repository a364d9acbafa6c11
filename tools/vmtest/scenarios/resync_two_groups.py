# SPDX-License-Identifier: GPL-2.0
"""Two groups are brought back at the same time while the disk is written: a line of progress for each, and three stores that
are the same in the end."""

import os

from lib import check
from lib.mirror import Mirror
from lib.server import Nbdkit
from lib.traffic import Traffic

SIZE = 4 << 20


def run():
    with Mirror(size=SIZE, kinds=[Nbdkit] * 3, channels=1, settings=["blocksize=1024"]) as mirror:
        with Traffic(blocks=256) as traffic:
            mirror.command("setfaulty=1")
            mirror.disk.write(1 << 20, os.urandom(1 << 20))
            mirror.command("setfaulty=2")
            traffic.wait_for(50, 30, "with one group")
            check.equal(mirror.status().marks(), {0: "", 1: "F", 2: "F"}, "marks")
            mirror.command("resync_max=512", "hotadd=1", "hotadd=2")
            now = mirror.wait_until(lambda s: len(s.resyncs) == 2, 10, "two lines of progress")
            check.equal([one.group for one in now.resyncs], [1, 2], "groups of the lines of progress")
            for one in now.resyncs:
                one.check()
            check.equal(now.marks(), {0: "", 1: "_", 2: "_"}, "marks during both")
            traffic.wait_for(50, 30, "during both resyncs")
            mirror.command("resync_max=0")
            mirror.wait_in_sync()
        traffic.verify()
        mirror.check_same()
