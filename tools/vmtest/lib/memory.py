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


def crc32c(data):
    """The checksum of the metadata."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def beat_place(store):
    """Where a store's beat is."""
    return store.size // BLOCK * BLOCK - 36 * 1024


def take_over(store):
    """Makes the beat of a store that of another client."""
    block = bytearray(store.read(beat_place(store), BLOCK))
    block[32:48] = b"somebody else's."
    block[8:12] = bytes(4)
    block[8:12] = struct.pack("<I", crc32c(block))
    store.write(beat_place(store), bytes(block))


def newest(store):
    """What a store's newest superblock says."""
    blocks = [store.read(place, BLOCK) for place in superblocks(store)]
    blocks = [block for block in blocks if block.startswith(b"enbd member\0")]
    check.that(blocks, f"{store.name} has a superblock")
    return max((Superblock(block) for block in blocks), key=lambda one: one.seq)
