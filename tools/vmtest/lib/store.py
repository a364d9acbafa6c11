# SPDX-License-Identifier: GPL-2.0
"""The file behind a server."""

import os
import random
import tempfile
import zlib

from lib import check

CHUNK = 1 << 20
BLOCK = 4096


class Store:
    """A sparse file of zeroes, in a directory of its own so that it can be served by its name."""

    def __init__(self, name, size):
        self.name, self.size = name, size
        self.directory = os.path.abspath(tempfile.mkdtemp(prefix=f"store-{name}-", dir="."))
        self.path = os.path.join(self.directory, name)
        with open(self.path, "wb") as file:
            file.truncate(size)

    def fill(self, seed):
        """Fills it with bytes that depend on the seed."""
        with open(self.path, "r+b") as file:
            for _ in range(0, self.size, CHUNK):
                file.write(random.Random(seed).randbytes(min(CHUNK, self.size - file.tell())))
                seed += 1

    def read(self, offset, length):
        """Bytes of it."""
        with open(self.path, "rb") as file:
            file.seek(offset)
            return file.read(length)

    def write(self, offset, data):
        """Changes it behind the server's back."""
        with open(self.path, "r+b") as file:
            file.seek(offset)
            file.write(data)

    def allocated(self):
        """Bytes that are no holes."""
        return os.stat(self.path).st_blocks * 512


def first_difference(one, other, length):
    """The offset of the first 512 bytes in which two stores differ, or None."""
    with open(one.path, "rb") as left, open(other.path, "rb") as right:
        for offset in range(0, length, CHUNK):
            a, b = (file.read(min(CHUNK, length - offset)) for file in (left, right))
            if a == b:
                continue
            for at in range(0, CHUNK, 512):
                if a[at:at + 512] != b[at:at + 512]:
                    return offset + at
    return None


def differing_blocks(stores):
    """The blocks in which stores differ, as far as the smallest reaches."""
    for block in range(min(store.size for store in stores) // BLOCK):
        if len({store.read(block * BLOCK, BLOCK) for store in stores}) > 1:
            yield block


def _told(stores, most=16):
    """The first blocks in which stores differ, each with a checksum of what every store has there, and how many there are."""
    blocks = list(differing_blocks(stores))
    sums = [[f"{s.name}={zlib.crc32(s.read(block * BLOCK, BLOCK)):08x}" for s in stores] for block in blocks[:most]]
    return f"{len(blocks)} blocks: " + ", ".join(f"block {b}: {' '.join(words)}" for b, words in zip(blocks, sums))


def check_same(stores, length=None):
    """Fails unless all stores hold the same, as far as the smallest reaches."""
    length = length or min(store.size for store in stores)
    for other in stores[1:]:
        offset = first_difference(stores[0], other, length)
        if offset is not None:
            where = f"stores {stores[0].name} and {other.name} differ at byte {offset}"
            raise check.Failure(f"{where}; {_told(stores)}")
