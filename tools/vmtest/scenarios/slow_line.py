# SPDX-License-Identifier: GPL-2.0
"""Many reads over slow lines, far more than they carry in a short time: a channel is given about as much as it has been seen to
carry in half of the time that it has when it is removed. So all of it is answered then, and nothing is asked for twice."""

from lib import check
from lib.endpoint import Endpoint
from lib.fio import Fio
from lib.mirror import MIB, Mirror
from lib.slow import Slow, issued

LIMIT_S = 300
SIZE = 64 * MIB
DEPTH, EACH = 256, 128 << 10
# What a channel may have on its way, in seconds of its line, and what it has when it is removed: Documentation/channels.rst.
HOLD_S, DRAIN_S = 2.5, 5
JOBS = f"""
[slow]
filename=/dev/nda
rw=randread
bs={EACH}
iodepth={DEPTH}
verify=0
"""


def run():
    check.that(DEPTH * EACH // 2 > Slow.RATE * DRAIN_S * 3 // 2, "half of that takes longer than a removed channel has")
    with Mirror(kinds=[Slow], size=SIZE, channels=1, settings=["timeout=60"]) as mirror:
        first = mirror.servers[0]
        with Slow(mirror.stores[0], Endpoint()) as second:
            mirror.connect(0, channels=1, server=second)
            mirror.wait_looked_at()
            before = asked(first, second)
            with Fio(JOBS, 40) as fio:
                mirror.wait_until(lambda s: s.queued_current >= DEPTH // 2, 60, "much is asked for")
                mirror.wait_until(is_bounded, 60, "no more is on the way on a channel than its line carries in a short time")
                mirror.command(f"disconnect=0 {second.endpoint}")
                now = mirror.status()
                check.equal([c.group for c in now.channels], [0], "channels that are left")
                check.that(now.queued_current >= DEPTH // 2, f"the users go on: {now.queued_current} requests")
                fio.wait()
            now = mirror.status()
            check.equal(now.errored, 0, "requests that were lost")
            check.equal([(c.reconnects, c.last_error) for c in now.channels], [(0, None)], "reconnects, and last errors")
            read, _ = issued(fio, EACH)
            check.that(read > 2 * DEPTH * EACH, f"much was asked for: {read} bytes")
            check.between(asked(first, second) - before, read, read + MIB, "bytes that the servers were asked to read")
        mirror.disable()


def asked(*servers):
    """How many bytes they were asked to read."""
    return sum(server.asked("Read") for server in servers)


def is_bounded(status):
    """Whether that is so of all channels."""
    pending = [channel.pending * 4096 for channel in status.channels]
    return len(pending) == 2 and all(0 < one <= HOLD_S * Slow.RATE * 1.2 + EACH for one in pending)
