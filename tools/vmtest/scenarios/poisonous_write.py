# SPDX-License-Identifier: GPL-2.0
"""A server ends its connection whenever it is sent a certain write. In a mirror the write ends without it, the group is faulty and
says why, and the others go on; also while it is brought back again and again. Where it is the last one the write waits, is sent
more and more rarely, says little in the log, and ends when the server takes it, or fails with show_errs."""

import errno
import os

from lib import check
from lib.errand import Errand
from lib.impostor import Impostor
from lib.kmsg import Kmsg
from lib.mirror import MIB, Mirror
from lib.poison import Poison
from lib.server import Nbdkit
from lib.traffic import Traffic

LIMIT_S = 400
TURNS = 4
BLOCK = 4096
SIZE = 4 * MIB
REASON = "its connections ended again and again with the same write"
# So many connections are lost with a write, and one more that the other channel had it on.
MOST_SENT = 4
# An end of all that has to come; nothing is measured by it.
ENOUGH_S = 120
CHANNEL = r"\[a\] group {} channel {} "


def run():
    in_a_mirror()
    while_it_returns()
    held_for_the_last_one()
    failed_for_the_last_one()


def sick_server():
    """A server that does not survive a write of the first block, and what it says of itself."""
    poison = Poison(0)
    return Impostor(poison, size=SIZE), poison


def fill(mirror):
    """Something by which enbd knows the server again, and that is flushed: else the group is given up for that at the first end."""
    mirror.disk.write(MIB, os.urandom(MIB), os.O_SYNC)


def write_at_it(mirror):
    """The write that the server does not survive."""
    return Errand("the write that ends connections", mirror.disk.write, 0, os.urandom(BLOCK))


def ends_within(write, poison, most, what):
    """Waits until the write has ended, while the server was sent it no more than so often."""
    check.until(lambda: write.has_ended() or poison.count > most, ENOUGH_S, f"the write ends, {what}")
    check.between(poison.count, 0, most, f"how often the server was sent the write, {what}")
    write.join(ENOUGH_S)


def in_a_mirror():
    """The group is taken out of service for it; the other one goes on; when the server is well it returns."""
    server, poison = sick_server()
    kinds = [Nbdkit, lambda store: server]
    with Mirror(kinds=kinds, size=SIZE, settings=["timeout=5", "autoadd=0"]) as mirror, Kmsg() as kmsg:
        fill(mirror)
        ends_within(write_at_it(mirror), poison, MOST_SENT, "beside a healthy group")
        mirror.wait_until(lambda s: s.mark(1) == "F", ENOUGH_S, "the group is faulty")
        now = mirror.status()
        check.equal(now.group_lines[1], ("faulty", False, REASON), "what is said of the group")
        check.equal(now.mark(0), "", "mark of the other group")
        check.equal(now.dirty_columns[1], 1, "blocks that it misses")
        with Traffic(first=0, blocks=64) as traffic:
            traffic.wait_for(50, ENOUGH_S, "on the other group")
        traffic.verify()
        check.that(poison.count <= MOST_SENT, f"a group that is faulty is sent nothing: {poison.count}")
        for channel in (2, 3):
            lines = kmsg.lines(CHANNEL.format(1, channel))
            check.between(len(lines), 0, 2, f"lines of the log for channel {channel}: {lines}")
        poison.heal()
        mirror.wait_until(lambda s: all(c.is_up for c in s.of_group(1)), ENOUGH_S, "the channels are back")
        mirror.resync(1, ENOUGH_S)
        mirror.disable()
        check.that(mirror.servers[0].store.read(0, SIZE) == bytes(server.data), "both groups hold the same")


def while_it_returns():
    """The keeper brings the group back again and again, and its resync meets the same write: users' writes go on all the same,
    those of the block, too."""
    server, poison = sick_server()
    kinds = [Nbdkit, lambda store: server]
    with Mirror(kinds=kinds, size=SIZE, settings=["timeout=5"]) as mirror:
        fill(mirror)
        for turn in range(TURNS):
            most = poison.count + 2 * MOST_SENT  # The resync may send it, too.
            ends_within(write_at_it(mirror), poison, most, f"turn {turn}")
            poison.wait_for(poison.count + 1, ENOUGH_S, f"the resync meets the write, turn {turn}")
        check.equal(mirror.status().mark(0), "", "mark of the other group")
        poison.heal()
        mirror.wait_in_sync(ENOUGH_S)
        mirror.disable()
        check.that(mirror.servers[0].store.read(0, SIZE) == bytes(server.data), "both groups hold the same")


def held_for_the_last_one():
    """It waits, and is sent more and more rarely; when the server takes it, it ends."""
    server, poison = sick_server()
    with Mirror(kinds=[lambda store: server], size=SIZE, channels=1, settings=["timeout=5"]) as mirror, Kmsg() as kmsg:
        write = write_at_it(mirror)
        poison.wait_for(7, ENOUGH_S, "the write is sent again")
        check.that(not write.has_ended(), "the write is held")
        with check.refused(errno.EBUSY, "setfaulty of the last group"):
            mirror.command("setfaulty=0")
        times = poison.times[:7]
        early, late = times[3] - times[0], times[6] - times[3]
        check.that(late > 2 * early, f"three more times take much longer than the first three: {late:.1f} s, {early:.1f} s")
        lines = kmsg.lines(CHANNEL.format(0, 0))
        check.between(len(lines), 1, 3, f"lines of the log for the channel: {lines}")
        poison.heal()
        write.join(ENOUGH_S)
        check.equal(bytes(server.data[:BLOCK]), mirror.disk.read(0, BLOCK), "what the server holds")
        mirror.command("reset=1")


def failed_for_the_last_one():
    """With show_errs it fails: when the connections have become so rare that there was none for `timeout`."""
    server, poison = sick_server()
    settings = ["timeout=2", "show_errs=1"]
    with Mirror(kinds=[lambda store: server], size=SIZE, channels=1, settings=settings) as mirror:
        write = Errand("the write that ends connections", refused_write, mirror.disk)
        ends_within(write, poison, 12, "with show_errs")
        mirror.command("reset=1")


def refused_write(disk):
    with check.refused(errno.EIO, "the write that ends connections"):
        disk.write(0, os.urandom(BLOCK))
