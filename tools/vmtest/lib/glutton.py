# SPDX-License-Identifier: GPL-2.0
"""A program that uses more memory than it may have, and looks whether all of it is still there.

`glutton.py memory BYTES` or `glutton.py file BYTES PATH`: each round it goes over all pages, of its memory or of the file, in
another order, compares them with what the last round left, and changes them. It says `round N` after each, and ends after the
round in which its input is closed. Pages are neither zero nor compressible to one word.
"""

import mmap
import os
import random
import select
import struct
import sys

PAGE = 4096
# Pages that are compared and changed at once, so that a round is quick.
RUN = 16


def content(first, version):
    """What a run holds after so many rounds."""
    return b"".join(struct.pack("<QQ", page, version) * (PAGE // 16) for page in range(first, first + RUN))


class Memory:
    """Anonymous memory."""

    def __init__(self, size):
        self._map = mmap.mmap(-1, size)

    def read(self, offset, length):
        """Bytes of it."""
        return self._map[offset:offset + length]

    def write(self, offset, data):
        """Changes it."""
        self._map[offset:offset + len(data)] = data


class File:
    """A file, through the page cache."""

    def __init__(self, size, path):
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.posix_fallocate(self._fd, 0, size)

    def read(self, offset, length):
        """Bytes of it."""
        return os.pread(self._fd, length, offset)

    def write(self, offset, data):
        """Changes it."""
        os.pwrite(self._fd, data, offset)


def main(kind, size, *path):
    """All rounds."""
    size = int(size)
    place = (File if kind == "file" else Memory)(size, *path)
    dice, version = random.Random(1), 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        version += 1
        runs = list(range(0, size // PAGE, RUN))
        dice.shuffle(runs)
        for first in runs:
            found = place.read(first * PAGE, RUN * PAGE)
            if found != (content(first, version - 1) if version > 1 else bytes(RUN * PAGE)):
                sys.exit(f"pages from {first} on are not what round {version - 1} left; they begin with {found[:16].hex()}")
            place.write(first * PAGE, content(first, version))
        print(f"round {version}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
