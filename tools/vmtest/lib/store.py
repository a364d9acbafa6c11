# SPDX-License-Identifier: GPL-2.0
"""The file behind a server."""

import os
import random
import tempfile
import zlib

from lib import check

CHUNK = 1 << 20
BLOCK = 4096
# Blocks that differ that are told.
TOLD = 16


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

    def snapshot(self):
        """All bytes of it."""
        return self.read(0, self.size)

    def empty(self):
        """Makes it a hole, behind the server's back."""
        os.truncate(self.path, 0)
        os.truncate(self.path, self.size)

    def set_aside(self):
        """Puts an empty one in its place, until `bring_back`."""
        os.rename(self.path, f"{self.path}.aside")
        with open(self.path, "wb") as file:
            file.truncate(self.size)

    def bring_back(self):
        """Ends `set_aside`."""
        os.rename(f"{self.path}.aside", self.path)

    def replace(self, data):
        """Makes it hold these bytes, as many as it has, and holes where they are zeroes."""
        self.empty()
        with open(self.path, "r+b") as file:
            for offset in range(0, self.size, BLOCK):
                block = data[offset:offset + BLOCK]
                if block.strip(b"\0"):
                    file.seek(offset)
                    file.write(block)

    def allocated(self):
        """Bytes that are no holes."""
        return os.stat(self.path).st_blocks * 512


def differing_blocks(stores, length=None):
    """The blocks in which stores differ, as far as the smallest, or `length`, reaches."""
    length = length or min(store.size for store in stores)
    for offset in range(0, length, CHUNK):
        chunks = [store.read(offset, min(CHUNK, length - offset)) for store in stores]
        if len(set(chunks)) == 1:
            continue
        for at in range(0, len(chunks[0]), BLOCK):
            if len({chunk[at:at + BLOCK] for chunk in chunks}) > 1:
                yield (offset + at) // BLOCK


def check_same(stores, length=None):
    """Fails unless all stores hold the same, as far as the smallest, or `length`, reaches. Tells the first blocks that differ, each
    with a checksum of what every store has there, and how many there are."""
    blocks = list(differing_blocks(stores, length))
    if blocks:
        sums = [[f"{s.name}={zlib.crc32(s.read(block * BLOCK, BLOCK)):08x}" for s in stores] for block in blocks[:TOLD]]
        told = ", ".join(f"block {block}: {' '.join(words)}" for block, words in zip(blocks[:TOLD], sums, strict=True))
        raise check.Failure(f"stores differ from byte {blocks[0] * BLOCK} on; {len(blocks)} blocks: {told}")
