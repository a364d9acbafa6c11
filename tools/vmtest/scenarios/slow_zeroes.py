# SPDX-License-Identifier: GPL-2.0
"""Servers that take long for zeroes and discards, but are well: what users ask for at once takes many times `timeout`, and ends
all the same, each piece sent once, and no group is lost for it. A server that takes longer than `timeout` for one piece gets the
zeroes written where nobody else has the data, and does not hang the user."""

import os
import re

from lib import check
from lib.afresh import reset_all
from lib.cases import case
from lib.kmsg import Kmsg
from lib.mirror import MIB, Mirror
from lib.program import run as run_program
from lib.server import Nbdkit

LIMIT_S = 400
# The largest piece that the disk has its users' zeroes cut into (disk.rs).
PIECE = 32 * MIB
TIMEOUT_S = 4


class Thick(Nbdkit):
    """A server that takes its time for zeroes and discards, one after the other, and keeps a list of what it was asked."""

    def __init__(self, store, delay_s):
        self.list = f"{store.path}.asked"
        more = [f"delay-zero={int(delay_s * 1000)}ms", f"delay-trim={int(delay_s * 1000)}ms", f"logfile={self.list}"]
        super().__init__(store, filters=["log", "noparallel", "delay"], more=[*more, "serialize=requests"])

    def asked(self, what):
        """The bytes of each request of that kind, in order."""
        with open(self.list, encoding="utf-8") as file:
            return [int(count, 16) for count in re.findall(rf" {what} id=\d+ offset=0x[0-9a-f]+ count=(0x[0-9a-f]+)", file.read())]


def run():
    for program in (["blkdiscard"], ["blkdiscard", "-z"]):
        with case(" ".join(program), reset_all):
            many_pieces(program)
    with case("mkfs", reset_all):
        one_slow_leg()
    with case("one piece", reset_all):
        one_piece()


def many_pieces(program):
    """A second for each piece: all of them take three times the timeout."""
    size = 12 * PIECE
    with Mirror(kinds=[lambda store: Thick(store, 1)], size=size, settings=[f"timeout={TIMEOUT_S}"]) as mirror:
        mirror.disk.write(0, os.urandom(MIB))
        run_program(*program, mirror.disk.path, limit=200)
        asked = mirror.servers[0].asked("Zero")
        check.equal((sum(asked), max(asked)), (size, PIECE), "bytes of zeroes that the server was asked for, and at once")
        check.equal([c.reconnects for c in mirror.status().channels], [0, 0], "connections that were made again")
        check.that(not any(mirror.disk.read(0, MIB)), "what is read is zeroes")


def one_slow_leg():
    """mkfs discards all of the disk; the leg that is slow at that stays."""
    kinds = [Nbdkit, lambda store: Thick(store, 1)]
    with Mirror(kinds=kinds, size=12 * PIECE, settings=[f"timeout={TIMEOUT_S}"]) as mirror, Kmsg() as kmsg:
        run_program("mkfs.ext4", "-q", "-E", "lazy_itable_init=1", mirror.disk.path, limit=200)
        check.equal(mirror.status().marks(), {0: "", 1: ""}, "marks of the groups after mkfs")
        check.equal(kmsg.lines(r"is faulty"), [], "lines of groups that were taken out")
        check.that(mirror.servers[1].asked("Zero"), "mkfs has discarded something")
        mirror.check_same()


def one_piece():
    """Three times the timeout for a piece: asked for in the same way it would never end."""
    with Mirror(kinds=[lambda store: Thick(store, 3 * TIMEOUT_S)], size=PIECE, settings=[f"timeout={TIMEOUT_S}"]) as mirror:
        data = os.urandom(MIB)
        mirror.disk.write(0, data)
        run_program("blkdiscard", mirror.disk.path, limit=150)
        check.that(mirror.disk.read(0, MIB) in (data, bytes(MIB)), "a discard leaves the data, or zeroes")
        run_program("blkdiscard", "-z", mirror.disk.path, limit=150)
        check.that(not any(mirror.disk.read(0, PIECE)), "what is read is zeroes")
