# SPDX-License-Identifier: GPL-2.0
"""resync_max is kept, may be changed while a resync runs, and the estimate of the end is sane; without it a resync is done at
once; with the disk in use it still goes on, at resync_min at least."""

import os
import time

from lib import check
from lib.mirror import Mirror
from lib.traffic import Traffic

SIZE = 4 << 20
KIB = 1024


def run():
    with Mirror(size=SIZE, settings=["blocksize=1024"]) as mirror:
        kept(mirror)
        in_use(mirror)
        mirror.check_same()


def kept(mirror):
    """1 MiB at 256 KiB/s would take 4 s; after 1 MiB/s were allowed it takes less."""
    mirror.command("setfaulty=1")
    mirror.disk.write(0, os.urandom(KIB * KIB))
    mirror.command("resync_max=256", "hotadd=1")
    began = time.monotonic()
    half = mirror.wait_until(lambda s: s.dirty_columns[1] <= 512, 30, "half of it is copied")
    took = time.monotonic() - began
    # A window of up to 256 KiB may be ahead.
    check.between(took, 0.9, 12, "seconds for 512 KiB at 256 KiB/s")
    check.that(half.resyncs and half.resyncs[0].finish <= 30, f"the estimated end is sane: {half.resyncs[0].finish} s")
    mirror.command("resync_max=0")
    with check.within(5, "the rest without a limit"):
        mirror.wait_in_sync()


def in_use(mirror):
    """The users' own requests come first, but not alone."""
    with Traffic(blocks=256, first=512) as traffic:
        mirror.command("setfaulty=1")
        mirror.disk.write(0, os.urandom(KIB * KIB))
        mirror.command("resync_min=512", "hotadd=1")
        with check.within(20, "1 MiB at 512 KiB/s at least, with the disk in use"):
            mirror.wait_in_sync()
        traffic.wait_for(20, 20, "after the resync")
    traffic.verify()
