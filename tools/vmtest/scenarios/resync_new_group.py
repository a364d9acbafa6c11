# SPDX-License-Identifier: GPL-2.0
"""A third group joins a device that is enabled and in use: it is faulty with everything marked until hotadd has copied it. The
first group can then leave for good, and what is left is a mirror still."""

import os

from lib import check
from lib.mirror import Mirror
from lib.server import Nbdkit
from lib.store import Store, check_same
from lib.traffic import Traffic

SIZE = 4 << 20


def run():
    with Mirror(size=SIZE) as mirror:
        mirror.disk.write(0, os.urandom(SIZE))
        with Traffic() as traffic:
            traffic.wait_for(50, 30, "before the third group")
            store = Store("third", SIZE + (1 << 20))
            store.fill(9)
            group = mirror.add(Nbdkit(store))
            now = mirror.status()
            check.equal(now.marks(), {0: "", 1: "", 2: "F"}, "marks after the third group joined")
            check.equal(now.dirty_columns, [0, 0, now.blocks], "marked blocks after the third group joined")
            mirror.command(f"hotadd={group}")
            mirror.wait_in_sync()
            traffic.wait_for(50, 30, "with three groups")
            mirror.command("setfaulty=0", "hotremove=0")
            check.equal(mirror.status().marks(), {1: "", 2: ""}, "marks after the first group has left")
            traffic.wait_for(50, 30, "after the first group has left")
        traffic.verify()
        mirror.disable()
        check_same(mirror.stores[1:], SIZE)
        tail = store.read(SIZE, 1 << 20)
        fresh = Store("fresh", SIZE + (1 << 20))
        fresh.fill(9)
        check.that(tail == fresh.read(SIZE, 1 << 20), "what lies beyond the device is left alone on a larger server")
