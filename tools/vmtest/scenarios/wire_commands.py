# SPDX-License-Identifier: GPL-2.0
"""What goes over the wire, as a server sees it: each kind of request with its flags, to servers that offer everything and to
servers that lack FUA, WRITE_ZEROES or FLUSH, for which the module has to make up."""

import os

from lib import check, module, nbd, nbdinfo
from lib.afresh import reset_all
from lib.cases import case
from lib.disk import Disk
from lib.impostor import Impostor

KIB = 1024


def run():
    # The kernel ends a write with O_DSYNC by a flush whether or not it was forced.
    forced = ["write fua", "flush"]
    for missing, expected in (
        (0, {"fua": forced, "zero": ["write_zeroes"], "flush": ["flush"]}),
        (nbd.SEND_FUA, {"fua": ["write", "flush", "flush"], "zero": ["write_zeroes"], "flush": ["flush"]}),
        (nbd.SEND_WRITE_ZEROES, {"fua": forced, "zero": ["write"], "flush": ["flush"]}),
        (nbd.SEND_TRIM, {"fua": forced, "zero": ["write_zeroes"], "flush": ["flush"]}),
        (nbd.SEND_FLUSH | nbd.SEND_FUA, {"fua": ["write"], "zero": ["write_zeroes"], "flush": []}),
    ):
        what = f"a server without {missing:#x}"
        with case(what, reset_all), Impostor(flags=nbd.ALL_FLAGS & ~missing) as server:
            nbdinfo.command(f"connect[a]=0 {server.endpoint} name={server.export}", "enable[a]=1")
            module.wait_looked_at()
            see_commands(server, expected, what)
            nbdinfo.command("enable[a]=0", "reset[a]=1")


def told(server):
    """The requests since the last look, in words."""
    words = []
    for request in server.requests:
        fua = " fua" if request.flags & nbd.FLAG_FUA else ""
        words.append(nbd.NAMES[request.command] + fua)
    server.requests.clear()
    return words


def see_commands(server, expected, what):
    """Does one of each, and compares what came."""
    data = os.urandom(16 * KIB)
    told(server)
    with Disk().open() as disk:
        disk.write(64 * KIB, data)
        check.equal(told(server), ["write"], f"a write, {what}")
        check.equal(bytes(server.data[64 * KIB:80 * KIB]), data, f"the data of a write, {what}")
        check.that(disk.read(64 * KIB, 16 * KIB) == data, f"the data of a read, {what}")
        check.equal(told(server), ["read"], f"a read, {what}")
        disk.flush()
        check.equal(told(server), expected["flush"], f"a flush, {what}")
        disk.zero(64 * KIB, 8 * KIB)
        check.equal(told(server), expected["zero"], f"zeroes, {what}")
        check.that(not any(server.data[64 * KIB:72 * KIB]), f"zeroes are zeroes, {what}")
        check.that(server.data[72 * KIB:80 * KIB] == data[8 * KIB:], f"no more is zeroed, {what}")
        see_discard(server, disk, server.flags & (nbd.SEND_TRIM | nbd.SEND_WRITE_ZEROES), what)
    with Disk().open(os.O_RDWR | os.O_DSYNC) as disk:
        disk.write(128 * KIB, data)
        check.equal(told(server), expected["fua"], f"a forced write, {what}")


def see_discard(server, disk, flags, what):
    """A discard is sent as zeroes that may be holes, so that mirrors cannot differ; where there are none, or the server would
    have to write them, it is not offered."""
    if flags == nbd.SEND_TRIM | nbd.SEND_WRITE_ZEROES:
        disk.discard(72 * KIB, 4 * KIB)
        requests = list(server.requests)
        check.equal(told(server), ["write_zeroes"], f"a discard, {what}")
        check.that(not requests[0].flags & nbd.FLAG_NO_HOLE, f"a discard may make a hole, {what}")
        check.that(not any(server.data[72 * KIB:76 * KIB]), f"what is discarded is zero, {what}")
        return
    check.equal(Disk().limit("discard_max_bytes"), 0, f"discards are not offered, {what}")
    with check.refused((95,), f"a discard, {what}"):
        disk.discard(72 * KIB, 4 * KIB)
    check.equal(told(server), [], f"a discard that is not offered, {what}")
