# SPDX-License-Identifier: GPL-2.0
"""Mirrors that remember: exports with room for metadata, and what is found on them."""

import errno
import struct

from lib import check, nbdinfo
from lib.mirror import MIB, Mirror

# Of the export, of the device in it, and of the metadata behind that.
EXPORT = 9 * MIB
DEVICE = 8 * MIB
BLOCK = 4096
SUPERBLOCKS = 8


class Remembering(Mirror):
    """A mirror whose groups have metadata. In a `with` it is made, and enabled unless it is told not to."""

    def __init__(self, letter="a", *, size=EXPORT, equal=True, **common):
        self._begin, self.equal = common.pop("enable", True), equal
        super().__init__(letter, size=size, enable=False, **common)

    def __enter__(self):
        super().__enter__()
        self.command("create=0 equal" if self.equal else "create=0")
        if self._begin:
            self.command("enable=1")
        return self

    def forget(self):
        """What the client knows goes, as in a crash. What its users have flushed was acknowledged before."""
        self.command("reset=1")

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
    end = store.size // BLOCK * BLOCK
    return [end - BLOCK * (slot + 1) for slot in range(SUPERBLOCKS)]


def wipe(store):
    """Overwrites a store's superblocks, behind the server's back."""
    for place in superblocks(store):
        store.write(place, bytes(BLOCK))


class Superblock:
    """The newest superblock of a store: only what scenarios ask for."""

    def __init__(self, block):
        self.seq, self.mirror = struct.unpack_from("<Q16s", block, 40)
        self.event, self.generation = struct.unpack_from("<QQ", block, 112)
        self.has_owner = any(block[144:160])
        self.in_sync = {number for number in range(8) if block[512 + 64 * number + 16] == 1}


def newest(store):
    """What a store's newest superblock says."""
    blocks = [store.read(place, BLOCK) for place in superblocks(store)]
    blocks = [block for block in blocks if block.startswith(b"enbd member\0")]
    check.that(blocks, f"{store.name} has a superblock")
    return max((Superblock(block) for block in blocks), key=lambda one: one.seq)
