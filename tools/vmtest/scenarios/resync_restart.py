# SPDX-License-Identifier: GPL-2.0
"""A resync that was just ended by setfaulty can be started again at once, again and again, with the disk in use; in the end
nothing is missed."""

import os

from lib.mirror import Mirror
from lib.traffic import Traffic

SIZE = 8 << 20


def run():
    with Mirror(size=SIZE, settings=["blocksize=1024"]) as mirror:
        with Traffic(seed=1) as one, Traffic(seed=2, first=256) as two:
            mirror.command("setfaulty=1")
            mirror.disk.write(4 << 20, os.urandom(2 << 20))
            mirror.command("hotadd=1")
            for number in range(30):
                mirror.command("setfaulty=1", "hotadd=1" if number % 5 else "hotadd=1 full")
                (one if number % 2 else two).wait_for(2, 20, "between two resyncs")
            mirror.wait_in_sync()
        one.verify()
        two.verify()
        mirror.check_same()
