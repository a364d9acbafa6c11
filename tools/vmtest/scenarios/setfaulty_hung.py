# SPDX-License-Identifier: GPL-2.0
"""A server hangs with writes that it has; long before `timeout` the administrator sets its group faulty: the writes end without
it, and I/O goes on. When the server goes on it comes back, and holds the same in the end."""

import os
import threading

from lib import check
from lib.kmsg import Kmsg
from lib.mirror import Mirror
from lib.server import Nbdkit, QemuNbd

MIB = 1 << 20


def run():
    with Mirror(kinds=[Nbdkit, QemuNbd], settings=["timeout=600"]) as mirror, Kmsg() as kmsg:
        mirror.disk.write(0, os.urandom(MIB), os.O_SYNC)
        hung = mirror.servers[1]
        hung.pause()
        writer = threading.Thread(target=mirror.disk.write, args=(MIB, os.urandom(MIB), os.O_SYNC))
        writer.start()
        mirror.wait_until(lambda s: s.queued_current > 0, 30, "the write is on its way")
        mirror.command("setfaulty=1")
        writer.join(60)
        check.that(not writer.is_alive(), "the write has ended, though a server hangs and the timeout is 600 s")
        kmsg.wait_for(r"\[a\] group 1 channel \d .*not answered in time", 10)
        check.that(mirror.status().dirty_columns[1] >= MIB // 4096, "what the group misses is marked")
        hung.resume()
        mirror.wait_until(lambda s: all(c.is_up for c in s.of_group(1)), 60, "the channels are back")
        mirror.resync(1, 60)
        mirror.check_same()
