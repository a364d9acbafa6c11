# SPDX-License-Identifier: GPL-2.0
"""Groups of different sizes: the smallest counts, the rest of the larger ones is left alone; a device of one block works; each
block size has the blocks that it should; the last block can be read and written, and nothing behind it; there is a limit."""

import os

from lib import check, nbdinfo
from lib.afresh import reset_all
from lib.cases import case
from lib.mirror import Mirror
from lib.server import Nbdkit
from lib.store import Store, check_same

KIB = 1024
EINVAL, EFBIG = 22, 27
MOST_BLOCKS = 1 << 36


def run():
    for sizes, block in (((4096, 3072, 5120), 4096), ((100, 100), 512), ((8, 64), 4096), ((128, 65536), 65536), ((4096,), 65536)):
        with case(f"stores of {sizes} KiB with blocks of {block}", reset_all):
            over(sizes, block)
    smaller_than_a_block()
    too_many_blocks()


def over(sizes, block):
    """A device over stores of so many KiB."""
    what = f"stores of {sizes} KiB with blocks of {block}"
    queue = list(sizes)
    kinds = [lambda store: Nbdkit(Store(store.name, queue.pop(0) * KIB)) for _ in sizes]
    least = min(sizes) * KIB
    with Mirror(kinds=kinds, settings=[f"blocksize={block}"], channels=1) as mirror:
        for number, store in enumerate(mirror.stores):
            store.fill(number)
        tails = [store.read(least, store.size) for store in mirror.stores]
        now = mirror.status()
        check.equal((now.size_kb, now.blocks), (min(sizes), least // block), f"size and blocks, {what}")
        with mirror.disk.open() as disk:
            check.equal(disk.size(), least, f"size of the disk, {what}")
            disk.write(0, os.urandom(least))
            disk.write(least - 512, b"e" * 512)
            check.that(disk.read(least - 512, 512) == b"e" * 512, f"the last sector, {what}")
            with check.refused((28, 22, None), f"a write behind the end, {what}"):
                disk.write(least, bytes(512))
        mirror.disable()
        check_same(mirror.stores, least)
        check.that([store.read(least, store.size) for store in mirror.stores] == tails, f"what lies behind the end, {what}")


def smaller_than_a_block():
    """An export that is no block long."""
    with Nbdkit(Store("small", 32 * KIB)) as server:
        nbdinfo.command("blocksize[a]=65536")
        with check.refused(EINVAL, "an export of half a block"):
            nbdinfo.command(f"connect[a]=0 {server.endpoint} name=small")
        nbdinfo.command("reset[a]=1")


def too_many_blocks():
    """A server that claims to have more blocks than a device may have; larger blocks help, and the most that there may be do."""
    for size, block in ((MOST_BLOCKS * 512 + 1024, 1024), (MOST_BLOCKS * 512, 512)):
        with case(f"{size} bytes, blocks of {block}", reset_all), Nbdkit(
            Store("huge", 512), plugin=["memory", f"size={size}"]
        ) as server:
            nbdinfo.command("blocksize[a]=512", f"connect[a]=0 {server.endpoint}")
            if size > MOST_BLOCKS * 512:
                with check.refused(EFBIG, "more blocks than there may be"):
                    nbdinfo.command("enable[a]=1")
            nbdinfo.command(f"blocksize[a]={block}", "enable[a]=1")
            check.equal(nbdinfo.status().blocks, size // block, f"blocks of {block}")
            nbdinfo.command("enable[a]=0", "reset[a]=1")
