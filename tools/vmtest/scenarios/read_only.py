# SPDX-License-Identifier: GPL-2.0
"""A read-only export makes a read-only disk, alone and beside a writable one, and says so in the status."""

import os

from lib import check, nbdinfo
from lib.afresh import reset_all
from lib.cases import case
from lib.disk import Disk
from lib.mirror import Mirror
from lib.server import KINDS, Nbdkit
from lib.store import Store


def run():
    for kind in KINDS:
        with case(kind.__name__, reset_all):
            serve(kind)
    with case("beside a writable one", reset_all):
        beside_writable()


def serve(kind):
    """One server that allows no writes."""
    what = kind.__name__
    store = Store("ro", 4 << 20)
    store.fill(5)
    with kind(store, read_only=True) as server:
        nbdinfo.command(f"connect[a]=0 {server.endpoint} name={server.export} channels=2", "enable[a]=1")
        check_read_only(store, what)
        nbdinfo.command("enable[a]=0", "reset[a]=1")


def check_read_only(store, what):
    """The disk can be read and nothing else."""
    check.that(nbdinfo.status().read_only, f"the status says ro, {what}")
    with Disk().open(os.O_RDONLY) as disk:
        check.that(disk.is_read_only(), f"the disk is read-only, {what}")
        check.that(disk.read(0, 1 << 20) == store.read(0, 1 << 20), f"the disk can be read, {what}")
    with check.refused((1, 13, 30), f"a write, {what}"):
        Disk().write(0, bytes(4096))
    check.equal(nbdinfo.status().last_error, 0, f"last error, {what}")


def beside_writable():
    """One group that cannot be written makes a disk that cannot: a mirror would not stay one."""
    with Mirror(kinds=[Nbdkit, lambda store: Nbdkit(store, read_only=True)]) as mirror:
        check_read_only(mirror.stores[0], "one of two groups")
