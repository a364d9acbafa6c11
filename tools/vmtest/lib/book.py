# SPDX-License-Identifier: GPL-2.0
"""Blocks that were written one by one, each durable before the next, and what they hold."""

import os

from lib import check

BLOCK = 4096


class Book:
    """What was written to a disk."""

    def __init__(self, disk):
        self.disk, self.blocks = disk, {}

    def write(self, *blocks):
        """Writes new bytes to these blocks."""
        with self.disk.open(os.O_RDWR | os.O_DSYNC) as disk:
            for block in blocks:
                self._write_one(disk, block)

    def _write_one(self, disk, block):
        data = os.urandom(BLOCK)
        disk.write(block * BLOCK, data)
        self.blocks[block] = data

    def verify(self, what):
        """Fails unless all of them are read as they were written."""
        # Somebody may write others meanwhile.
        blocks = dict(self.blocks)
        with self.disk.open(os.O_RDONLY) as disk:
            wrong = [block for block, data in blocks.items() if disk.read(block * BLOCK, BLOCK) != data]
        check.that(not wrong, f"{what}: blocks are read as they were written; {len(wrong)} of {len(blocks)} are not")


def spread(size, count, first=0):
    """So many blocks, at equal distances over `size` bytes; `first` moves all of them."""
    step = size // BLOCK // count
    return [first + number * step for number in range(count)]
