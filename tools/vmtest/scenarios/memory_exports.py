# SPDX-License-Identifier: GPL-2.0
"""What `create`, `connect`, `attach` and `forget` find on exports: one that is in use, another mirror's, the same member twice, a
copy, a blank one, one that was set back. Each is its own refusal, or is taken for what it is."""

import errno

from lib import check, nbdinfo
from lib.book import Book, spread
from lib.cases import case
from lib.memory import BLOCK, DEVICE, EXPORT, Remembering, newest, wipe
from lib.mirror import MIB, Mirror
from lib.server import Nbdkit
from lib.store import Store, check_same

LIMIT_S = 300


def run():
    with case("an export that is in use at its end"):
        in_use()
    with case("exports that are too small"):
        too_small()
    with case("without metadata not one byte is written or read"):
        without()
    with Remembering() as mirror:
        book = Book(mirror.disk)
        book.write(*spread(DEVICE, 8))
        mirror.disable()
        with case("another mirror's member"):
            foreign(mirror)
        with case("the same member twice, and a copy of it"):
            twice(mirror)
        with case("a blank export in place of a member"):
            blank(mirror, book)
        with case("a member that was set back"):
            set_back(mirror, book)
        with case("a new member"):
            new_member(mirror, book)
        with case("a member that is forgotten"):
            forgotten(mirror, book)


def in_use():
    """`create` leaves it alone, unless it is told not to."""
    with Mirror(size=EXPORT, enable=False) as mirror:
        held = b"data" * (BLOCK // 4)
        mirror.stores[1].write(EXPORT - MIB // 2, held)
        with check.refused(errno.EEXIST, "create over what is there"):
            mirror.command("create=0")
        check.equal(mirror.stores[1].read(EXPORT - MIB // 2, BLOCK), held, "what is at the end")
        check.that(not any(mirror.stores[0].snapshot()), "nothing was written to the other one")
        mirror.command("enable=1")
        mirror.disable()
        with check.refused(errno.EBUSY, "create on a device that was enabled"):
            mirror.command("create=0 force")
    with Mirror(size=EXPORT, enable=False) as mirror:
        mirror.stores[1].write(EXPORT - MIB // 2, held)
        with check.refused(errno.ENOENT, "create with a group that is not there"):
            mirror.command("create=5")
        mirror.command("create=0 force", "enable=1")
        mirror.wait_in_sync()
        check.equal(mirror.status().size_kb, DEVICE >> 10, "KiB of the device")


def too_small():
    """Metadata needs 8 MiB."""
    with Mirror(size=8 * MIB - BLOCK, enable=False) as mirror:
        with check.refused(errno.EFBIG, "create on small exports"):
            mirror.command("create=0")
        mirror.command("enable=1")


def without():
    """As it was before there was metadata."""
    with Mirror(size=EXPORT) as mirror:
        with check.refused(errno.EBUSY, "enable twice"):
            mirror.command("enable=1 degraded")
        check.equal(mirror.status().size_kb, EXPORT >> 10, "KiB of the device")
        mirror.disable()
        with check.refused(errno.EINVAL, "a degraded start without metadata"):
            mirror.command("enable=1 degraded")
        check.that(not any(any(store.snapshot()) for store in mirror.stores), "nothing was written")


def foreign(mirror):
    """It is refused, be it connected before or after."""
    with Remembering("b") as other:
        other.disable()
        mirror.forget()
        mirror.connect(0)
        server = other.servers[1]
        line = f"connect=1 {server.endpoint} name={nbdinfo.spell(server.export)}"
        mirror.refuses(errno.EEXIST, line, "group 1 belongs to another mirror")
        mirror.connect(1)
        mirror.command("enable=1")
        mirror.disable()


def twice(mirror):
    """Whoever has a member's superblock is not another member."""
    mirror.forget()
    mirror.connect(0)
    server = mirror.servers[0]
    line = f"connect=1 {server.endpoint} name={nbdinfo.spell(server.export)} force"
    mirror.refuses(errno.EEXIST, line, "group 1 has the superblock of another member")
    copy = Store("copy", EXPORT)
    copy.replace(mirror.stores[0].snapshot())
    with Nbdkit(copy) as server:
        line = f"connect=1 {server.endpoint} name={nbdinfo.spell(server.export)}"
        mirror.refuses(errno.EEXIST, line, "group 1 has the superblock of another member")
        mirror.refuses(errno.EEXIST, f"attach={server.endpoint} name=copy", "the group of this member is there already")
    mirror.connect(1)


def blank(mirror, book):
    """It joins as one that misses everything."""
    mirror.forget()
    held = mirror.stores[1].snapshot()
    mirror.stores[1].empty()
    mirror.connect_all()
    mirror.missing(1)
    mirror.command("enable=1 degraded")
    check.equal(mirror.status().marks(), {0: "", 1: "F"}, "the states with a blank one")
    book.verify("beside a blank one")
    mirror.hotadd(1)
    mirror.wait_in_sync()
    mirror.disable()
    check_same(mirror.stores, DEVICE)
    check.that(mirror.stores[1].snapshot() != held, "it has superblocks of its own")


def set_back(mirror, book):
    """An older copy of a member that was restored is not current, whatever it says."""
    older = mirror.stores[1].snapshot()
    mirror.command("enable=1")
    book.write(*spread(DEVICE, 8, first=1))
    mirror.disable()
    mirror.forget()
    mirror.servers[1].kill()
    mirror.stores[1].replace(older)
    mirror.servers[1].start()
    mirror.connect_all()
    mirror.command("enable=1")
    check.equal(newest(mirror.stores[0]).in_sync, {0}, "who is in sync")
    mirror.wait_in_sync()
    book.verify("after a member was set back")
    mirror.disable()
    check_same(mirror.stores, DEVICE)


def new_member(mirror, book):
    """A third group is added to the enabled device, and is a member from then on."""
    mirror.command("enable=1")
    third = mirror.add(Nbdkit(Store("a2", EXPORT)))
    mirror.hotadd(third)
    mirror.wait_in_sync()
    mirror.disable()
    check_same(mirror.stores, DEVICE)
    check.equal(newest(mirror.stores[third]).in_sync, {0, 1, 2}, "who is in sync, by the new one")
    mirror.forget()
    mirror.connect_all(0, 1)
    mirror.missing(2)
    mirror.connect(third)
    mirror.command("enable=1")
    book.verify("with three")
    mirror.disable()


def forgotten(mirror, book):
    """It is no member any more, and the others do not wait for it. Nothing is left, so it may become one again."""
    mirror.command("forget=2")
    check.that(not any(mirror.stores[2].read(EXPORT - MIB, MIB)), "nothing is left of the metadata")
    mirror.command("enable=1")
    mirror.hotadd(2)
    mirror.wait_in_sync()
    mirror.disable()
    mirror.command("forget=2")
    mirror.forget()
    mirror.connect_all(0, 1)
    mirror.command("enable=1")
    book.verify("without the third")
    mirror.disable()
    mirror.forget()
    wipe(mirror.stores[1])
    wipe(mirror.stores[0])
    mirror.connect_all(0, 1)
    mirror.command("enable=1")
    check.equal(mirror.status().size_kb, EXPORT >> 10, "KiB of the device without metadata")
