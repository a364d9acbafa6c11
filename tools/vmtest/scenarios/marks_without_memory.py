# SPDX-License-Identifier: GPL-2.0
"""What a faulty group misses is marked also when no memory can be had for it, more coarsely then, and is copied when it returns.
Where the kernel cannot let allocations fail (all but the debug kernel) only the fine marks are seen."""

import contextlib
import os

from lib import check
from lib.famine import famine, is_possible
from lib.mirror import Mirror

KIB = 1024
SIZE = 40 << 20
# What a coarse mark is for.
HALF = 16384
OFFSETS = (5 * KIB, 9 * KIB, (HALF + 7) * KIB)


def run():
    with Mirror(size=SIZE, settings=["blocksize=1024"]) as mirror:
        mirror.command("setfaulty=1")
        with famine() if is_possible() else contextlib.nullcontext():
            write(mirror)
        expected = 2 * HALF if is_possible() else len(OFFSETS)
        check.equal(mirror.status().dirty_columns[1], expected, "marked blocks")
        mirror.resync(1, 60)
        mirror.command("setfaulty=1")
        write(mirror)
        check.equal(mirror.status().dirty_columns[1], len(OFFSETS), "marked blocks when there is memory again")
        mirror.resync(1, 60)
        mirror.check_same()


def write(mirror):
    """One block at each place."""
    with mirror.disk.open() as disk:
        for offset in OFFSETS:
            disk.write(offset, os.urandom(KIB))
