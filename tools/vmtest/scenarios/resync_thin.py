# SPDX-License-Identifier: GPL-2.0
"""A full resync to a thin server: what is zeroes in the source is no data on its store, and what lay there before is gone. A server
that does not write zeroes, or refuses it, is sent them."""

import os

from lib import check, nbd
from lib.afresh import reset_all
from lib.cases import case
from lib.impostor import Impostor
from lib.mirror import MIB, Mirror
from lib.server import Nbdkit, QemuNbd
from lib.store import check_same

LIMIT_S = 240
SIZE = 64 * MIB
USED = 4 * MIB
AT = 20 * MIB + 12288
ENOTSUP = 95


def run():
    for kind in (Nbdkit, QemuNbd):
        with case(f"thin {kind.__name__}", reset_all):
            thin(kind)
    with case("old data", reset_all):
        old_data()
    for offers in (True, False):
        with case("refused" if offers else "not offered", reset_all):
            sent_all_the_same(offers)


def full_resync(mirror, seed=None):
    """Group 1 gets all of it; something else is on its store before, if there is a seed."""
    mirror.command("setfaulty=1")
    if seed is not None:
        mirror.stores[1].fill(seed)
    mirror.disk.write(AT, os.urandom(USED), os.O_SYNC)
    mirror.command("hotadd=1 full")
    mirror.wait_in_sync(120)
    mirror.disable()


def thin(kind):
    """The store has as many blocks as the source, but for windows that are no zeroes as a whole."""
    with Mirror(kinds=[Nbdkit, kind], size=SIZE) as mirror:
        full_resync(mirror)
        source, new = (store.allocated() for store in mirror.stores)
        check.that(source >= USED, f"bytes that the source has allocated: {source}")
        check.that(new <= source + MIB, f"bytes that the new store has allocated: {new}, the source {source}")
        check_same(mirror.stores)


def old_data():
    """What another mirror has left there is not kept."""
    with Mirror(size=SIZE) as mirror:
        full_resync(mirror, seed=5)
        check_same(mirror.stores)


def sent_all_the_same(offers):
    """By plain writes."""

    def refuse(talk, request):
        if request.command != nbd.WRITE_ZEROES:
            return False
        talk.answer(request, ENOTSUP)
        return True

    def script(talk):
        talk.negotiate()
        talk.serve(refuse)

    flags = nbd.ALL_FLAGS if offers else nbd.ALL_FLAGS & ~nbd.SEND_WRITE_ZEROES
    impostor = Impostor(script, size=8 * MIB, flags=flags)
    impostor.data[:] = os.urandom(8 * MIB)
    with Mirror(kinds=[Nbdkit, lambda store: impostor], size=8 * MIB) as mirror:
        mirror.command("setfaulty=1", "hotadd=1 full")
        mirror.wait_in_sync(120)
        mirror.disable()
        check.that(not any(impostor.data), "the server holds zeroes as the source does")
        commands = {request.command for request in impostor.requests}
        check.equal(nbd.WRITE_ZEROES in commands, offers, "whether it was asked to write zeroes")
