# SPDX-License-Identifier: GPL-2.0
"""A server of a mirror that holds nothing but zeroes is lost, and misses writes here and there. When it is back they are copied,
many at once; then all is compared, as nothing shows that it is the same server. Its connections stay, and one resync brings the
group back."""

import os

from lib import check
from lib.kmsg import Kmsg
from lib.mirror import MIB, Mirror

SIZE = 16 * MIB
BLOCK = 4096
# Writes that are missed, each a run of its own: many more than are compared at once.
MISSED, STEP = 64, 16
ENOUGH_S = 60


def run():
    with Mirror(size=SIZE, settings=["timeout=2", "autoadd=0"]) as mirror, Kmsg() as kmsg:
        mirror.servers[1].kill()
        mirror.wait_until(lambda s: s.mark(1) == "F", ENOUGH_S, "the group is faulty")
        for number in range(MISSED):
            mirror.disk.write(number * STEP * BLOCK, os.urandom(BLOCK))
        check.equal(mirror.status().dirty_columns[1], MISSED, "blocks that the group misses")
        mirror.servers[1].start()
        mirror.wait_until(lambda s: all(c.is_up for c in s.of_group(1)), ENOUGH_S, "the channels are up")
        before = [channel.reconnects for channel in mirror.status().of_group(1)]
        mirror.hotadd(1)
        now = mirror.wait_until(lambda s: s.mark(1) != "_", ENOUGH_S, "the resync ends")
        check.equal(now.mark(1), "", f"mark of the group; the log says {kmsg.lines('group 1')}")
        check.equal([channel.reconnects for channel in now.of_group(1)], before, "how often its channels came up again")
        pattern = f"nbd_resync of group 1 compared before it wrote: {SIZE // BLOCK} blocks were equal"
        check.until(lambda: kmsg.lines(pattern), ENOUGH_S, "the log says that all was compared")
        mirror.check_same()
