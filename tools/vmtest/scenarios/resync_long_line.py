# SPDX-License-Identifier: GPL-2.0
"""A resync over long lines, with users who never rest: it gives way to them, and is done in a sane time all the same, though
nobody has set `resync_min`. One window at a time would take as long as the delays of all windows together."""

import os

from lib import check
from lib.mirror import MIB, Mirror
from lib.server import Nbdkit
from lib.traffic import Traffic

LIMIT_S = 240
SIZE = 16 * MIB
# What group 1 misses, how long each request takes, and the largest window that users are to meet.
MISSED, DELAY_S, WINDOW = 8 * MIB, 0.1, 32 << 10
# A read and a write for each window: no clock makes that shorter.
ONE_AT_A_TIME_S = MISSED // WINDOW * 2 * DELAY_S


class Far(Nbdkit):
    """A server at the end of a long line."""

    def __init__(self, store):
        delay = f"{int(DELAY_S * 1000)}ms"
        super().__init__(store, filters=["delay"], more=[f"rdelay={delay}", f"wdelay={delay}"])


def run():
    with Mirror(kinds=[Far, Far], size=SIZE, settings=["autoadd=0"]) as mirror:
        with Traffic(blocks=64, first=MISSED * 3 // 2 // 4096) as traffic:
            mirror.command("setfaulty=1")
            mirror.disk.write(0, os.urandom(MISSED))
            mirror.command("hotadd=1")
            with check.within(ONE_AT_A_TIME_S * 0.6, f"{MISSED} bytes, which take {ONE_AT_A_TIME_S} s one window at a time"):
                mirror.wait_in_sync(120)
            traffic.wait_for(5, 30, "after the resync")
        traffic.verify()
        mirror.check_same()
