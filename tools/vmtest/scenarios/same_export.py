# SPDX-License-Identifier: GPL-2.0
"""One export as two groups is no mirror: the same address and name are refused without `force`; a store that is behind two
addresses is taken, and told of as soon as a write shows it. Two stores that hold the same are not."""

import os

from lib import check, nbdinfo
from lib.afresh import reset_all
from lib.cases import case
from lib.endpoint import Endpoint
from lib.kmsg import Kmsg
from lib.mirror import MIB, Mirror
from lib.refusal import Refusals
from lib.server import Nbdkit
from lib.store import Store

EEXIST, EINVAL = 17, 22
SIZE = 4 * MIB
BLOCK = 4096
SAME = r"\[a\] groups 0 and 1 .*same store"
ANOTHER = "another group has this export; 'force' takes it all the same"


def run():
    with Kmsg() as kmsg:
        one_address(kmsg)
        for transport in ("tcp4", "unix"):
            with case(f"two addresses, {transport}", reset_all):
                two_addresses(kmsg, transport)
        two_stores(kmsg)


def write_some(mirror):
    """The first writes to a device."""
    with mirror.disk.open(os.O_RDWR | os.O_DSYNC) as disk:
        for number in range(16):
            disk.write(number * SIZE // 16, os.urandom(BLOCK))


def one_address(kmsg):
    """The same words for two groups: before the device is enabled and afterwards."""
    with Mirror(kinds=[Nbdkit], size=SIZE, channels=1, enable=False) as mirror:
        server = mirror.servers[0]
        line = f"connect[a]=1 {server.endpoint} name={server.export}"
        refusals = Refusals(kmsg)
        refusals.expect(line, EEXIST, "a second group with the export of the first")
        check.that(ANOTHER in mirror.status().error, f"the status says why: {mirror.status().error!r}")
        # As many channels of one group as one likes, and other devices, are no mirror.
        mirror.connect(0)
        nbdinfo.command(f"connect[b]=1 {server.endpoint} name={server.export}", "reset[b]=1")
        refusals.expect(f"connect[a]=1 force {server.endpoint}", EINVAL, "force in another place")
        mirror.command("enable=1")
        refusals.expect(line, EEXIST, "a second group with the export of the first, enabled")
        mirror.disable()
        first = f"connect[a]=0 {server.endpoint} name={server.export}"
        nbdinfo.command("reset[a]=1", first, f"{line} channels=2 force", "enable[a]=1")
        check.equal(mirror.status().marks(), {0: "", 1: ""}, "marks of two groups with one export")
        write_some(mirror)
        check.equal(mirror.status().marks(), {0: "", 1: ""}, "marks after writes to two groups with one export")
        mirror.disable()
    other_name()


def other_name():
    """Another export at the same address is another one."""
    with Mirror(kinds=[Nbdkit], size=SIZE, channels=1, enable=False) as mirror:
        store = mirror.stores[0]
        with open(os.path.join(store.directory, "other"), "wb") as file:
            file.truncate(SIZE)
        mirror.command(f"connect=1 {mirror.servers[0].endpoint} name=other", "enable=1")
        check.equal(mirror.status().marks(), {0: "", 1: ""}, "marks of two exports at one address")
        mirror.disable()


def two_addresses(kmsg, transport):
    """One store behind two addresses, which only a write shows."""
    kmsg.forget()
    stores = []

    def serve(store):
        stores.append(store)
        if len(stores) == 1:
            return Nbdkit(store)
        os.unlink(store.path)
        os.symlink(stores[0].path, store.path)
        return Nbdkit(store, Endpoint(transport))

    with Mirror(kinds=[serve, serve], size=SIZE) as mirror:
        check.equal(mirror.status().marks(), {0: "", 1: ""}, f"marks of two addresses, {transport}")
        write_some(mirror)
        told = kmsg.wait_for(SAME, 20)
        check.equal(len(told), 1, f"lines of the log that tell of one store behind two addresses, {transport}; number")
        mirror.disable()


def two_stores(kmsg):
    """A mirror like any other, of stores that are equal all the time."""
    kmsg.forget()
    with Mirror(size=SIZE) as mirror:
        write_some(mirror)
        block = Store("pattern", BLOCK)
        block.fill(7)
        for number in range(8):
            mirror.disk.write(number * BLOCK, block.snapshot(), os.O_DSYNC)
        mirror.check_same()
    check.equal(kmsg.lines("same store"), [], "lines of the log that take two stores for one")
