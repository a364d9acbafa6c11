# SPDX-License-Identifier: GPL-2.0
"""A resync whose only source is gone can be ended, and its group be taken away, while the source is still away: a copy that
waits for a channel of the source is given up. When the source is back users go on."""

import os

from lib import check
from lib.mirror import Mirror

LIMIT_S = 120


def run():
    with Mirror(size=4 << 20, settings=["autoadd=0", "timeout=3"], channels=1) as mirror:
        mirror.command("setfaulty=1")
        mirror.disk.write(0, os.urandom(2 << 20))
        mirror.command("resync_max=64", "hotadd=1")
        mirror.wait_until(lambda s: s.resyncs and s.resyncs[0].pos > 0, 20, "the resync moves")
        mirror.servers[0].kill()
        mirror.wait_until(lambda s: not s.channels[0].is_up, 20, "the source is gone")
        mirror.command("setfaulty=1")
        check.until(lambda: is_removed(mirror), 30, "the group is taken away while the source is gone")
        check.that(not mirror.status().channels[0].is_up, "the source is still gone")
        mirror.servers[0].start()
        mirror.wait_until(lambda s: s.channels[0].is_up, 40, "the source is back")
        check.equal(len(mirror.disk.read(0, 4096)), 4096, "bytes that are read when the source is back")


def is_removed(mirror):
    """Takes group 1 away, unless its resync is still ending."""
    try:
        mirror.command("hotremove=1")
    except OSError:
        return False
    return True
