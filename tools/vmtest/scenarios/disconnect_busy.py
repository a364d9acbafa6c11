# SPDX-License-Identifier: GPL-2.0
"""A group is disconnected while its server has so much to do that more than the socket takes is queued: what is queued is sent and
answered, so the command ends with the last answer, and not when the time for answers is up."""

import contextlib
import os
import threading
import time
from pathlib import Path

from lib import check
from lib.kmsg import Kmsg
from lib.mirror import Mirror

MIB = 1 << 20
WRITERS = 6
# What a channel that is removed waits for answers at most: Documentation/channels.rst.
DRAIN_S = 5


def run():
    with small_sockets():
        disconnect()


@contextlib.contextmanager
def small_sockets():
    """Sockets take 1 MiB each way: by default they take more than the 8 MiB of writes that a device has on their way at most."""
    limits = [Path("/proc/sys/net/ipv4", name) for name in ("tcp_rmem", "tcp_wmem")]
    before = [limit.read_text() for limit in limits]
    for limit in limits:
        limit.write_text("4096 65536 1048576")
    try:
        yield
    finally:
        for limit, text in zip(limits, before, strict=True):
            limit.write_text(text)


def disconnect():
    with Mirror(size=64 * MIB, channels=1, settings=["timeout=60"]) as mirror, Kmsg() as kmsg:
        busy = mirror.servers[1]
        # The first write after the device was enabled goes from group to group.
        mirror.disk.write(0, os.urandom(4096))
        busy.pause()
        writers = [threading.Thread(target=mirror.disk.write, args=(n * 4 * MIB, os.urandom(4 * MIB))) for n in range(WRITERS)]
        for writer in writers:
            writer.start()
        mirror.wait_until(lambda s: pending_mib(s) >= 8, 60, "more is queued than a socket takes")
        took = []
        remover = threading.Thread(target=lambda: took.append(timed(lambda: mirror.command("disconnect=1"))))
        remover.start()
        kmsg.wait_for(r"\[a\] group 1 is faulty", 10)
        busy.resume()
        remover.join(60)
        check.that(took, "the group is disconnected")
        for writer in writers:
            writer.join(60)
            check.that(not writer.is_alive(), "the write has ended")
        print(f"disconnected in {took[0]:.2f} s", flush=True)
        check.that(took[0] < 0.9 * DRAIN_S, f"the command ended with the last answer: {took[0]:.2f} s")
        mirror.disable()


def pending_mib(status):
    """What group 1 has to answer."""
    return status.of_group(1)[0].pending * 4096 // MIB


def timed(act):
    """How long it took, in seconds."""
    began = time.monotonic()
    act()
    return time.monotonic() - began
