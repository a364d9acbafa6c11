# SPDX-License-Identifier: GPL-2.0
"""Each server, over each transport, by the name of its export: what is written is on its store, and what is on its store is
read; flushes, forced writes, zeroes and discards succeed and have their effect."""

import os
import random

from lib import check, nbdinfo
from lib.afresh import reset_all
from lib.cases import case
from lib.disk import Disk
from lib.endpoint import TRANSPORTS, Endpoint
from lib.server import KINDS
from lib.store import Store

LIMIT_S = 180
MIB = 1 << 20
SIZE = 4 * MIB


def run():
    for kind in KINDS:
        for transport in TRANSPORTS:
            with case(f"{kind.__name__} over {transport}", reset_all):
                serve_over(kind, transport)


def serve_over(kind, transport):
    """One server over one transport, from connect to reset."""
    what = f"{kind.__name__} over {transport}"
    store = Store(f"{kind.__name__}-{transport}", SIZE)
    store.fill(1)
    with kind(store, Endpoint(transport)) as server:
        nbdinfo.command(f"connect[a]=0 {server.endpoint} name={server.export} channels=2", "enable[a]=1")
        shown = nbdinfo.status()
        for channel in shown.channels:
            wanted = ("unix" if transport == "unix" else "tcp", server.endpoint.shown, server.export, True)
            check.equal((channel.transport, channel.addr, channel.name, channel.is_up), wanted, f"channel, {what}")
        check.equal((shown.size_kb, shown.blocks, len(shown.channels)), (SIZE >> 10, SIZE >> 12, 2), f"status, {what}")
        check.equal(shown.group_lines, {}, f"remarks on groups, {what}")
        use(store, what)
        nbdinfo.command("enable[a]=0", "reset[a]=1")


def use(store, what):
    """Each kind of request."""
    old = store.read(0, SIZE)
    new = random.Random(2).randbytes(MIB)
    with Disk().open() as disk:
        check.equal(disk.size(), SIZE, f"size, {what}")
        check.that(disk.read(0, SIZE) == old, f"what was on the store is read, {what}")
        disk.write(MIB, new)
        disk.write(512, new[:512])
        disk.flush()
        check.that(disk.read(MIB, MIB) == new, f"what was written is read, {what}")
    Disk().write(4096, new[:4096], os.O_DSYNC)
    check.that(store.read(MIB, MIB) == new, f"what was written is on the store, {what}")
    check.that(store.read(512, 512) == new[:512], f"a single sector is on the store, {what}")
    check.that(store.read(4096, 4096) == new[:4096], f"a forced write is on the store, {what}")
    check.that(store.read(1024, 3072) == old[1024:4096], f"nothing else was written, {what}")
    with Disk().open() as disk:
        disk.zero(2 * MIB, MIB)
        disk.discard(3 * MIB, MIB // 2)
        disk.flush()
    check.that(not any(store.read(2 * MIB, MIB)), f"zeroes were written, {what}")
    check.that(not any(store.read(3 * MIB, MIB // 2)), f"what was discarded reads as zeroes, {what}")
    check.that(store.read(3 * MIB + MIB // 2, MIB // 2) == old[-MIB // 2:], f"nothing else was discarded, {what}")
