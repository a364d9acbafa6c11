# SPDX-License-Identifier: GPL-2.0
"""Error replies. With a second group nobody sees them: a group that refuses a write or a flush is faulted with its blocks
marked, a read is taken from the other group. With one group alone the error is passed on, and the device goes on."""

import os

from lib import check, nbd
from lib.cases import case
from lib.impostor import Impostor
from lib.kmsg import Kmsg
from lib.mirror import Mirror
from lib.server import Nbdkit
from lib.trap import Trap, refusal

KIB = 1024
SIZE = 1 << 20
ERRORS = (nbd.EIO, nbd.ENOSPC, nbd.EPERM, nbd.EINVAL, nbd.ENOMEM, 4711, 0xFFFFFFFF)
EPERM, EIO, EINVAL, ENOSPC = 1, 5, 22, 28


def run():
    trap = Trap()
    with Impostor(trap, size=SIZE) as impostor, Kmsg() as kmsg:
        with Mirror(kinds=[lambda store: impostor, Nbdkit], size=SIZE, settings=["autoadd=0"]) as mirror:
            for error in ERRORS:
                with case(f"error {error}", lambda: mend(mirror, trap)):
                    write_refused(mirror, kmsg, trap, error)
                    read_refused(mirror, trap, error)
            zeroes_refused(mirror, trap)
            flush_refused(mirror, trap)
            resync_flush_refused(mirror, kmsg, trap)
            mirror.disable()
            check.that(mirror.servers[1].store.read(0, SIZE) == bytes(impostor.data), "both groups hold the same in the end")
    both_refuse()
    flush_refused_alone()
    alone()


def mend(mirror, trap):
    """After a case that went wrong: an honest server, whose group is in sync."""
    trap.set(None, None)
    if mirror.status().mark(0):
        mirror.hotadd(0)
    mirror.wait_in_sync()


def write_refused(mirror, kmsg, trap, error):
    """Group 0 refuses a write of two blocks."""
    what = f"a write refused with {error}"
    kmsg.forget()
    trap.set(nbd.WRITE, refusal(error))
    data = os.urandom(8 * KIB)
    mirror.disk.write(64 * KIB, data)
    now = mirror.status()
    check.equal((now.marks(), now.dirty_columns), ({0: "F", 1: ""}, [2, 0]), f"marks and marked blocks after {what}")
    check.equal(now.group_lines[0][0], "faulty", f"state after {what}")
    check.that("refused" in now.group_lines[0][2], f"the reason in the status after {what}: {now.group_lines[0][2]}")
    check.equal(len(kmsg.lines(r"\[a\] group 0 is faulty: .*refused")), 1, f"lines of the log that say so, {what}")
    check.that(mirror.disk.read(64 * KIB, 8 * KIB) == data, f"data after {what}")
    mirror.resync(0)


def read_refused(mirror, trap, error):
    """Group 0 refuses a read."""
    what = f"a read refused with {error}"
    data = os.urandom(8 * KIB)
    mirror.disk.write(64 * KIB, data)
    trap.set(nbd.READ, refusal(error))
    trap.spring(lambda: check.that(mirror.disk.read(64 * KIB, 8 * KIB) == data, f"data, {what}"), what)
    check.equal(mirror.status().dirty, 0, f"marked blocks after {what}")
    if mirror.status().mark(0):
        mirror.resync(0)


def zeroes_refused(mirror, trap):
    """Group 0 refuses to write zeroes."""
    trap.set(nbd.WRITE_ZEROES, refusal(nbd.EIO))
    with mirror.disk.open() as disk:
        disk.zero(128 * KIB, 16 * KIB)
        check.that(not any(disk.read(128 * KIB, 16 * KIB)), "zeroes after they were refused by one")
    now = mirror.status()
    check.equal((now.marks(), now.dirty_columns), ({0: "F", 1: ""}, [4, 0]), "marks and marked blocks after refused zeroes")
    mirror.resync(0)


def flush_refused(mirror, trap):
    """Group 0 refuses a flush: nobody knows what its server still has, so that what was written since the last is marked."""
    with mirror.disk.open() as disk:
        disk.flush()
        disk.write(0, os.urandom(16 * KIB))
        trap.set(nbd.FLUSH, refusal(nbd.EIO))
        disk.flush()
    now = mirror.status()
    check.equal(now.marks(), {0: "F", 1: ""}, "marks after a refused flush")
    check.between(now.dirty_columns[0], 4, now.blocks, "marked blocks after a refused flush")
    mirror.resync(0)


