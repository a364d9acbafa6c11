# SPDX-License-Identifier: GPL-2.0
"""One of two servers dies, or stops answering, and returns: the device goes on with the other; the group is faulted with what it
missed marked, and is brought back by itself, or by the administrator where autoadd is off."""

import itertools

from lib import check
from lib.afresh import reset_all
from lib.cases import case
from lib.kmsg import Kmsg
from lib.mirror import Mirror
from lib.server import KINDS, Nbdkit
from lib.traffic import Traffic

LIMIT_S = 240


def run():
    for kind, autoadd in itertools.chain(((kind, 1) for kind in KINDS), [(Nbdkit, 0)]):
        with case(f"{kind.__name__}, autoadd {autoadd}", reset_all):
            die(kind, autoadd)
    stop_answering()


def die(kind, autoadd):
    """Group 1's server is killed with requests on their way, and started again."""
    what = f"{kind.__name__}, autoadd {autoadd}"
    with Mirror(kinds=[Nbdkit, kind], settings=["timeout=3", f"autoadd={autoadd}"]) as mirror, Kmsg() as kmsg:
        with Traffic(seed=6) as traffic:
            traffic.wait_for(50, 30, f"before, {what}")
            mirror.servers[1].kill()
            traffic.wait_for(50, 20, f"after group 1's server died, {what}")
            lost = mirror.wait_until(lambda s: s.mark(1) == "F", 20, f"group 1 is faulted, {what}")
            check.that(lost.group_lines[1][2], f"the status says why group 1 is faulty, {what}")
            check.that(not any(channel.is_up for channel in lost.of_group(1)), f"its channels are down, {what}")
            traffic.wait_for(50, 20, f"with one group, {what}")
            check.that(mirror.status().dirty_columns[1] > 0, f"what group 1 misses is marked, {what}")
            mirror.servers[1].start()
            mirror.wait_until(lambda s: all(c.is_up for c in s.channels), 40, f"the channels are back, {what}")
            if not autoadd:
                traffic.wait_for(50, 20, f"the group is not brought back, {what}")
                check.equal(mirror.status().mark(1), "F", f"mark of a group that is not to return by itself, {what}")
                mirror.command("hotadd=1")
            mirror.wait_in_sync(60)
            traffic.wait_for(50, 20, f"in the end, {what}")
        traffic.verify()
        check.that(kmsg.lines(r"\[a\] group 1 is faulty"), f"the log says that group 1 is faulty, {what}")
        mirror.check_same()


def stop_answering():
    """Group 1's server lets its sockets open and does nothing: after the timeout the device does without it."""
    with Mirror(settings=["timeout=2", "connect_timeout=2"]) as mirror, Kmsg() as kmsg:
        with Traffic(seed=7) as traffic:
            traffic.wait_for(50, 30, "before")
            mirror.servers[1].pause()
            traffic.wait_for(100, 30, "after group 1's server stopped answering")
            mirror.wait_until(lambda s: s.mark(1) == "F", 20, "group 1 is faulted")
            check.that(kmsg.lines(r"\[a\] group 1 channel \d \(.*not answered in time"), "the log names the channel and the reason")
            mirror.servers[1].resume()
            mirror.wait_in_sync(60)
        traffic.verify()
        mirror.check_same()
