# SPDX-License-Identifier: GPL-2.0
"""A group that enbd faulted itself is set faulty: it is the administrator's from then on, and stays away when its server is back,
until he adds it; another one that was lost at the same time comes back by itself."""

import os

from lib import check
from lib.kmsg import Kmsg
from lib.mirror import Mirror
from lib.server import Nbdkit

ADMIN = "set faulty by the administrator"


def run():
    with Mirror(kinds=[Nbdkit] * 3, settings=["timeout=1"]) as mirror, Kmsg() as kmsg:
        for group in (1, 2):
            mirror.servers[group].kill()
        mirror.disk.write(0, os.urandom(1 << 20))
        lost = mirror.wait_until(lambda s: (s.mark(1), s.mark(2)) == ("F", "F"), 30, "both groups are faulted")
        check.that(lost.group_lines[1][2] != ADMIN, f"enbd itself faulted group 1: {lost.group_lines[1]}")

        mirror.command("setfaulty=1")
        check.equal(mirror.status().group_lines[1], ("faulty", False, ADMIN), "group 1 after setfaulty")
        check.equal(len(kmsg.lines(rf"\[a\] group 1 is faulty: {ADMIN}")), 1, "lines of the log on setfaulty")
        mirror.command("setfaulty=1", "setfaulty=1")
        check.equal(len(kmsg.lines(rf"\[a\] group 1 is faulty: {ADMIN}")), 1, "lines of the log after it was said again")

        # Group 1 could come back before group 2, and the keeper looks after it first.
        mirror.servers[1].start()
        mirror.wait_until(lambda s: all(c.is_up for c in s.of_group(1)), 60, "the channels of group 1 are up")
        mirror.servers[2].start()
        back = mirror.wait_until(lambda s: s.mark(2) == "", 60, "group 2 comes back by itself")
        check.equal((back.mark(1), back.group_lines[1]), ("F", ("faulty", False, ADMIN)), "group 1 meanwhile")
        mirror.resync(1, 60)
        mirror.check_same()
