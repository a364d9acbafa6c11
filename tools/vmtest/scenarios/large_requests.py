# SPDX-License-Identifier: GPL-2.0
"""Direct I/O of 1 to 32 MiB at a time, from pages that lie anywhere, to each server; the largest request that a server is sent
is what it said that it takes."""

import random

from lib import check, nbd
from lib.afresh import reset_all
from lib.cases import case
from lib.impostor import Impostor
from lib.mirror import Mirror
from lib.server import KINDS

LIMIT_S = 240
MIB = 1 << 20


def run():
    data = random.Random(3).randbytes(32 * MIB)
    for kind in KINDS:
        with case(kind.__name__, reset_all), Mirror(kinds=[kind], size=36 * MIB) as mirror, mirror.disk.open() as disk:
            for size in (1, 4, 32):
                offset = MIB + 512 * size
                disk.write(offset, data[-size * MIB:])
                what = f"{size} MiB at once, {kind.__name__}"
                check.that(disk.read(offset, size * MIB) == data[-size * MIB:], f"read back, {what}")
                check.that(mirror.stores[0].read(offset, size * MIB) == data[-size * MIB:], f"on the store, {what}")
            for at in (512, 2048, 3584):
                disk.write(at, data[at:at + 300 * 512], at)
                check.that(disk.read(at, 300 * 512, 4096 - at) == data[at:at + 300 * 512], f"from {at} behind a page's start")
    respect_limit(data)


def respect_limit(data):
    """A server that takes 64 KiB at most gets no more, and in multiples of its smallest block."""
    with Mirror(kinds=[], enable=False) as mirror, Impostor(blocks=(4096, 4096, 65536)) as server:
        mirror.servers.append(server)
        mirror.connect(0)
        mirror.command("enable=1")
        check.equal(mirror.disk.limit("logical_block_size"), 4096, "logical block of the disk")
        check.equal(mirror.disk.limit("max_hw_sectors_kb"), 64, "largest request of the disk, in KiB")
        with mirror.disk.open() as disk:
            disk.write(4096, data[:2 * MIB])
            check.that(disk.read(4096, 2 * MIB) == data[:2 * MIB], "read back in small pieces")
            disk.flush()
        moving = [one for one in server.requests if one.command in (nbd.READ, nbd.WRITE)]
        check.that(all(one.length <= 65536 for one in moving), "no request is larger than what the server takes")
        check.that(all(one.length % 4096 == 0 and one.offset % 4096 == 0 for one in moving), "requests are whole blocks")
        mirror.command("enable=0")
        mirror.command("reset=1")
