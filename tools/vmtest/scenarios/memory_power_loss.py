# SPDX-License-Identifier: GPL-2.0
"""The client and both servers lose power at once: dm-log-writes tells what each server would have had at each moment. From every
one of them the mirror starts, what was flushed is there, reads before and after the comparison agree, and the groups are equal
although only what is marked is compared."""

import os
import random

from lib import check
from lib.kmsg import Kmsg
from lib.logged_store import LoggedStore, make_disks, remove_disks
from lib.memory import DEVICE, EXPORT, Remembering
from lib.mirror import MIB, Mirror
from lib.store import check_same
from lib.versions import BLOCK, Moment, Versions
from scenarios.flush_is_durable import caching_nbdkit, plain_nbd_server

LIMIT_S = 400
ROUNDS = 5
PAIR = (caching_nbdkit, plain_nbd_server)
PER_REGION = MIB // BLOCK


def run():
    make_disks()
    stores = [LoggedStore(number, EXPORT) for number in range(len(PAIR))]
    moments = write_rounds(stores)
    images = [{text: bytes(image) for text, image in store.crashes() if text in moments} for store in stores]
    remove_disks()
    with Mirror("b", size=EXPORT, channels=1, enable=False) as mirror, Kmsg() as kmsg:
        for text, moment in moments.items():
            starts(mirror, [image[text] for image in images], moment, text)
        marked = [line for line in kmsg.lines() if "is compared where it is marked" in line]
    check.equal(len(marked), ROUNDS, "starts that compare only what is marked")


def write_rounds(stores):
    """Writes in a region that moves on, some of them flushed, while older marks are taken back; gives the moments that are marked
    in both logs."""
    kinds = [lambda _, make=make, store=store: make(store) for make, store in zip(PAIR, stores, strict=True)]
    versions, moments, dice = Versions(), {}, random.Random(33)
    with Remembering(kinds=kinds, settings=("owner_check=0", "intent_idle=1")) as mirror:
        with mirror.disk.open() as disk:
            for number in range(ROUNDS):
                write_some(versions, disk, number, dice)
                disk.flush()
                versions.promise_all()
                write_some(versions, disk, number, dice)
                moments[f"round-{number}"] = Moment(versions)
                for store in stores:
                    store.mark(f"round-{number}")
    for store in stores:
        store.close()
    return moments


def write_some(versions, disk, region, dice):
    """A few writes, in this region and here and there."""
    for _ in range(6):
        block = region * PER_REGION + dice.randrange(PER_REGION)
        versions.write(disk, block, block * BLOCK)
    block = dice.randrange(DEVICE // BLOCK)
    versions.write(disk, block, block * BLOCK)


def starts(mirror, images, moment, text):
    """A new client over what both servers have left."""
    for store, image in zip(mirror.stores, images, strict=True):
        store.replace(image)
    if mirror.status():
        mirror.command("reset=1")
    mirror.command("owner_check=0")
    for group in range(len(images)):
        mirror.connect(group)
    mirror.command("enable=1")
    before = content(mirror)
    moment.check(before, lambda block: block * BLOCK, f"{text}, at once")
    mirror.wait_in_sync()
    check.that(content(mirror) == before, f"what is read before and after the comparison agrees, {text}")
    mirror.disable()
    check_same(mirror.stores, DEVICE)


def content(mirror):
    """All that is read from the disk."""
    with mirror.disk.open(os.O_RDONLY) as disk:
        return b"".join(disk.read(offset, MIB) for offset in range(0, DEVICE, MIB))
