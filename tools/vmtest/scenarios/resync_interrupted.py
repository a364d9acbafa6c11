# SPDX-License-Identifier: GPL-2.0
"""A resync that is cut short, by setfaulty, by disconnect, by enable=0, by the death of the returning server or of the source,
leaves its blocks marked, and a later hotadd copies what is left."""

import os

from lib import check
from lib.cases import case
from lib.kmsg import Kmsg
from lib.mirror import Mirror
from lib.server import Nbdkit
from lib.traffic import Traffic

LIMIT_S = 180
SIZE = 4 << 20


def run():
    settings = ["blocksize=1024", "autoadd=0", "timeout=3"]
    with Mirror(size=SIZE, settings=settings, kinds=[Nbdkit] * 3, channels=1) as mirror, Kmsg() as kmsg:
        for how in (by_setfaulty, by_disconnect, by_death, by_death_of_the_source):
            with case(how.__name__):
                interrupt(mirror, kmsg, how)
        by_disable(mirror)
        mirror.check_same()


def interrupt(mirror, kmsg, how):
    """One way to cut a resync short, with users meanwhile."""
    with Traffic(blocks=64) as traffic:
        start_slowly(mirror)
        traffic.wait_for(20, 30, f"during the resync, {how.__name__}")
        kmsg.forget()
        how(mirror)
        left = mirror.wait_until(lambda s: not s.resyncs and s.mark(1) == "F", 20, f"the resync ends, {how.__name__}")
        check.between(left.dirty_columns[1], 1, SIZE // 1024, f"blocks still marked, {how.__name__}")
        check.equal(len(kmsg.lines(r"nbd_resync of group 1 .* copied \d+ blocks")), 1, "summaries of the resync")
        traffic.wait_for(20, 30, f"after the resync was cut short, {how.__name__}")
        bring_back(mirror)
    traffic.verify()


def start_slowly(mirror):
    """Group 1 misses 1 MiB, and begins to be brought back."""
    mirror.command("setfaulty=1")
    mirror.disk.write(2 << 20, os.urandom(1 << 20))
    mirror.command("resync_max=128", "hotadd=1")
    first = mirror.wait_until(lambda s: s.resyncs and s.resyncs[0].pos > 0, 10, "the resync moves")
    mirror.wait_until(lambda s: not s.resyncs or s.dirty_columns[1] < first.dirty_columns[1], 10, "blocks are copied")


def bring_back(mirror):
    """Everything up and in sync."""
    mirror.wait_until(lambda s: all(c.is_up for c in s.channels), 40, "all channels are up")
    mirror.command("resync_max=0")
    for group, mark in mirror.status().marks().items():
        if mark == "F":
            mirror.command(f"hotadd={group}")
    mirror.wait_in_sync()


def by_setfaulty(mirror):
    """The administrator."""
    mirror.command("setfaulty=1")


def by_disconnect(mirror):
    """The administrator takes the channels away. The mark goes with them, so they come back first."""
    mirror.command("disconnect=1")
    check.equal(mirror.status().group_lines[1][0], "faulty", "state after disconnect")
    mirror.connect(1)


def by_death(mirror):
    """The returning server dies. Nobody needs it, so it is not waited for, however long the timeout is."""
    mirror.command("timeout=600")
    mirror.servers[1].kill()
    lost = mirror.wait_until(lambda s: s.mark(1) == "F", 20, "the group is faulted after its server died")
    check.equal(lost.group_lines[1][2], "its last channel was lost during the resync", "why it is faulty")
    mirror.command("timeout=3")
    mirror.servers[1].start()


def by_death_of_the_source(mirror):
    """One of two sources dies, and the resync must take the other; then it is ended."""
    mirror.servers[0].kill()
    mirror.wait_until(lambda s: s.mark(0) == "F", 20, "the source is faulted after its server died")
    check.equal(mirror.status().mark(1), "_", "the resync goes on with another source")
    mirror.servers[0].start()
    mirror.command("setfaulty=1")


def by_disable(mirror):
    """The disk is taken away."""
    start_slowly(mirror)
    with check.within(20, "enable=0 during a resync"):
        mirror.disable()
    check.equal(mirror.status().mark(1), "F", "mark after the disk was taken away")
    check.between(mirror.status().dirty_columns[1], 1, SIZE // 1024, "blocks still marked after the disk was taken away")
    mirror.command("enable=1", "resync_max=0", "hotadd=1")
    mirror.wait_in_sync()
