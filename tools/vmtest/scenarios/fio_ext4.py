# SPDX-License-Identifier: GPL-2.0
"""The same with ext4 in between: fio verifies files while groups are set faulty and brought back at random; in the end both
groups are in sync, no block is marked, the file system is whole, and both stores are the same."""

from lib import check
from lib.filesystem import FileSystem
from lib.fio import Fio, Unrest
from lib.mirror import Mirror

LIMIT_S = 400
SECONDS = 45
SEED = 1998

JOBS = """directory={place}
[direct]
rw=randrw
bs=4k
iodepth=8
size=6m
[buffered]
direct=0
ioengine=psync
rw=randwrite
bs=1k
size=2m
fsync=32
[large]
rw=randrw
bs=64k
iodepth=2
size=6m
"""


def run():
    # A resync that does not give way is over sooner, and there are more of them.
    with Mirror(size=32 << 20, settings=["blocksize=1024", "resync_min=32768"]) as mirror:
        made = FileSystem("ext4", mirror.disk)
        with made:
            with Fio(JOBS.format(place=made.place), SECONDS, SEED) as fio:
                unrest = Unrest(mirror, fio, SEED)
                unrest.run()
        check.that(unrest.rounds >= 5, f"groups left and returned often enough: {unrest.rounds} times")
        mirror.wait_in_sync()
        made.check()
        mirror.check_same()
