# SPDX-License-Identifier: GPL-2.0
"""Two healthy servers behind slow lines, and so many requests at once that the last one is answered long after `timeout`: no
group is faulted, no connection is given up, and nothing is asked for twice. A server that stops is noticed all the same."""

from lib import check
from lib.fio import Fio
from lib.mirror import MIB, Mirror
from lib.slow import Slow, issued

LIMIT_S = 300
SIZE = 64 * MIB
TIMEOUT_S = 4
# What is asked of both at once takes twice the timeout.
DEPTH, EACH = 256, 128 << 10
JOBS = f"""
[slow]
filename=/dev/nda
rw=randrw
rwmixread=95
bs={EACH}
iodepth={DEPTH}
verify=0
"""


def run():
    check.that(DEPTH * EACH // 2 > Slow.RATE * TIMEOUT_S * 3 // 2, "a request takes longer than the timeout")
    with Mirror(kinds=[Slow, Slow], size=SIZE, channels=1, settings=[f"timeout={TIMEOUT_S}"]) as mirror:
        with Fio(JOBS, 20) as fio:
            fio.wait()
        now = mirror.status()
        check.equal((now.marks(), now.group_lines), ({0: "", 1: ""}, {}), "marks of the groups, and what is said of them")
        check.equal([(c.reconnects, c.last_error) for c in now.channels], [(0, None)] * 2, "reconnects, and last errors")
        check.equal(now.errored, 0, "requests that were lost")
        asked_once(mirror, fio)
        stopped(mirror)


def asked_once(mirror, fio):
    """What the servers were asked is what fio asked: writes of both, and reads of one; but for the few reads of who looks for
    partitions, and of enbd."""
    read, written = issued(fio, EACH)
    check.that(read > 2 * DEPTH * EACH and written > 0, f"much was asked for: {read} bytes of reads, {written} of writes")
    check.equal([server.asked("Write") for server in mirror.servers], [written] * 2, "bytes that the servers were asked to write")
    asked = sum(server.asked("Read") for server in mirror.servers)
    check.between(asked, read, read + MIB, "bytes that the servers were asked to read")


def stopped(mirror):
    """One that has stopped in the middle is found out."""
    with Fio(JOBS, 10, seed=2) as fio:
        mirror.wait_until(lambda s: s.queued_current >= DEPTH // 2, 60, "much is asked for")
        mirror.servers[1].pause()
        mirror.wait_until(lambda s: s.mark(1) == "F", 60, "the server that has stopped is found out")
        fio.wait()
        mirror.servers[1].resume()
    mirror.wait_in_sync(120)
    mirror.check_same()
