# SPDX-License-Identifier: GPL-2.0
"""Blocks that say how often they were written, and what was promised of them when."""

import struct

from lib import check

BLOCK = 4096


def content(block, version):
    """What a block holds after it was written so often."""
    return struct.pack("<QQ", block, version) * (BLOCK // 16)


def version_in(data, block):
    """How often the block had been written when it got this content."""
    if not any(data):
        return 0
    number, version = struct.unpack_from("<QQ", data)
    check.that(number == block and data == content(block, version), f"block {block} holds a whole write")
    return version


class Versions:
    """The versions of some blocks."""

    def __init__(self):
        self.written = {}
        self.promised = {}

    def write(self, disk, block, offset):
        """Writes the next version of a block."""
        version = self.written.get(block, 0) + 1
        disk.write(offset, content(block, version))
        self.written[block] = version

    def promise_all(self):
        """All that was written so far survives a crash from now on."""
        self.promised.update(self.written)

    def promise(self, block):
        """The same for one block."""
        self.promised[block] = self.written[block]


class Moment:
    """What was written and promised at one moment."""

    def __init__(self, versions):
        self.written, self.promised = dict(versions.written), dict(versions.promised)

    def check(self, image, offset_of, what):
        """Fails unless the image has what was promised; gives how many blocks lack what was only written."""
        behind = 0
        for block, version in self.written.items():
            offset = offset_of(block)
            found = version_in(image[offset:offset + BLOCK], block)
            check.between(found, self.promised.get(block, 0), version, f"version of block {block}, {what}")
            behind += found < version
        return behind
