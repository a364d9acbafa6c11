# SPDX-License-Identifier: GPL-2.0
"""Devices a, b and z at the same time, of different sizes and block sizes: each has its own data, counts and errors; what happens
to one does not touch the others."""

import contextlib
import os

from lib import check, nbdinfo
from lib.mirror import Mirror
from lib.server import Nbdkit
from lib.traffic import Traffic

EBUSY = 16


def run():
    with contextlib.ExitStack() as stack:
        a = stack.enter_context(Mirror("a", size=1 << 20))
        b = stack.enter_context(Mirror("b", size=2 << 20, settings=["blocksize=512"], channels=1))
        z = stack.enter_context(Mirror("z", size=4 << 20, kinds=[Nbdkit], channels=4))
        check.equal(nbdinfo.devices(), ["a", "b", "z"], "devices")
        check.that("Device c-y:\tClosed\n" in nbdinfo.text(), "the devices between are drawn together")
        for mirror, blocks in ((a, 256), (b, 4096), (z, 1024)):
            check.equal(mirror.status().blocks, blocks, f"blocks of {mirror.letter}")
        use_all(stack, a, b, z)
        for mirror in (a, b):
            mirror.wait_in_sync()
            mirror.check_same()


def use_all(stack, a, b, z):
    """I/O on all three, and trouble on one after the other."""
    traffic = {mirror: stack.enter_context(Traffic(mirror.letter, seed=seed)) for seed, mirror in enumerate((a, b, z))}
    traffic[z].wait_for(20, 30, "device z")
    with check.refused(EBUSY, "reset of an open device"):
        b.command("reset=1")
    check.equal([mirror.status().last_error for mirror in (a, b, z)], [0, EBUSY, 0], "last errors")
    a.command("setfaulty=1")
    check.equal([mirror.status().mark(1) for mirror in (a, b)], ["F", ""], "marks of group 1 of a and b")
    for mirror in (a, b, z):
        traffic[mirror].wait_for(20, 30, f"device {mirror.letter} after a lost a group")
    a.command("hotadd=1")
    b.servers[0].pause()
    for mirror in (a, z):
        traffic[mirror].wait_for(50, 30, f"device {mirror.letter} while a server of b is stopped")
    b.servers[0].resume()
    traffic[b].wait_for(20, 60, "device b after its server went on")
    traffic[z].stop()
    traffic[z].verify()
    written = z.stores[0].read(0, 1 << 20)
    z.disable()
    z.command("reset=1")
    check.equal(nbdinfo.devices(), ["a", "b"], "devices after z was reset")
    for mirror in (a, b):
        traffic[mirror].wait_for(20, 30, f"device {mirror.letter} after z was reset")
        traffic[mirror].stop()
        traffic[mirror].verify()
    check.that(z.stores[0].read(0, 1 << 20) == written, "nothing of the others went to the server of z")
    check.that(os.path.exists("/dev/nda") and not os.path.exists("/sys/block/ndz"), "the disks that are there")
