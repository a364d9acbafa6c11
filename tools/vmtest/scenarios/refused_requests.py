# SPDX-License-Identifier: GPL-2.0
"""Error replies. With a second group nobody sees them: a group that refuses a write or a flush is faulted with its blocks
marked, a read is taken from the other group. With one group alone the error is passed on, and the device goes on."""

import os

from lib import check, nbd
from lib.impostor import Impostor
from lib.kmsg import Kmsg
from lib.mirror import Mirror
from lib.server import Nbdkit

KIB = 1024
SIZE = 1 << 20
ERRORS = (nbd.EIO, nbd.ENOSPC, nbd.EPERM, nbd.EINVAL, nbd.ENOMEM, 4711)
EPERM, EIO, EINVAL, ENOSPC = 1, 5, 22, 28


class Refuser:
    """A script that refuses the next request of one kind."""

    def __init__(self):
        self.command, self.error, self.count = None, 0, 0

    def set(self, command, error):
        """Sets what is refused."""
        self.command, self.error = command, error

    def __call__(self, talk):
        talk.negotiate()
        talk.serve(self._hook)

    def _hook(self, talk, request):
        if request.command != self.command:
            return False
        self.command = None
        talk.answer(request, self.error)
        return True


def run():
    refuser = Refuser()
    with Impostor(refuser, size=SIZE) as impostor, Kmsg() as kmsg:
        with Mirror(kinds=[lambda store: impostor, Nbdkit], size=SIZE, settings=["autoadd=0"]) as mirror:
            for error in ERRORS:
                write_refused(mirror, kmsg, refuser, error)
                read_refused(mirror, refuser, error)
            zeroes_refused(mirror, refuser)
            flush_refused(mirror, refuser)
            mirror.disable()
            check.that(mirror.servers[1].store.read(0, SIZE) == bytes(impostor.data), "both groups hold the same in the end")
    both_refuse()
    alone()


def write_refused(mirror, kmsg, refuser, error):
    """Group 0 refuses a write of two blocks."""
    what = f"a write refused with {error}"
    kmsg.forget()
    refuser.set(nbd.WRITE, error)
    data = os.urandom(8 * KIB)
    mirror.disk.write(64 * KIB, data)
    now = mirror.status()
    check.equal((now.marks(), now.dirty_columns), ({0: "F", 1: ""}, [2, 0]), f"marks and marked blocks after {what}")
    check.equal(now.group_lines[0][0], "faulty", f"state after {what}")
    check.that("refused" in now.group_lines[0][2], f"the reason in the status after {what}: {now.group_lines[0][2]}")
    check.equal(len(kmsg.lines(r"\[a\] group 0 is faulty: .*refused")), 1, f"lines of the log that say so, {what}")
    check.that(mirror.disk.read(64 * KIB, 8 * KIB) == data, f"data after {what}")
    mirror.resync(0)


def read_refused(mirror, refuser, error):
    """Group 0 refuses a read."""
    what = f"a read refused with {error}"
    data = os.urandom(8 * KIB)
    mirror.disk.write(64 * KIB, data)
    refuser.set(nbd.READ, error)
    # Single reads stay with a group for a while.
    for _ in range(300):
        check.that(mirror.disk.read(64 * KIB, 8 * KIB) == data, f"data, {what}")
        if refuser.command is None:
            break
    check.equal(refuser.command, None, f"group 0 was read from, {what}")
    check.equal(mirror.status().dirty, 0, f"marked blocks after {what}")
    if mirror.status().mark(0):
        mirror.resync(0)


def zeroes_refused(mirror, refuser):
    """Group 0 refuses to write zeroes."""
    refuser.set(nbd.WRITE_ZEROES, nbd.EIO)
    with mirror.disk.open() as disk:
        disk.zero(128 * KIB, 16 * KIB)
        check.that(not any(disk.read(128 * KIB, 16 * KIB)), "zeroes after they were refused by one")
    now = mirror.status()
    check.equal((now.marks(), now.dirty_columns), ({0: "F", 1: ""}, [4, 0]), "marks and marked blocks after refused zeroes")
    mirror.resync(0)


def flush_refused(mirror, refuser):
    """Group 0 refuses a flush: nobody knows what its server still has, so that what was written since the last is marked."""
    with mirror.disk.open() as disk:
        disk.flush()
        disk.write(0, os.urandom(16 * KIB))
        refuser.set(nbd.FLUSH, nbd.EIO)
        disk.flush()
    now = mirror.status()
    check.equal(now.marks(), {0: "F", 1: ""}, "marks after a refused flush")
    check.between(now.dirty_columns[0], 4, now.blocks, "marked blocks after a refused flush")
    mirror.resync(0)


def both_refuse():
    """Both groups refuse a write: it fails, and one group stays."""
    refusers = [Refuser(), Refuser()]
    impostors = [Impostor(refuser, size=SIZE) for refuser in refusers]
    queue = list(impostors)
    with Mirror(kinds=[lambda store: queue.pop(0)] * 2, size=SIZE, settings=["autoadd=0"]) as mirror:
        for refuser in refusers:
            refuser.set(nbd.WRITE, nbd.EIO)
        with check.refused(EIO, "a write that both groups refuse"):
            mirror.disk.write(0, bytes(4 * KIB))
        marks = mirror.status().marks()
        check.equal(sorted(marks.values()), ["", "F"], "marks after a write that both groups refuse")
        mirror.disk.write(0, b"x" * (4 * KIB))
        mirror.resync([group for group in marks if marks[group]][0])
        mirror.disable()
        check.that(impostors[0].data == impostors[1].data, "both groups hold the same")


def alone():
    """A device with one group passes errors on."""
    refuser = Refuser()
    with Mirror(kinds=[lambda store: Impostor(refuser, size=SIZE)], size=SIZE) as mirror:
        for error, numbers in ((nbd.EIO, EIO), (nbd.ENOSPC, ENOSPC), (nbd.EPERM, (EPERM, EIO)), (4711, EIO), (nbd.ENOMEM, EIO)):
            refuser.set(nbd.WRITE, error)
            with check.within(10, "an error"), check.refused(numbers, f"a write refused with {error}"):
                mirror.disk.write(0, bytes(4 * KIB))
            refuser.set(nbd.READ, error)
            with check.within(10, "an error"), check.refused(numbers, f"a read refused with {error}"):
                mirror.disk.read(0, 4 * KIB)
            check.equal(mirror.status().marks(), {0: ""}, "marks of a group that is alone")
            mirror.disk.write(0, b"y" * (4 * KIB))
            check.that(mirror.disk.read(0, 4 * KIB) == b"y" * (4 * KIB), "data after an error")
        mirror.disable()
