# SPDX-License-Identifier: GPL-2.0
"""When fsync has returned, every write before it survives a crash of any server: shown by the logs of dm-log-writes under the
stores of both groups, replayed up to each moment. Servers with FUA and without, and with caches of their own."""

import random

from lib import check
from lib.cases import case
from lib.logged_store import LoggedStore, make_disks, remove_disks
from lib.mirror import Mirror
from lib.server import Nbdkit, NbdServer, QemuNbd
from lib.versions import BLOCK, Moment, Versions

LIMIT_S = 240
SIZE = 4 << 20
BLOCKS = 64
ROUNDS = 10


def nbdkit(store):
    """The page cache in front of the store."""
    return Nbdkit(store, plugin=["file", store.path])


def caching_nbdkit(store):
    """And a cache of its own in front of that."""
    return Nbdkit(store, filters=["cache"], plugin=["file", store.path], more=["cache=writeback"])


def direct_qemu(store):
    """No page cache: what is volatile is the device."""
    return QemuNbd(store, more=["--cache=none"])


def plain_nbd_server(store):
    """FLUSH, but no FUA."""
    return NbdServer(store, settings=("flush",))


PAIRS = ((nbdkit, direct_qemu), (caching_nbdkit, plain_nbd_server))


def run():
    for pair in PAIRS:
        with case(" and ".join(make.__name__ for make in pair)):
            make_disks()
            prove(pair)
            remove_disks()


def prove(pair):
    """Writes, fsync, more writes, and a mark in both logs; again and again."""
    what = " and ".join(make.__name__ for make in pair)
    stores = [LoggedStore(number, SIZE) for number in range(len(pair))]
    kinds = [lambda _, make=make, store=store: make(store) for make, store in zip(pair, stores, strict=True)]
    versions, moments, dice = Versions(), {}, random.Random(31)
    with Mirror(kinds=kinds, size=SIZE) as mirror:
        with mirror.disk.open() as disk:
            for number in range(ROUNDS):
                write_some(versions, disk, dice)
                disk.flush()
                versions.promise_all()
                write_some(versions, disk, dice)
                moments[f"round-{number}"] = Moment(versions)
                for store in stores:
                    store.mark(f"round-{number}")
        check.that(mirror.status().is_clean(), f"both groups are in sync, {what}")
    for store, make in zip(stores, pair, strict=True):
        store.close()
        check_crashes(store, moments, make.__name__)


def write_some(versions, disk, dice):
    """A few blocks anywhere."""
    for _ in range(6):
        block = dice.randrange(BLOCKS)
        versions.write(disk, block, block * BLOCK)


def check_crashes(store, moments, what):
    """Looks at what each crash would have left."""
    left, behind = set(moments), 0
    for text, image in store.crashes():
        if text in moments:
            behind += moments[text].check(image, lambda block: block * BLOCK, f"{what}, {text}")
            left.discard(text)
    check.that(not left, f"all marks are in the log, {what}")
    # A store that keeps all at once could not show that a flush is missing.
    check.that(behind > ROUNDS, f"what was not flushed would have been lost, {what}")
