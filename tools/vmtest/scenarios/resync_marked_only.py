# SPDX-License-Identifier: GPL-2.0
"""A resync copies the marked blocks and no others: what the returning server gets is counted at the server, and a block that was
spoiled behind everybody's back stays as it is. hotadd full copies all."""

import os

from lib import check
from lib.impostor import Impostor
from lib.kmsg import Kmsg
from lib.mirror import Mirror
from lib.server import Nbdkit

KIB = 1024
SIZE = 4 << 20
# Byte ranges that are written while group 1 is away: single blocks, neighbours, the first and the last, a long run.
RANGES = ((0, KIB), (5 * KIB, KIB), (6 * KIB, KIB), (100 * KIB, 3 * KIB), (1 << 20, 700 * KIB), (SIZE - KIB, KIB))
MARKED = 1 + 2 + 3 + 700 + 1


def run():
    impostor = Impostor(size=SIZE)
    with Mirror(kinds=[Nbdkit, lambda store: impostor], settings=["blocksize=1024"]) as mirror, Kmsg() as kmsg:
        impostor.start()
        mirror.command("setfaulty=1")
        write_ranges(mirror)
        check.equal(mirror.status().dirty, MARKED, "marked blocks")
        spoiled = b"!" * KIB
        impostor.data[50 * KIB:51 * KIB] = spoiled
        impostor.requests.clear()
        mirror.resync(1)
        blocks = impostor.written_blocks(KIB)
        wanted = {block for offset, length in RANGES for block in range(offset // KIB, (offset + length) // KIB)}
        check.equal(blocks, wanted, "blocks that the returning server got")
        check.equal(len(kmsg.lines(rf"nbd_resync of group 1 .* copied {MARKED} blocks")), 1, "summaries of the resync")
        check.equal(bytes(impostor.data[50 * KIB:51 * KIB]), spoiled, "a block that was not marked")
        full(mirror, impostor, kmsg)
        mirror.disable()
        check.that(mirror.servers[0].store.read(0, SIZE) == bytes(impostor.data), "both groups hold the same")


def write_ranges(mirror):
    """Writes the ranges; the whole run as one request."""
    with mirror.disk.open() as disk:
        for offset, length in RANGES:
            disk.write(offset, os.urandom(length))
        disk.flush()


def full(mirror, impostor, kmsg):
    """All blocks, as none is compared before."""
    kmsg.forget()
    impostor.requests.clear()
    mirror.command("compare=0", "setfaulty=1", "hotadd=1 full")
    mirror.wait_in_sync()
    check.equal(impostor.written_blocks(KIB), set(range(SIZE // KIB)), "blocks that the server got with hotadd full")
    check.equal(len(kmsg.lines(rf"nbd_resync of group 1 .* copied {SIZE // KIB} blocks")), 1, "summaries of the full resync")
