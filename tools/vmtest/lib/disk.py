# SPDX-License-Identifier: GPL-2.0
"""The disk that enbd publishes, read and written past the page cache."""

import contextlib
import fcntl
import mmap
import os
import struct

BLKGETSIZE64 = 0x80081272
BLKROGET = 0x125E
BLKDISCARD = 0x1277
BLKZEROOUT = 0x127F


class Disk:
    """/dev/ndX by its letter."""

    def __init__(self, letter="a"):
        self.name = f"nd{letter}"
        self.path = f"/dev/{self.name}"

    def exists(self):
        """Whether it is published."""
        return os.path.exists(f"/sys/block/{self.name}")

    def limit(self, name):
        """A file of its queue directory in /sys, as a number where it is one."""
        with open(f"/sys/block/{self.name}/queue/{name}", encoding="ascii") as file:
            word = file.read().strip()
        return int(word) if word.isdigit() else word

    @contextlib.contextmanager
    def open(self, flags=os.O_RDWR):
        """Opens it for direct I/O."""
        fd = os.open(self.path, flags | os.O_DIRECT | os.O_CLOEXEC)
        try:
            yield Opened(fd)
        finally:
            os.close(fd)

    def read(self, offset, length):
        """Opens it, reads, closes it."""
        with self.open(os.O_RDONLY) as disk:
            return disk.read(offset, length)

    def write(self, offset, data, flags=0):
        """Opens it, writes, closes it."""
        with self.open(os.O_RDWR | flags) as disk:
            disk.write(offset, data)


class Opened:
    """An open disk."""

    def __init__(self, fd):
        self.fd = fd

    def size(self):
        """Bytes."""
        return struct.unpack("Q", fcntl.ioctl(self.fd, BLKGETSIZE64, bytes(8)))[0]

    def is_read_only(self):
        """Whether the kernel refuses writes to it."""
        return bool(struct.unpack("i", fcntl.ioctl(self.fd, BLKROGET, bytes(4)))[0])

    def read(self, offset, length, at=0):
        """All of the bytes that are asked for, in one system call; into memory that begins `at` bytes behind a page's start."""
        with mmap.mmap(-1, at + length) as buffer, memoryview(buffer)[at:at + length] as view:
            count = os.preadv(self.fd, [view], offset)
            if count != length:
                raise OSError(f"read {count} of {length} bytes at {offset}")
            return bytes(view)

    def write(self, offset, data, at=0):
        """All of the bytes, in one system call."""
        with mmap.mmap(-1, at + len(data)) as buffer, memoryview(buffer)[at:at + len(data)] as view:
            view[:] = data
            count = os.pwritev(self.fd, [view], offset)
            if count != len(data):
                raise OSError(f"wrote {count} of {len(data)} bytes at {offset}")

    def flush(self):
        """Makes it durable."""
        os.fsync(self.fd)

    def discard(self, offset, length):
        """As blkdiscard."""
        fcntl.ioctl(self.fd, BLKDISCARD, struct.pack("QQ", offset, length))

    def zero(self, offset, length):
        """As blkdiscard -z."""
        fcntl.ioctl(self.fd, BLKZEROOUT, struct.pack("QQ", offset, length))
