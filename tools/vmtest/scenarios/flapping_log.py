# SPDX-License-Identifier: GPL-2.0
"""A server that comes and goes every few seconds, while the device is used: its group is out and back many times. The log says each
time what the group is, and all else once a minute at most, so that it stays readable. In the end both groups hold the same."""

import collections
import re
import time

from lib import check
from lib.kmsg import Kmsg
from lib.mirror import Mirror
from lib.traffic import Traffic

LIMIT_S = 240
TIMEOUT_S = 1
FLAP_S = 50
# A line that begins just before the minute is over, and one just after.
MOST = 2
CHANNELS = 2
# What one resync tells of its runs (runlog.rs).
RUNS = 32


def run():
    with Mirror(size=4 << 20, settings=[f"timeout={TIMEOUT_S}"]) as mirror, Kmsg() as kmsg:
        with Traffic(blocks=1000) as traffic:
            faulted = flap(mirror)
            mirror.wait_until(lambda s: all(c.is_up for c in s.channels), 60, "all channels are up")
            mirror.wait_in_sync(90)
            traffic.wait_for(20, 20, "in the end")
        lines = kmsg.lines(r"enbd: \[a\]")
        check.that(faulted > 2, f"the group was out several times: {faulted}")
        kinds = collections.Counter(re.sub(r"\d+", "N", line) for line in lines)
        often = {kind: count for kind, count in kinds.items() if count > limit(kind, faulted + 1)}
        check.equal(often, {}, f"lines that were told too often, of {len(lines)} while a group was out {faulted} times")
        mirror.check_same()


def limit(kind, faulted):
    """How many lines of a kind there may be."""
    if re.search(r"group N is|ended early|nbd_resync of group N failed|copied N blocks", kind):
        return faulted
    if re.search(r"nbd_resync s|bitmap_check", kind):
        # Of one resync.
        return MOST * RUNS
    return MOST * CHANNELS if "channel N" in kind else MOST


def flap(mirror):
    """Takes the server away for longer than `timeout`, and lets its group come back, for so long."""
    faulted, end = 0, time.monotonic() + FLAP_S
    while time.monotonic() < end:
        mirror.servers[1].kill()
        mirror.wait_until(lambda s: s.mark(1) == "F", 30, "the group is out")
        faulted += 1
        mirror.servers[1].start()
        mirror.wait_until(lambda s: s.mark(1) != "F", 60, "the group comes back")
    return faulted
