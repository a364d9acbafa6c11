# SPDX-License-Identifier: GPL-2.0
"""The sequence of January 2003 with each pair of servers: a mounted mirror of two groups with two channels each loses a
group, is written to, and gets it back; only the blocks that were written are copied, and both stores are the same."""

import itertools
import os
import re

from lib import check
from lib.afresh import reset_all
from lib.cases import case
from lib.disk import Disk
from lib.kmsg import Kmsg
from lib.mirror import Mirror
from lib.program import attempt
from lib.program import run as run_program
from lib.server import KINDS

LIMIT_S = 240


def run():
    for kinds in itertools.combinations_with_replacement(KINDS, 2):
        with case(" and ".join(kind.__name__ for kind in kinds), mend):
            replay(kinds)


def mend():
    """After a case that went wrong: no mount, and no device."""
    attempt("umount", Disk("b").path)
    reset_all()


def replay(kinds):
    """The sequence with two servers."""
    what = " and ".join(kind.__name__ for kind in kinds)
    letter = "b"
    with Mirror(letter, kinds=kinds, settings=["blocksize=1024"]) as mirror, Kmsg() as kmsg:
        run_program("mkfs.ext4", "-q", "-b", "1024", "-E", "lazy_itable_init=0,lazy_journal_init=0", mirror.disk.path)
        place = os.path.abspath(f"mnt-{what.replace(' ', '-')}")
        os.mkdir(place)
        run_program("mount", mirror.disk.path, place)
        os.sync()
        check.equal(mirror.status().marks(), {0: "", 1: ""}, f"marks at first, {what}")
        dirty = lose_and_write(mirror, place, what)
        resync_slowly(mirror, what)
        check.that(os.path.ismount(place), f"still mounted, {what}")
        run_program("umount", place)
        run_program("fsck.ext4", "-fn", mirror.disk.path)
        check_log(kmsg, mirror, dirty, what)
        mirror.check_same()


def lose_and_write(mirror, place, what):
    """Sets group 1 faulty and writes a file of 1 MiB; gives the number of marked blocks."""
    before = mirror.stores[1].read(0, mirror.stores[1].size)
    mirror.command("setfaulty=1")
    check.equal(mirror.status().marks(), {0: "", 1: "F"}, f"marks after setfaulty, {what}")
    with open(f"{place}/file", "wb") as file:
        file.write(os.urandom(1 << 20))
    os.sync()
    now = mirror.status()
    check.equal(now.dirty_columns[0], 0, f"marked blocks of group 0, {what}")
    check.between(now.dirty, 1024, 1400, f"marked blocks, {what}")
    check.that(mirror.stores[1].read(0, len(before)) == before, f"the faulty group got no write, {what}")
    return now.dirty


def resync_slowly(mirror, what):
    """Brings group 1 back, slowly enough to be watched."""
    mirror.command("resync_max=512", "hotadd=1")
    seen = mirror.wait_until(lambda s: s.resyncs, 10, f"a line of progress, {what}")
    check.equal(seen.marks(), {0: "", 1: "_"}, f"marks during the resync, {what}")
    first = seen.resyncs[0]
    check.equal(first.max, seen.blocks, f"blocks of the resync, {what}")
    later = mirror.wait_until(lambda s: s.resyncs and s.resyncs[0].pos > first.pos, 10, f"the resync moves on, {what}")
    for one in (first, later.resyncs[0]):
        one.check()
    mirror.command("resync_max=0")
    mirror.wait_in_sync()
    check.equal(mirror.status().marks(), {0: "", 1: ""}, f"marks in the end, {what}")


def check_log(kmsg, mirror, dirty, what):
    """The words of 2003, and that only marked blocks were copied."""
    prefix = rf"enbd: \[{mirror.letter}\] "
    for words in (
        r"bitmap_checkpage made page 0 for bitmap$",
        r"nbd_hotadd launched resync thread with pid \d+ for group 1$",
        r"nbd_resync skipped clean blocks \d+-\d+$",
        r"bitmap_remove removed bitmap$",
    ):
        check.that(kmsg.lines(prefix + words), f"no line in the log: {words}, {what}")
    runs = kmsg.lines(prefix + r"nbd_resync saw marked blocks \d+-\d+$")
    spans = [tuple(map(int, re.search(r"(\d+)-(\d+)$", line).groups())) for line in runs]
    marked = sum(last - first + 1 for first, last in spans)
    copied = kmsg.lines(prefix + r"nbd_resync of group 1 .* copied \d+ blocks")
    check.equal(len(copied), 1, f"summaries of the resync, {what}")
    number = int(re.search(r"copied (\d+) blocks", copied[0])[1])
    # The mounted file system may write a few more meanwhile; a block may so be copied twice.
    check.between(number, dirty, dirty + 64, f"blocks copied, {what}")
    check.between(marked, dirty, number, f"blocks in the lines of the log, {what}")
