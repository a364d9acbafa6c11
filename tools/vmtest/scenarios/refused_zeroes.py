# SPDX-License-Identifier: GPL-2.0
"""A server offers to write zeroes and refuses it when it is asked. Its group stays in sync: it is sent the zeroes, in pieces that
it takes, and discards as well, so that the groups stay equal. Where it is alone a discard does nothing, and what others miss
of it is marked. If that goes on users are offered neither any more, until the device is enabled again."""

import os

from lib import check, nbd, nbdinfo
from lib.afresh import reset_all
from lib.cases import case
from lib.impostor import Impostor
from lib.kmsg import Kmsg
from lib.mirror import MIB, Mirror
from lib.server import Nbdkit

LIMIT_S = 240
KIB = 1024
SIZE = 8 * MIB
ENOTSUP = 95
# What zeroes.rs has: bytes of a piece, and refusals until nothing is offered any more.
PIECE = MIB
MOST_REFUSALS = 8
FROM, LENGTH = 4 * KIB, 3 * MIB + 4 * KIB
LIMITS = ("discard_max_bytes", "write_zeroes_max_bytes")


class Refusing(Impostor):
    """A server that refuses to write zeroes, with this error."""

    def __init__(self, error, **more):
        super().__init__(self.serve_so, size=SIZE, **more)
        self.error = error
        self.refused = 0

    def serve_so(self, talk):
        talk.negotiate()
        talk.serve(self._hook)

    def _hook(self, talk, request):
        if request.command != nbd.WRITE_ZEROES:
            return False
        self.refused += 1
        talk.answer(request, self.error)
        return True

    def writes(self, since=0):
        """The writes that it was sent."""
        return [one for one in self.requests[since:] if one.command == nbd.WRITE]


def run():
    for error in (nbd.EINVAL, ENOTSUP):
        with case(f"error {error}", reset_all):
            in_a_mirror(Refusing(error), PIECE)
    with case("small pieces", reset_all):
        in_a_mirror(Refusing(ENOTSUP, blocks=(512, 4096, 64 * KIB)), 64 * KIB)
    with case("alone", reset_all):
        alone()
    with case("again and again", reset_all):
        withdrawn()


def fill(mirror):
    """Something that is no zeroes."""
    with mirror.disk.open() as disk:
        for offset in range(0, SIZE, MIB):
            disk.write(offset, os.urandom(MIB))
        disk.flush()
    return mirror.disk.read(0, SIZE)


def in_a_mirror(server, piece):
    """Zeroes and discards arrive in both groups, and none is faulted."""
    with Mirror(kinds=[Nbdkit, lambda store: server], size=SIZE, settings=["autoadd=0"]) as mirror:
        for what in ("zero", "discard"):
            data = bytearray(fill(mirror))
            before = len(server.requests)
            with mirror.disk.open() as disk:
                getattr(disk, what)(FROM, LENGTH)
            data[FROM : FROM + LENGTH] = bytes(LENGTH)
            check.equal(mirror.status().marks(), {0: "", 1: ""}, f"marks after a refused {what}")
            check.that(server.refused > 0, f"the server has refused a {what}")
            lengths = [one.length for one in server.writes(before)]
            check.equal((sum(lengths), max(lengths)), (LENGTH, piece), f"bytes written instead, and of the largest, {what}")
            check.that(bytes(server.data) == bytes(data), f"what the server holds after a {what}")
            check.that(mirror.disk.read(0, SIZE) == bytes(data), f"what is read after a {what}")
        mirror.disable()
        check.that(mirror.servers[0].store.read(0, SIZE) == bytes(server.data), "both groups hold the same")


def alone():
    """A discard does nothing where no other group is in sync; one that is not misses it, whatever it is."""
    server = Refusing(ENOTSUP)
    with Mirror(kinds=[lambda store: server, Nbdkit], size=SIZE, settings=["autoadd=0"]) as mirror:
        data = fill(mirror)
        mirror.command("setfaulty=1")
        before = len(server.requests)
        with mirror.disk.open() as disk:
            disk.discard(FROM, LENGTH)
        check.equal(server.writes(before), [], "writes instead of a discard, alone")
        check.equal(mirror.status().dirty_columns[1], LENGTH // (4 * KIB), "blocks that the other group misses")
        check.that(mirror.disk.read(0, SIZE) == data, "what is read after a discard that did nothing")
        with mirror.disk.open() as disk:
            disk.zero(FROM, LENGTH)
        check.that(not any(mirror.disk.read(FROM, LENGTH)), "zeroes are written all the same")
        mirror.resync(1)
        mirror.disable()
        check.that(mirror.servers[1].store.read(0, SIZE) == bytes(server.data), "both groups hold the same")


def withdrawn():
    """What is refused again and again is not offered any more."""
    server = Refusing(ENOTSUP)
    with Mirror(kinds=[Nbdkit, lambda store: server], size=SIZE) as mirror, Kmsg() as kmsg:
        offered = [mirror.disk.limit(name) for name in LIMITS]
        check.that(all(offered), f"zeroes and discards are offered: {offered}")
        with mirror.disk.open() as disk:
            for number in range(MOST_REFUSALS):
                check.equal([mirror.disk.limit(name) for name in LIMITS], offered, f"what is offered after {number} refusals")
                disk.zero(0, 64 * KIB)
        check.equal([mirror.disk.limit(name) for name in LIMITS], [0, 0], "what is offered then")
        kmsg.wait_for(r"\[a\] group 1 refuses to write zeroes again and again", 10)
        mirror.disk.write(0, os.urandom(64 * KIB))
        with mirror.disk.open() as disk:
            disk.zero(0, 64 * KIB)
            with check.refused(ENOTSUP, "a discard that is not offered"):
                disk.discard(0, 64 * KIB)
        check.that(not any(mirror.disk.read(0, 64 * KIB)), "zeroes are written by whoever wants them")
        check.equal(server.refused, MOST_REFUSALS, "refusals in all")
        mirror.disable()
        nbdinfo.command("enable[a]=1")
        check.equal([mirror.disk.limit(name) for name in LIMITS], offered, "what is offered when the device is enabled again")
