# SPDX-License-Identifier: GPL-2.0
"""What is equal already is not written: `compare` says what a resync compares before, and `md5` in the status counts what it found
to be equal. What a server has failed to make durable it gets once more, equal or not."""

import os

from lib import check, nbd
from lib.cases import case
from lib.impostor import Impostor
from lib.kmsg import Kmsg
from lib.mirror import MIB, Mirror
from lib.server import Nbdkit
from lib.trap import Trap, refusal

LIMIT_S = 300
KIB = 1024
SIZE = 16 * MIB
BLOCKS = SIZE // KIB
# Blocks that are compared before it is judged whether that is worth it, and those of the windows that are on their way then.
ENOUGH, MORE = 2048, 8 * 256


def run():
    trap = Trap()
    impostor = Impostor(trap, size=SIZE)
    settings = ["blocksize=1024", "autoadd=0"]
    with Mirror(kinds=[Nbdkit, lambda store: impostor], size=SIZE, settings=settings) as mirror, Kmsg() as kmsg:
        impostor.start()
        fill(mirror)
        check.equal(mirror.status().settings["compare"], "auto", "compare in the status")
        with case("what it missed is copied"):
            check.equal(written(mirror, impostor, missed), set(range(64)), "blocks that were written")
            check.equal(mirror.status().same, 0, "blocks that were equal")
        with case("all of it is compared"):
            kmsg.forget()
            impostor.data[100 * KIB:101 * KIB] = b"!" * KIB
            blocks = written(mirror, impostor, full)
            check.that(100 in blocks and len(blocks) <= 256, f"blocks that were written: {len(blocks)}")
            check.equal(equal(kmsg), [BLOCKS - len(blocks)], "blocks that were equal")
            # The status has three digits of it.
            check.between(mirror.status().same, (BLOCKS - len(blocks)) * 99 // 100, BLOCKS, "blocks that were equal, in the status")
        with case("little is equal: no more is compared"):
            little(mirror, impostor, kmsg)
        with case("compare=1: what it missed is compared"):
            mirror.command("compare=1")
            kmsg.forget()
            check.equal(written(mirror, impostor, missed), set(), "blocks that were written")
            check.equal(equal(kmsg), [64], "blocks that were equal")
        with case("a refused flush: what may not be durable is written"):
            check.equal(written(mirror, impostor, lambda m: flush_refused(m, trap)), set(range(32, 48)), "blocks that were written")
            check.equal(written(mirror, impostor, missed), set(), "blocks that were written after that")
        with case("compare=0: all is written"):
            mirror.command("compare=0")
            kmsg.forget()
            check.equal(len(written(mirror, impostor, full)), BLOCKS, "blocks that were written")
            check.equal(equal(kmsg), [], "blocks that were equal")
        mirror.disable()
        check.that(mirror.servers[0].store.read(0, SIZE) == bytes(impostor.data), "both groups hold the same")


def fill(mirror):
    """Something that is no zeroes anywhere."""
    for at in range(0, SIZE, MIB):
        mirror.disk.write(at, os.urandom(MIB), os.O_DIRECT)


def written(mirror, impostor, do):
    """The blocks that the server gets while something is done."""
    impostor.requests.clear()
    do(mirror)
    mirror.wait_in_sync(120)
    return impostor.written_blocks(KIB)


def equal(kmsg):
    """How many blocks each resync that has compared found equal, by the log."""
    lines = kmsg.lines(r"group 1 compared before it wrote: \d+ blocks were equal")
    return [int(line.rsplit(": ", 1)[1].split()[0]) for line in lines]


def missed(mirror):
    """Group 1 misses a write of what is there already."""
    data = mirror.disk.read(0, 64 * KIB)
    mirror.command("setfaulty=1")
    mirror.disk.write(0, data, os.O_DIRECT)
    mirror.command("hotadd=1")


def full(mirror):
    """Group 1 is brought back as a whole."""
    mirror.command("setfaulty=1", "hotadd=1 full")


def little(mirror, impostor, kmsg):
    """Nothing is equal: what is compared is no more than it takes to see that."""
    impostor.data[:] = os.urandom(SIZE)
    kmsg.forget()
    blocks = written(mirror, impostor, full)
    check.equal(len(blocks), BLOCKS, "blocks that were written")
    read = sum(request.length for request in impostor.requests if request.command == nbd.READ) // KIB
    check.between(read, ENOUGH, ENOUGH + MORE, "blocks that were read from the server that is brought back")
    check.equal(equal(kmsg), [0], "blocks that were equal")


def flush_refused(mirror, trap):
    """Group 1 refuses a flush, and carries out the next one."""
    with mirror.disk.open(os.O_RDWR | os.O_DIRECT) as disk:
        disk.flush()
        disk.write(32 * KIB, os.urandom(16 * KIB))
        trap.set(nbd.FLUSH, refusal(nbd.EIO))
        disk.flush()
    check.equal(mirror.status().mark(1), "F", "group 1 after a refused flush")
    mirror.command("hotadd=1")