def resync_flush_refused(mirror, kmsg, trap):
    """Group 0 refuses the flush at the end of a resync: nobody knows what it still has of what was copied."""
    mirror.command("setfaulty=0")
    with mirror.disk.open() as disk:
        disk.write(0, os.urandom(16 * KIB))
        disk.flush()
    check.equal(mirror.status().dirty_columns[0], 4, "marked blocks before the resync")
    kmsg.forget()
    trap.set(nbd.FLUSH, refusal(nbd.EIO))
    mirror.command("hotadd=0")
    kmsg.wait_for(r"\[a\] group 0 is faulty", 10)
    now = mirror.wait_until(lambda s: s.mark(0) == "F" and s.dirty_columns[0] > 0, 10, "what was copied is marked again")
    check.equal(trap.command, None, "the server was asked for a flush")
    check.between(now.dirty_columns[0], 4, now.blocks, "marked blocks after the flush of a resync was refused")
    mirror.resync(0)


def both_refuse():
    """Both groups refuse a write: it fails, and one group stays."""
    traps = [Trap(), Trap()]
    impostors = [Impostor(trap, size=SIZE) for trap in traps]
    queue = list(impostors)
    with Mirror(kinds=[lambda store: queue.pop(0)] * 2, size=SIZE, settings=["autoadd=0"]) as mirror:
        for trap in traps:
            trap.set(nbd.WRITE, refusal(nbd.EIO))
        with check.refused(EIO, "a write that both groups refuse"):
            mirror.disk.write(0, bytes(4 * KIB))
        marks = mirror.status().marks()
        check.equal(sorted(marks.values()), ["", "F"], "marks after a write that both groups refuse")
        mirror.disk.write(0, b"x" * (4 * KIB))
        mirror.resync([group for group in marks if marks[group]][0])
        mirror.disable()
        check.that(impostors[0].data == impostors[1].data, "both groups hold the same")


def flush_refused_alone():
    """The last group in sync refuses a flush, and says later that it has done one: what the first was to cover may never be
    durable. As soon as there is another group to copy it from it is written anew."""
    trap = Trap()
    with Impostor(trap, size=SIZE) as impostor, Kmsg() as kmsg:
        with Mirror(kinds=[lambda store: impostor, Nbdkit], size=SIZE) as mirror:
            mirror.command("setfaulty=1")
            data = os.urandom(16 * KIB)
            with mirror.disk.open() as disk:
                disk.write(0, data)
                trap.set(nbd.FLUSH, refusal(nbd.EIO))
                with check.refused(EIO, "a flush that the last group in sync refuses"):
                    disk.flush()
                disk.flush()
            check.equal(mirror.status().marks(), {0: "", 1: "F"}, "marks after the last group has refused a flush")
            kmsg.forget()
            before = len(impostor.requests)
            mirror.command("hotadd=1")
            kmsg.wait_for(r"\[a\] group 0 is faulty: .*no flush makes durable", 10)
            mirror.wait_until(lambda s: s.marks() == {0: "", 1: ""}, 10, "both groups are in sync")
            again = [r for r in impostor.requests[before:] if r.command == nbd.WRITE and r.offset < len(data)]
            check.equal(sum(r.length for r in again), len(data), "bytes that were written anew")
            flushes = [r for r in impostor.requests[before:] if r.command == nbd.FLUSH]
            check.that(flushes, "and flushed")
            mirror.disable()
            check.that(mirror.servers[1].store.read(0, SIZE) == bytes(impostor.data), "both groups hold the same")


def alone():
    """A device with one group passes errors on."""
    trap = Trap()
    with Mirror(kinds=[lambda store: Impostor(trap, size=SIZE)], size=SIZE) as mirror:
        mirror.wait_looked_at()
        for error, numbers in ((nbd.EIO, EIO), (nbd.ENOSPC, ENOSPC), (nbd.EPERM, (EPERM, EIO)), (4711, EIO), (nbd.ENOMEM, EIO)):
            trap.set(nbd.WRITE, refusal(error))
            with check.within(10, "an error"), check.refused(numbers, f"a write refused with {error}"):
                mirror.disk.write(0, bytes(4 * KIB))
            trap.set(nbd.READ, refusal(error))
            with check.within(10, "an error"), check.refused(numbers, f"a read refused with {error}"):
                mirror.disk.read(0, 4 * KIB)
            check.equal(mirror.status().marks(), {0: ""}, "marks of a group that is alone")
            mirror.disk.write(0, b"y" * (4 * KIB))
            check.that(mirror.disk.read(0, 4 * KIB) == b"y" * (4 * KIB), "data after an error")
        mirror.disable()
