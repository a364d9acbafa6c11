# SPDX-License-Identifier: GPL-2.0
"""fio writes and verifies on the raw disk with several jobs and block sizes, for a minute, while groups are set faulty and brought
back at random; in the end both are in sync, no block is marked, and both stores are the same."""

from lib import check
from lib.fio import Fio, Unrest
from lib.mirror import Mirror

LIMIT_S = 400
SECONDS = 60
SEED = 2003

JOBS = """filename=/dev/nda
[small]
rw=randrw
bs=4k
iodepth=8
size=8m
[sectors]
rw=randwrite
bs=512
iodepth=4
offset=8m
size=1m
[large]
rw=randrw
bs=128k
iodepth=4
offset=16m
size=8m
[serial]
rw=write
bs=64k
iodepth=2
offset=24m
size=8m
"""


def run():
    # A resync that does not give way is over sooner, and there are more of them.
    with Mirror(size=32 << 20, settings=["blocksize=1024", "resync_min=32768"]) as mirror:
        with Fio(JOBS, SECONDS, SEED) as fio:
            unrest = Unrest(mirror, fio, SEED)
            unrest.run()
        check.that(unrest.rounds >= 5, f"groups left and returned often enough: {unrest.rounds} times")
        now = mirror.wait_in_sync()
        check.equal((now.dirty, now.errored), (0, 0), "marked blocks and errors in the end")
        mirror.check_same()
