# SPDX-License-Identifier: GPL-2.0
"""A unix socket has no memory for what is to be sent, and says so where TCP waits. The connection is as good as before: it is kept,
and all is sent once there is memory again. Where the kernel cannot let allocations fail (all but the debug kernel) it is only seen
that all is sent."""

import os

from lib import check, module
from lib.endpoint import Endpoint
from lib.errand import Errand
from lib.famine import Shortage, is_possible
from lib.mirror import MIB, Mirror
from lib.server import Nbdkit

SIZE = 16 * MIB
# What holds the head of each packet.
CACHE = "skbuff_head_cache"


def run():
    with Mirror(kinds=[lambda store: Nbdkit(store, Endpoint("unix"))], size=SIZE, channels=1) as mirror:
        mirror.wait_looked_at()
        data = os.urandom(SIZE)
        if is_possible():
            with Shortage(CACHE, enbd_threads()) as shortage:
                writer = Errand("the writes", write, mirror.disk, data, shortage)
                check.until(lambda: shortage.failed() > 20, 60, "allocations fail")
                check.that(not writer.has_ended(), "the writes wait for memory")
            writer.join(60)
        else:
            write(mirror.disk, data)
        channel = mirror.status().channels[0]
        check.equal((channel.is_up, channel.reconnects), (True, 0), "the channel is up, and reconnects")
        check.that(mirror.disk.read(0, SIZE) == data, "what was written is read")
        mirror.disable()


def enbd_threads():
    """Those of the channel: what sends where the user would have to wait."""
    return [pid for pid, name in module.threads().items() if name.startswith("enbd-a0")]


def write(disk, data, shortage=None):
    """Writes all of it."""
    with disk.open() as opened:
        if shortage:
            shortage.share()
        for offset in range(0, len(data), MIB):
            opened.write(offset, data[offset:offset + MIB])
