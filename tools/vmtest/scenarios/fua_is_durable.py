# SPDX-License-Identifier: GPL-2.0
"""A write with FUA survives a crash of any server once it was acknowledged: O_DSYNC writes into a file of ext4, shown by
dm-log-writes as in flush_is_durable. Where all servers have FUA no flush is needed for it; where one has not, it is flushed."""

import fcntl
import os
import random
import struct

from lib import check
from lib.cases import case
from lib.disk import Opened
from lib.logged_store import LoggedStore, make_disks, remove_disks
from lib.mirror import Mirror
from lib.program import run as run_program
from lib.server import NbdServer
from lib.versions import BLOCK, Moment, Versions
from scenarios.flush_is_durable import caching_nbdkit, plain_nbd_server

LIMIT_S = 240
SIZE = 16 << 20
BLOCKS = 32
ROUNDS = 8
FS_IOC_FIEMAP = 0xC020660B
FIEMAP = struct.Struct("=QQIIII")
EXTENT = struct.Struct("=QQQQQIIII")


def nbd_server(store):
    """FLUSH and FUA."""
    return NbdServer(store)


def run():
    for pair, has_fua in (((caching_nbdkit, nbd_server), True), ((caching_nbdkit, plain_nbd_server), False)):
        with case(" and ".join(make.__name__ for make in pair)):
            make_disks()
            prove(pair, has_fua)
            remove_disks()


def prove(pair, has_fua):
    """Writes into a file of a file system, and marks in both logs."""
    stores = [LoggedStore(number, SIZE) for number in range(len(pair))]
    kinds = [lambda _, make=make, store=store: make(store) for make, store in zip(pair, stores, strict=True)]
    versions, moments = Versions(), {}
    with Mirror(kinds=kinds, size=SIZE) as mirror:
        check.equal(mirror.disk.limit("fua"), int(has_fua), "FUA of the disk")
        run_program("mkfs.ext4", "-q", "-F", "-b", str(BLOCK), "-N", "64", "-J", "size=4", mirror.disk.path)
        os.makedirs("mnt", exist_ok=True)
        # No commit of the journal by itself, and no change of times: each would flush.
        run_program("mount", "-o", "commit=600,noatime,lazytime", mirror.disk.path, "mnt")
        places = make_file("mnt/file")
        before = flushes(mirror.disk)
        write_rounds("mnt/file", versions, moments, stores)
        used = flushes(mirror.disk) - before
        run_program("umount", "mnt")
    if has_fua:
        check.that(used <= ROUNDS // 3, f"the writes bore FUA: {used} flushes of the device in {ROUNDS} rounds")
    for store, make in zip(stores, pair, strict=True):
        store.close()
        check_crashes(store, moments, places, make.__name__)


def make_file(path):
    """A file all of whose blocks are written; gives where on the disk they are."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.write(fd, bytes(BLOCKS * BLOCK))
    os.fsync(fd)
    request = bytearray(FIEMAP.pack(0, BLOCKS * BLOCK, 0, 0, BLOCKS, 0) + bytes(BLOCKS * EXTENT.size))
    fcntl.ioctl(fd, FS_IOC_FIEMAP, request)
    os.close(fd)
    places = {}
    for number in range(FIEMAP.unpack_from(request)[3]):
        logical, physical, length = EXTENT.unpack_from(request, FIEMAP.size + number * EXTENT.size)[:3]
        for offset in range(0, length, BLOCK):
            places[(logical + offset) // BLOCK] = physical + offset
    check.equal(sorted(places), list(range(BLOCKS)), "blocks of the file that are on the disk")
    return places


def write_rounds(path, versions, moments, stores):
    """A write with FUA, plain ones, and a mark; again and again. Servers may flush more than they are asked to, but not the
    later."""
    dice = random.Random(32)
    plain, safe = (os.open(path, os.O_RDWR | os.O_DIRECT | flag) for flag in (0, os.O_DSYNC))
    for number in range(ROUNDS):
        block = dice.randrange(BLOCKS)
        versions.write(Opened(safe), block, block * BLOCK)
        versions.promise(block)
        for _ in range(4):
            block = dice.randrange(BLOCKS)
            versions.write(Opened(plain), block, block * BLOCK)
        moments[f"round-{number}"] = Moment(versions)
        for store in stores:
            store.mark(f"round-{number}")
    os.close(plain)
    os.close(safe)


def flushes(disk):
    """How many flushes the disk was asked for, those of users and file systems."""
    with open(f"/sys/block/{disk.name}/stat", encoding="ascii") as file:
        return int(file.read().split()[15])


def check_crashes(store, moments, places, what):
    """Looks at what each crash would have left."""
    left, behind = set(moments), 0
    for text, image in store.crashes():
        if text in moments:
            behind += moments[text].check(image, places.get, f"{what}, {text}")
            left.discard(text)
    check.that(not left, f"all marks are in the log, {what}")
    check.that(behind > ROUNDS, f"what did not bear FUA would have been lost, {what}")
