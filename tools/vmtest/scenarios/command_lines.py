# SPDX-License-Identifier: GPL-2.0
"""Several commands in one write are carried out one after the other, up to 4096 bytes of them. One line that cannot be read
changes nothing at all; one that cannot be obeyed ends the write, and what came before it stands."""

import os

from lib import check, nbdinfo
from lib.cases import case
from lib.kmsg import Kmsg
from lib.mirror import Mirror
from lib.refusal import Refusals

E2BIG, EBUSY, EINVAL, ERANGE = 7, 16, 22, 34

# Good lines around one that cannot be read.
MIXED = (
    ("timeout[b]=5\nfrobnicate[a]=1", EINVAL), ("frobnicate[a]=1\ntimeout[b]=5", EINVAL),
    ("setfaulty[a]=1\nsetfaulty[a]=8", ERANGE),
    ("setfaulty[a]=1\n\nreset[a]=1\ntimeout[a]=x", EINVAL), ("timeout[b]=1\n" * 300 + "x[a]=1", EINVAL),
)


def run():
    with Kmsg() as kmsg:
        with Mirror() as mirror:
            refusals = Refusals(kmsg)
            for text, number in MIXED:
                with case(text[-40:]):
                    refusals.expect(text, number, text[-40:])
            half_obeyed(mirror, kmsg)
            longest(refusals)
        all_at_once()


def half_obeyed(mirror, kmsg):
    """The second of three lines is refused."""
    kmsg.forget()
    with check.refused(EBUSY, "a write with a line that cannot be obeyed"):
        mirror.command("setfaulty=1", "setfaulty=0", "hotadd=1")
    check.equal(mirror.status().marks(), {0: "", 1: "F"}, "marks after the write was ended")
    check.equal(len(kmsg.lines(r"\[a\] setfaulty refused \(line 2\)")), 1, "lines of the log that name line 2")
    mirror.resync(1)


def longest(refusals):
    """4096 bytes are taken, one more is not, whatever they are."""
    nbdinfo.raw(b"timeout[a]=9\n" * 315 + b"\n")
    nbdinfo.raw(b"\n" * 4096)
    for data in (b"timeout[a]=9\n" * 315 + b"\n\n", b"x" * 4097, b"\0" * 4097, b"y" * 1000000):
        what = f"{data[:20]!r} ({len(data)} bytes)"
        with case(what):
            refusals.expect(data, E2BIG, what, told=False)


def all_at_once():
    """From nothing to a device and back, in one write each."""
    with Mirror(enable=False) as mirror:
        data = os.urandom(65536)
        connects = [f"connect={group} {server.endpoint} name={server.export}" for group, server in enumerate(mirror.servers)]
        mirror.command("reset=1", "blocksize=1024", *connects, "setfaulty=1", "hotadd=1", "enable=1")
        mirror.disk.write(0, data)
        mirror.command("setfaulty=1", "hotremove=1", connects[1])
        mirror.resync(1)
        mirror.command("enable=0", "enable=1", "enable=0", "enable=1", "enable=0")
        check.that(all(store.read(0, 65536) == data for store in mirror.stores), "both stores have what was written")
