# SPDX-License-Identifier: GPL-2.0
"""A second address of a group that leads to other data is refused: before the device is enabled, afterwards, and when what is
behind the address is replaced while another address stays up. One that leads to the same data is taken."""

import os

from lib import check
from lib.cases import case
from lib.endpoint import Endpoint
from lib.kmsg import Kmsg
from lib.loss import emptied, foreign
from lib.mirror import MIB, Mirror
from lib.server import Nbdkit
from lib.store import Store

EINVAL = 22
SIZE = 4 * MIB
BLOCK = 4096
SEED = 3
PHRASE = "the server does not hold the data of the group"


def run():
    with Mirror(kinds=[Nbdkit, Nbdkit], size=SIZE, enable=False) as mirror, Kmsg() as kmsg:
        # There before the first connection, so not known from any write.
        for store in mirror.stores:
            store.fill(SEED)
        addresses(mirror, kmsg, "before enable")
        mirror.command("enable=1")
        addresses(mirror, kmsg, "after enable")
        replaced(mirror, kmsg)
        mirror.check_same()


def addresses(mirror, kmsg, when):
    """Of other data, of none, and of the same."""
    for lose in (foreign, emptied):
        store = Store(mirror.stores[0].name, SIZE)
        lose(store, None)
        what = f"an address of a server that is {lose.__name__}, {when}"
        with case(what), Nbdkit(store) as stranger:
            refused(mirror, kmsg, stranger, what)
    for transport in ("tcp4", "unix"):
        what = f"an address of the same data by {transport} is taken, {when}"
        with case(what), Nbdkit(mirror.stores[0], Endpoint(transport)) as twin:
            mirror.connect(0, channels=1, server=twin)
            check.that(all(c.is_up for c in mirror.status().channels), what)
            mirror.command(f"disconnect=0 {twin.endpoint}")


def refused(mirror, kmsg, stranger, what):
    """It is not connected."""
    kmsg.forget()
    count = len(mirror.status().channels)
    with check.refused(EINVAL, what):
        mirror.connect(0, channels=1, server=stranger)
    now = mirror.status()
    check.equal(len(now.channels), count, f"channels after {what}")
    check.that(PHRASE in (now.error or ""), f"the status says why {what} is refused: {now.error!r}")
    check.that(kmsg.lines(rf"\[a\] .*{PHRASE}"), f"the log says why {what} is refused")
    check.equal(now.marks(), {0: "", 1: ""}, f"marks after {what}")


def replaced(mirror, kmsg):
    """What is behind a second address becomes another store, and later the right one again."""
    twin = Nbdkit(mirror.stores[0]).start()
    mirror.connect(0, channels=2, server=twin)
    book = os.urandom(16 * BLOCK)
    mirror.disk.write(0, book, os.O_DSYNC)
    twin.kill()
    other = Store(mirror.stores[0].name, SIZE)
    other.fill(SEED + 1)
    before = other.snapshot()
    kmsg.forget()
    with Nbdkit(other, twin.endpoint):
        check.until(
            lambda: kmsg.lines(rf"\[a\] group 0 channel \d .*{PHRASE}") or all(c.is_up for c in mirror.status().channels),
            60, "the address that leads to another store now is refused or used",
        )
        check.that(kmsg.lines(PHRASE), "the address that leads to another store now is refused")
        in_use(mirror, twin)
        check.that(mirror.disk.read(0, len(book)) == book, "what is read is the group's")
        mirror.disk.write(len(book), book, os.O_DSYNC)
    check.that(other.snapshot() == before, "nothing was written to the other store")
    twin.start()
    mirror.wait_until(lambda s: all(c.is_up for c in s.channels), 60, "the right store is taken again")
    check.equal(mirror.status().marks(), {0: "", 1: ""}, "marks in the end")
    mirror.disk.write(2 * len(book), book, os.O_DSYNC)
    mirror.command(f"disconnect=0 {twin.endpoint}")
    twin.stop()


def in_use(mirror, twin):
    """The group goes on by its first address alone."""
    now = mirror.status()
    check.equal(now.marks(), {0: "", 1: ""}, "marks while one address leads to another store")
    for channel in now.of_group(0):
        check.equal(channel.is_up, channel.addr != twin.endpoint.shown, f"whether the channel to {channel.addr} is up")
    told = [c.last_error for c in now.of_group(0) if c.addr == twin.endpoint.shown]
    check.that(any(PHRASE in (one or "") for one in told), f"the Channel lines say why: {told}")
