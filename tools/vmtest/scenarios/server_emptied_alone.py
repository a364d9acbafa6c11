# SPDX-License-Identifier: GPL-2.0
"""The server of the only group, or of the last one in sync, comes back with an empty store, an older copy, or another store: no
channel comes up, the status says why, requests are held. When the right store is there again all goes on."""

from lib import check
from lib.book import Book, spread
from lib.cases import case
from lib.errand import Errand
from lib.loss import emptied, foreign, rolled_back
from lib.mirror import MIB, Mirror
from lib.server import Nbdkit, QemuNbd

LIMIT_S = 240
SIZE = 8 * MIB
LOSSES = (emptied, rolled_back, foreign)
PHRASE = "the server does not hold the data of the group"


def run():
    for kind in (Nbdkit, QemuNbd):
        only_group(kind)
    last_in_sync()
    all_lost()
    while_disabled()


def only_group(kind):
    """A device with one group."""
    with Mirror(kinds=[kind], size=SIZE) as mirror:
        book = Book(mirror.disk)
        book.write(*spread(SIZE, 8))
        for lose in LOSSES:
            what = f"{lose.__name__}, the only group, {kind.__name__}"
            with case(what):
                stand_in(mirror, book, what, lose)


def last_in_sync():
    """A mirror whose other group is faulty."""
    with Mirror(size=SIZE) as mirror:
        book = Book(mirror.disk)
        book.write(*spread(SIZE, 8))
        mirror.command("setfaulty=1")
        stand_in(mirror, book, "emptied, the last group in sync", emptied)
        mirror.resync(1)
        mirror.check_same()


def stand_in(mirror, book, what, lose):
    """Group 0's server comes back with a loss, and then as it was."""
    server, store = mirror.servers[0], mirror.stores[0]
    older = store.snapshot()
    book.write(*spread(SIZE, 8, first=2))
    kill(mirror, 0)
    right = store.snapshot()
    lose(store, older)
    held = store.snapshot()
    server.start()
    # A block that nobody has written, so that it is not verified meanwhile.
    unused = max(book.blocks) + 1
    errands = [Errand(f"{what}: a read ends", book.verify, what), Errand(f"{what}: a write ends", book.write, unused)]
    held_back(mirror, errands, what)
    server.kill()
    check.that(store.snapshot() == held, f"{what}: nothing was written to the wrong store")
    store.replace(right)
    server.start()
    for errand in errands:
        errand.join(60)
    wait_up(mirror)
    book.verify(f"{what}, with the right store")


def kill(mirror, group):
    """The server dies, and that is known."""
    mirror.servers[group].kill()
    mirror.wait_until(lambda s: not any(c.is_up for c in s.of_group(group)), 20, f"the channels of group {group} are down")


def is_refused(mirror):
    """Whether the status says that group 0 is refused for what it holds. The log tells that once a minute."""
    return any(not c.is_up and PHRASE in (c.last_error or "") for c in mirror.status().of_group(0))


def is_up(mirror):
    """Whether all channels are up."""
    return all(c.is_up for c in mirror.status().channels)


def wait_up(mirror):
    """Waits until all channels are up."""
    mirror.wait_until(lambda s: all(c.is_up for c in s.channels), 60, "all channels are up")


def held_back(mirror, errands, what):
    """Fails unless the server is refused, and requests wait."""

    def is_decided():
        return is_refused(mirror) or any(one.has_ended() for one in errands)

    check.until(is_decided, 60, f"{what}: the server is refused or used")
    if not is_refused(mirror):
        # The read, which tells more.
        errands[0].join(20)
    check.that(is_refused(mirror), f"{what}: the server is used")
    # Both errands: neither has ended, and there is no more of them than two requests.
    now = mirror.wait_until(lambda s: s.queued_current >= 2, 20, f"{what}: requests are held")
    check.that(not any(one.has_ended() for one in errands), f"{what}: neither the read nor the write has ended")
    check.that(not any(c.is_up for c in now.of_group(0)), f"{what}: no channel of the group is up")
    check.that(any(PHRASE in (c.last_error or "") for c in now.of_group(0)), f"{what}: a Channel line says why")
    check.equal(now.mark(0), "", f"{what}: mark of the group")


def all_lost():
    """Both groups are in sync and lost, and the one that comes back first is empty."""
    with Mirror(size=SIZE, settings=["timeout=300"]) as mirror:
        book, what = Book(mirror.disk), "emptied, the first of two that come back"
        book.write(*spread(SIZE, 8))
        kill(mirror, 0)
        kill(mirror, 1)
        mirror.stores[0].empty()
        mirror.servers[0].start()
        unused = max(book.blocks) + 1
        errands = [Errand(f"{what}: a read ends", book.verify, what), Errand(f"{what}: a write ends", book.write, unused)]
        held_back(mirror, errands, what)
        mirror.servers[1].start()
        for errand in errands:
            errand.join(60)
        mirror.wait_until(lambda s: s.mark(0) == "F" and all(c.is_up for c in s.channels), 60, f"{what}: it is faulty in the end")
        mirror.hotadd(0, " full")
        mirror.wait_in_sync(60)
        book.verify(what)
        mirror.check_same()


def while_disabled():
    """The server is another one while the device is disabled. It is asked when the device is enabled, if not before."""
    with Mirror(kinds=[Nbdkit], size=SIZE) as mirror:
        book, what = Book(mirror.disk), "emptied, while the device was disabled"
        book.write(*spread(SIZE, 8))
        mirror.disable()
        kill(mirror, 0)
        right = mirror.stores[0].snapshot()
        mirror.stores[0].empty()
        mirror.servers[0].start()
        errand = Errand(f"{what}: the device is enabled", mirror.command, "enable=1")
        check.until(lambda: is_refused(mirror) or errand.has_ended() and is_up(mirror), 60, f"{what}: it is refused or used")
        if not is_refused(mirror):
            book.verify(what)
        check.that(is_refused(mirror), f"{what}: the server is refused")
        mirror.servers[0].kill()
        check.equal(mirror.stores[0].allocated(), 0, f"{what}: bytes that were written to the empty store")
        mirror.stores[0].replace(right)
        mirror.servers[0].start()
        wait_up(mirror)
        check.until(errand.has_ended, 60, f"{what}: the command ends")
        if not mirror.status().enabled:
            mirror.command("enable=1")
        book.verify(f"{what}, with the right store")
