# SPDX-License-Identifier: GPL-2.0
"""Mirrors that remember: exports with room for metadata, and what is found on them."""

import errno
import struct

import superblock
from lib import check, nbdinfo
from lib.mirror import MIB, Mirror
from superblock import BLOCK

# Of the export, of the device in it, and of the metadata behind that.
EXPORT = 9 * MIB
DEVICE = 8 * MIB


class Remembering(Mirror):
    """A mirror whose groups have metadata. In a `with` it is made, and enabled unless it is told not to."""

    def __init__(self, letter="a", *, size=EXPORT, equal=True, **common):
        self._begin, self.equal = common.pop("enable", True), equal
        # Without beats nobody waits for those of a client that is gone.
        settings = common.pop("settings", ("owner_check=0",))
        super().__init__(letter, size=size, enable=False, settings=settings, **common)

    def __enter__(self):
        super().__enter__()
        self.command("create=0 equal" if self.equal else "create=0")
        if self._begin:
            self.command("enable=1")
        return self

    def forget(self):
        """What the client knows goes, as in a crash. What its users have flushed was acknowledged before."""
        self.command("reset=1", *self.settings)

    def connect_all(self, *groups):
        """Connects these groups, or all."""
        for group in groups or range(len(self.servers)):
            self.connect(group)

    def attach(self, group):
        """Connects to a server, whatever member it has."""
        server = self.servers[group]
        self.command(f"attach={server.endpoint} name={nbdinfo.spell(server.export)} channels={self.channels}")

    def refuses(self, number, line, phrase):
        """Fails unless a command is refused with this errno, and the status says why."""
        with check.refused(number, line):
            self.command(line)
        error = self.status().error
        check.that(phrase in error, f"{line} is refused since {phrase!r}; the status says {error!r}")

    def missing(self, group):
        """Fails unless a start is refused since this group is missing."""
        self.refuses(errno.EUCLEAN, "enable=1", f"group {group} is missing and may be newer")


def superblocks(store):
    """The places of a store's superblocks, the first one first."""
    return [superblock.position(store.size, place) for place in range(superblock.PLACES)]


def wipe(store):
    """Overwrites a store's superblocks, behind the server's back."""
    for place in superblocks(store):
        store.write(place, bytes(BLOCK))


class Superblock:
    """The newest superblock of a store: only what scenarios ask for."""

    def __init__(self, told):
        self.seq, self.mirror = told["seq"], told["mirror"]
        self.event, self.generation = told["event"], told["generation"]
        self.has_owner = told["owner"] is not None
        self.in_sync = {int(number) for number, member in told["members"].items() if member["state"] == "in sync"}


def beat_place(store):
    """Where a store's beat is."""
    return store.size // BLOCK * BLOCK - 36 * 1024


def take_over(store):
    """Makes the beat of a store that of another client."""
    block = bytearray(store.read(beat_place(store), BLOCK))
    block[32:48] = b"somebody else's."
    block[8:12] = bytes(4)
    block[8:12] = struct.pack("<I", superblock.crc32c(block))
    store.write(beat_place(store), bytes(block))


def newest(store):
    """What a store's newest superblock says."""
    told = superblock.newest(store.path)
    check.that(told, f"{store.name} has a superblock")
    return Superblock(told)
