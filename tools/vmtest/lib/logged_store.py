# SPDX-License-Identifier: GPL-2.0
"""A store that remembers in which order things became durable: dm-log-writes over RAM disks.

A write enters its log when a flush that was sent after its completion is answered, or at once if it bears FUA; a mark enters it
when it is made. So what the log holds before a mark is what a crash at that moment would have left. The format is that of the
kernel's Documentation/admin-guide/device-mapper/log-writes.rst.
"""

import os
import struct

from lib import check
from lib.disk import Opened
from lib.program import attempt, run

SUPER = struct.Struct("<QQQI")
ENTRY = struct.Struct("<QQQQ")
MAGIC = 0x6A736677736872
SECTOR = 512
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8
LOG_SIZE = 256 << 20
STORES = 2


def make_disks():
    """RAM disks, full of zeroes, for two stores and their logs. Takes away what a scenario that failed left."""
    for number in range(STORES):
        attempt("dmsetup", "remove", "--force", f"logged{number}")
    attempt("rmmod", "brd")
    run("modprobe", "brd", f"rd_nr={2 * STORES}", f"rd_size={LOG_SIZE >> 10}")
    for number in range(2 * STORES):
        check.until(lambda disk=number: os.path.exists(f"/dev/ram{disk}"), 20, "the RAM disks are there")


def remove_disks():
    """Gives their memory back."""
    run("rmmod", "brd")


class LoggedStore:
    """A block device of `size` bytes; `number` tells apart those that there are at once."""

    def __init__(self, number, size):
        self.name, self.size = f"logged{number}", size
        self.path = f"/dev/mapper/{self.name}"
        self._log = f"/dev/ram{2 * number + 1}"
        table = f"0 {size // SECTOR} log-writes /dev/ram{2 * number} {self._log}"
        run("dmsetup", "create", self.name, "--table", table)

    def mark(self, text):
        """Notes a moment."""
        run("dmsetup", "message", self.name, "0", "mark", text)

    def close(self):
        """Ends it; the log is complete then."""
        run("dmsetup", "remove", "--retry", self.name)

    def crashes(self):
        """For each mark its text, and what the device would hold after a crash at that moment."""
        image = bytearray(self.size)
        for entry, text, data in self._entries():
            sector, count, flags, _ = entry
            if flags & MARK:
                yield text, image
            elif count:
                data = bytes(count * SECTOR) if flags & DISCARD else data
                image[sector * SECTOR:(sector + count) * SECTOR] = data

    def _entries(self):
        fd = os.open(self._log, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
        try:
            disk = Opened(fd)
            magic, version, number, sector_size = SUPER.unpack_from(disk.read(0, SECTOR))
            check.equal((magic, version, sector_size), (MAGIC, 1, SECTOR), "head of the log")
            at = SECTOR
            for _ in range(number):
                head = disk.read(at, SECTOR)
                entry = ENTRY.unpack_from(head)
                at += SECTOR
                has_data = entry[1] and not entry[2] & DISCARD
                data = disk.read(at, entry[1] * SECTOR) if has_data else b""
                at += len(data)
                yield entry, head[ENTRY.size:ENTRY.size + entry[3]].rstrip(b"\0").decode(), data
        finally:
            os.close(fd)
