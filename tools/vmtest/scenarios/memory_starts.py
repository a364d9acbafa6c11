# SPDX-License-Identifier: GPL-2.0
"""What a mirror that remembers does when it is started: members in any order, one that is missing, one that missed something, two
that went on without each other. What was acknowledged is there, what is not known is refused, and why is said."""

import errno

from lib import check
from lib.book import Book, spread
from lib.cases import case
from lib.memory import DEVICE, Remembering, newest
from lib.store import check_same

LIMIT_S = 240


def run():
    with Remembering() as mirror:
        book = Book(mirror.disk)
        book.write(*spread(DEVICE, 8))
        with case("an orderly end, and members in any order"):
            in_any_order(mirror, book)
        with case("a crash: one is the source"):
            after_a_crash(mirror, book)
        with case("a member missed something, and comes alone"):
            missed_something(mirror, book)
        with case("degraded, and the other one comes later"):
            degraded(mirror, book)
        with case("two went on without each other"):
            split(mirror, book)
        with case("disabled and enabled again"):
            again(mirror, book)


def in_any_order(mirror, book):
    """Nothing is copied, and the generation stays."""
    mirror.disable()
    before = newest(mirror.stores[0])
    check.that(not before.has_owner, "nobody has a device that was ended in order")
    mirror.forget()
    mirror.attach(1)
    mirror.missing(0)
    mirror.attach(0)
    mirror.command("enable=1")
    check.that(mirror.status().is_clean(), "all members are in sync")
    after = newest(mirror.stores[1])
    check.equal((after.generation, after.in_sync), (before.generation, {0, 1}), "the generation, and who is in sync")
    check.that(after.has_owner, "somebody has a device that is enabled")
    book.verify("after an orderly end")


def after_a_crash(mirror, book):
    """The other one is compared with the source, and both are equal."""
    book.write(*spread(DEVICE, 8, first=1))
    before = newest(mirror.stores[0])
    mirror.forget()
    # What was on its way to one and not to the other.
    mirror.stores[1].write(64 << 10, b"torn" * 1024)
    mirror.connect_all()
    mirror.command("enable=1")
    check.equal(newest(mirror.stores[0]).in_sync, {0}, "the source is recorded before the disk appears")
    check.that(newest(mirror.stores[0]).generation != before.generation, "a generation is drawn")
    mirror.wait_in_sync()
    book.verify("after a crash")
    mirror.disable()
    check_same(mirror.stores, DEVICE)
    mirror.command("enable=1")


def missed_something(mirror, book):
    """What only one has was acknowledged after that was recorded: the other one alone is refused."""
    mirror.command("setfaulty=1")
    book.write(*spread(DEVICE, 8, first=2))
    check.equal(newest(mirror.stores[0]).in_sync, {0}, "who is in sync, recorded before a write ends")
    mirror.forget()
    mirror.connect(1)
    mirror.missing(0)
    mirror.connect(0)
    mirror.command("enable=1")
    book.verify("with the member that has everything")
    mirror.wait_in_sync()
    mirror.disable()
    check_same(mirror.stores, DEVICE)
    # Both are in sync, so both are needed.
    mirror.forget()
    mirror.connect(1)
    mirror.missing(0)


def degraded(mirror, book):
    """One goes on by the administrator's word. The other one is known when it comes, and brought back."""
    mirror.command("enable=1 degraded")
    book.write(*spread(DEVICE, 8, first=3))
    mirror.connect(0)
    mirror.hotadd(0)
    mirror.wait_in_sync()
    book.verify("after a degraded start")
    mirror.disable()
    check_same(mirror.stores, DEVICE)
    mirror.forget()


def split(mirror, book):
    """Neither may be taken for the other without a word."""
    mirror.connect(0)
    mirror.command("enable=1 degraded")
    other = Book(mirror.disk)
    other.write(*spread(DEVICE, 4, first=4))
    mirror.disable()
    mirror.forget()
    mirror.connect(1)
    mirror.command("enable=1 degraded")
    book.write(*spread(DEVICE, 8, first=5))
    mirror.disable()
    mirror.forget()
    mirror.connect_all()
    mirror.refuses(errno.EUCLEAN, "enable=1", "have gone on without each other")
    mirror.refuses(errno.EUCLEAN, "enable=1 degraded", "have gone on without each other")
    mirror.command("enable=1 source=1")
    book.verify("of the group that was chosen")
    check.equal(mirror.status().marks(), {0: "F", 1: ""}, "who is in sync after a start by force")
    mirror.command("hotadd=0 full")
    mirror.wait_in_sync()
    book.verify("after the other one was overwritten")


def again(mirror, book):
    """In the same life of the client the map is known, and nothing more is copied."""
    mirror.command("setfaulty=0")
    book.write(*spread(DEVICE, 4, first=6))
    mirror.disable()
    mirror.command("enable=1")
    book.write(*spread(DEVICE, 4, first=7))
    mirror.hotadd(0)
    mirror.wait_in_sync()
    book.verify("after the device was enabled again")
    mirror.command("setfaulty=1")
    book.write(*spread(DEVICE, 4, first=8))
    mirror.disable()
    with check.refused(errno.EBUSY, "a source that misses something, while it is known which one does not"):
        mirror.command("enable=1 source=1")
    mirror.command("disconnect=1", "enable=1")
    book.verify("after the device was enabled without a server of the other group")
    mirror.connect(1)
    mirror.hotadd(1)
    mirror.wait_in_sync()
    mirror.disable()
    check_same(mirror.stores, DEVICE)
