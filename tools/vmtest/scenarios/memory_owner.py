# SPDX-License-Identifier: GPL-2.0
"""A mirror that a client has is not started by a second one, and that is said in time; one whose client is gone is. A client that
finds another one's beat writes nothing any more."""

import errno

from lib import check, nbdinfo
from lib.book import Book, spread
from lib.cases import case
from lib.kmsg import Kmsg
from lib.memory import BLOCK, DEVICE, Remembering, beat_place, take_over
from lib.mirror import Mirror
from lib.store import check_same

LIMIT_S = 180
BEAT_S = 1
# Two intervals, the second that a start waits, and a busy machine.
REFUSED_WITHIN_S = 30


class Second(Mirror):
    """Another client of the same servers."""

    def __init__(self, first):
        super().__init__("b", kinds=(), enable=False, channels=1)
        self.servers = first.servers

    def __enter__(self):
        return self

    def attach(self):
        """Connects to all members."""
        for server in self.servers:
            self.command(f"attach={server.endpoint} name={nbdinfo.spell(server.export)}")

    def __exit__(self, *_):
        if nbdinfo.status("b"):
            self.command("reset=1")


def run():
    with Remembering(settings=(f"owner_check={BEAT_S}",)) as mirror, Second(mirror) as second:
        book = Book(mirror.disk)
        book.write(*spread(DEVICE, 8))
        with case("a second client is refused"):
            refused(mirror, second, book)
        with case("what a group had while it was out of service"):
            set_back(mirror, book)
        with case("a client that is gone has nothing any more"):
            gone(mirror, second)
        with case("a client that finds another one's beat"):
            fenced(mirror)


def refused(mirror, second, book):
    """It is told so, by force and without, and the first one goes on."""
    wait_for_beat(mirror.stores[0])
    second.attach()
    for words in ("", " degraded", " source=0"):
        with check.within(REFUSED_WITHIN_S, f"a refused enable=1{words}"), check.refused(errno.EBUSY, f"enable=1{words}"):
            second.command(f"enable=1{words}")
        error = second.status().error
        check.that("another client has the mirror" in error, f"the status says {error!r}")
    check.that(not second.disk.exists(), "there is no second disk")
    book.write(*spread(DEVICE, 8, first=1))
    book.verify("of the first client")


def set_back(mirror, book):
    """A beat of an earlier client, on a store that was set back, say, is none of another one that lives."""
    store = mirror.stores[1]
    wait_for_beat(store)
    mirror.command("setfaulty=1")
    take_over(store)
    mirror.hotadd(1)
    mirror.wait_in_sync()
    wait_for_beat(store)
    wait_for_beat(mirror.stores[0])
    book.write(*spread(DEVICE, 8, first=2))
    book.verify("after that")


def gone(mirror, second):
    """The second one has it after two beats that did not come."""
    mirror.command("reset=1")
    second.command("enable=1")
    second.wait_in_sync()
    Book(second.disk).write(*spread(DEVICE, 4))
    second.disable()
    check_same(mirror.stores, DEVICE)
    second.command("reset=1")


def fenced(mirror):
    """Its writes fail, and what is on the servers stays as it is."""
    mirror.command(*mirror.settings)
    mirror.connect(0)
    mirror.connect(1)
    mirror.command("enable=1")
    wait_for_beat(mirror.stores[0])
    with Kmsg() as kmsg:
        take_over(mirror.stores[0])
        kmsg.wait_for("another client has the mirror, as group 0 shows", 30)
    held = [store.snapshot() for store in mirror.stores]
    with mirror.disk.open() as disk:
        disk.read(0, BLOCK)
        with check.refused(errno.EIO, "a write of a client that was fenced"):
            disk.write(0, bytes(BLOCK))
        mirror.command("setfaulty=1")
        with check.refused(errno.EIO, "another one, to be recorded before"):
            disk.write(0, bytes(BLOCK))
    check.equal([store.snapshot() for store in mirror.stores], held, "what is on the servers")
    mirror.forget()
    mirror.connect(0)
    mirror.connect(1)
    mirror.command("enable=1")
    mirror.wait_in_sync()
    mirror.disable()
    check_same(mirror.stores, DEVICE)


def wait_for_beat(store):
    """Waits until a client counts up."""
    first = store.read(beat_place(store), BLOCK)
    check.until(lambda: store.read(beat_place(store), BLOCK) != first, 30, f"a beat on {store.name}")
