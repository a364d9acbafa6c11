# SPDX-License-Identifier: GPL-2.0
"""A store that is a slow disk: writes that were handed to it are in the kernel, out of reach of what happens to the server."""

import os
import time

from lib.disk import Opened
from lib.program import attempt, run

NAME = "slow-store"


class DiskStore:
    """A RAM disk behind dm-delay. Read and changed past the page cache and the delay."""

    def __init__(self, size, delay_ms):
        self.name, self.size, self.path = "disk", size, f"/dev/mapper/{NAME}"
        attempt("dmsetup", "remove", "--retry", NAME)
        attempt("rmmod", "brd")
        run("modprobe", "brd", "rd_nr=1", f"rd_size={size >> 10}")
        while not os.path.exists("/dev/ram0"):
            time.sleep(0.01)
        run("dmsetup", "create", NAME, "--table", f"0 {size >> 9} delay /dev/ram0 0 0 /dev/ram0 0 {delay_ms}")
        self._disk = Opened(os.open("/dev/ram0", os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC))

    def read(self, offset, length):
        """Bytes of it."""
        return self._disk.read(offset, length)

    def write(self, offset, data):
        """Changes it behind the server's back."""
        self._disk.write(offset, data)

    def close(self):
        """Takes it apart."""
        os.close(self._disk.fd)
        run("dmsetup", "remove", "--retry", NAME)
        run("rmmod", "brd")
