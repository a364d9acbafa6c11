# SPDX-License-Identifier: GPL-2.0
"""A server of a mirror comes back with an empty store, an older copy, or another store: after a moment, after the timeout, after
`setfaulty`, or while the device was disabled. The group is faulty until it is copied in full; nothing is copied to it before."""

from lib import check
from lib.book import Book, spread
from lib.cases import case
from lib.kmsg import Kmsg
from lib.loss import emptied, foreign, rolled_back
from lib.mirror import MIB, Mirror
from lib.server import Nbdkit, QemuNbd
from lib.store import differing_blocks

LIMIT_S = 240
SIZE = 8 * MIB
DIFFERS = "clean blocks differ from the mirror's: not the server that was lost"
# Each resync has a line for its end; not each has one for its beginning: what the keeper begins again within a minute has none.
ENDED = r"\[a\] (nbd_resync of group 1 (refused|failed|ended)|group 1 is in sync)"


def run():
    lost(at_once, [emptied, rolled_back, foreign])
    lost(after_the_timeout, [emptied, rolled_back])
    lost(set_faulty, [emptied, rolled_back])
    lost(while_disabled, [emptied])


def lost(how, losses):
    """One way to come back: with all of its data, and after each loss."""
    with Mirror(kinds=[Nbdkit, QemuNbd], size=SIZE) as mirror, Kmsg() as kmsg:
        book = Book(mirror.disk)
        book.write(*spread(SIZE, 16))
        if how is at_once:
            nothing_lost(mirror, kmsg, book)
        for lose in losses:
            with case(f"{lose.__name__}, {how.__name__}"):
                come_back(mirror, kmsg, book, how, lose)
        book.verify("in the end")
        mirror.check_same()


def nothing_lost(mirror, kmsg, book):
    """The server that was lost: it goes on as if nothing had been."""
    restart(mirror, lambda: None)
    wait_up(mirror)
    book.write(1)
    check.equal(kmsg.lines(rf"group 1 is faulty|{ENDED}"), [], "lines of the log on the right server")
    check.equal(mirror.status().marks(), {0: "", 1: ""}, "marks after the right server came back")


def come_back(mirror, kmsg, book, how, lose):
    """One way to come back with one loss, and the way to health."""
    what = f"{lose.__name__}, {how.__name__}"
    store = mirror.servers[1].store
    older = store.snapshot()
    book.write(*spread(SIZE, 8, first=2))
    kmsg.forget()
    held = how(mirror, lambda: lose(store, older))
    found_out(mirror, kmsg, book, what)
    check.that(store.snapshot() == held(), f"{what}: nothing was copied to the server")
    book.verify(what)
    refused(mirror, kmsg, what)
    ended = 1 if how in (at_once, while_disabled) else 2
    check.equal(len(kmsg.lines(ENDED)), ended, f"{what}: resyncs, which nobody has asked for")
    mirror.hotadd(1, " full")
    mirror.wait_in_sync(60)
    check.equal(list(differing_blocks(mirror.stores)), [], f"{what}: blocks that differ after all was copied")


def restart(mirror, lose):
    """The server is killed, loses something, and is there again before anybody misses it. Gives what it held then."""
    server = mirror.servers[1]
    server.kill()
    mirror.wait_until(lambda s: not any(c.is_up for c in s.of_group(1)), 20, "the channels are down")
    lose()
    held = server.store.snapshot()
    server.start()
    return lambda: held


def at_once(mirror, lose):
    """The group is in sync all the time."""
    return restart(mirror, lose)


def after_the_timeout(mirror, lose):
    """The group is faulted before the server is back, and brought back by the keeper."""
    server = mirror.servers[1]
    mirror.command("timeout=1")
    server.kill()
    mirror.wait_until(lambda s: s.mark(1) == "F", 20, "the group is faulted")
    mirror.command("timeout=30")
    lose()
    held = server.store.snapshot()
    server.start()
    return lambda: held


def set_faulty(mirror, lose):
    """The administrator does it in order."""
    mirror.command("setfaulty=1")
    held = restart(mirror, lose)
    wait_up(mirror)
    mirror.command("hotadd=1")
    return held


def while_disabled(mirror, lose):
    """The device is disabled while the server is away."""
    mirror.disable()
    held = restart(mirror, lose)
    mirror.command("enable=1")
    return held


def wait_up(mirror):
    """Waits until all channels are up."""
    mirror.wait_until(lambda s: all(c.is_up for c in s.channels), 40, "all channels are up")


def is_settled(mirror):
    """Whether the mirror takes itself for whole."""
    now = mirror.status()
    return now.is_clean() and all(c.is_up for c in now.channels)


def found_out(mirror, kmsg, book, what):
    """Fails unless group 1 is faulted, since its data differs."""
    pattern = rf"\[a\] group 1 is faulty: {DIFFERS}"
    check.until(lambda: kmsg.lines(pattern) or is_settled(mirror), 60, f"{what}: the group is in sync or refused")
    if not kmsg.lines(pattern):
        # Whatever is asked of a channel is asked before it carries a write.
        book.write(3)
    count = len(list(differing_blocks(mirror.stores)))
    check.that(kmsg.lines(pattern), f"{what}: the group is in sync, and {count} blocks differ")
    now = mirror.status()
    check.equal(now.group_lines.get(1), ("faulty", False, DIFFERS), f"{what}: state of the group")


def refused(mirror, kmsg, what):
    """It does not come back without `full`."""
    wait_up(mirror)
    pattern = r"\[a\] nbd_resync of group 1 refused: .*hotadd\[a\]=1 full"
    seen = len(kmsg.lines(pattern))
    mirror.hotadd(1)
    kmsg.wait_for(pattern, 30, seen + 1)
    check.equal(mirror.status().mark(1), "F", f"{what}: mark after hotadd without full")
