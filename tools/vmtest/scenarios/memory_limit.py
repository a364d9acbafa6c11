# SPDX-License-Identifier: GPL-2.0
"""A program whose cgroup is at its limit of memory, full of dirty pages that can only go to the device, with both servers on the
same machine: it goes on, is not killed and finds what it wrote, while a server is killed, misses writes and is brought back."""

import os

from lib import check
from lib.cgroup import Cgroup
from lib.feast import Feast
from lib.mirror import Mirror
from lib.program import run as run_program
from lib.server import Nbdkit, QemuNbd

LIMIT_S = 240
MIB = 1 << 20
SIZE = 32 * MIB
FILE = 16 * MIB
LIMIT = 14 * MIB


def run():
    with Mirror(kinds=[Nbdkit, QemuNbd], size=SIZE, settings=["timeout=4", "resync_min=100000"]) as mirror:
        run_program("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", mirror.disk.path)
        os.mkdir("mnt")
        run_program("mount", mirror.disk.path, "mnt")
        with Cgroup("glutton", LIMIT) as cgroup, Feast(cgroup, "file", FILE, "mnt/file") as feast:
            write(mirror, feast)
            check.that(cgroup.events()["max"] > 0, "the cgroup was at its limit")
            check.equal(cgroup.events()["oom_kill"], 0, "programs killed for want of memory")
        run_program("umount", "mnt")
        run_program("fsck.ext4", "-fn", mirror.disk.path)
        mirror.check_same()


def write(mirror, feast):
    """What happens meanwhile."""
    feast.wait_for(1, 90, "before")
    mirror.servers[1].kill()
    mirror.wait_until(lambda s: s.mark(1) == "F", 30, "group 1 is faulted")
    feast.wait_for(1, 90, "with one server")
    check.that(mirror.status().dirty > 0, "what group 1 misses is marked")
    mirror.servers[1].start()
    mirror.wait_in_sync(90)
    feast.wait_for(1, 90, "with both servers again")
