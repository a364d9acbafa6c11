# SPDX-License-Identifier: GPL-2.0
"""I/O that goes on in a thread while other things happen, and knows what it wrote."""

import os
import random
import threading

from lib import check
from lib.disk import Disk

BLOCK = 4096


class Traffic:
    """Writes random blocks, reads some of them back, flushes now and then, until it is stopped.

    Each block says how often it was written, so that at any time all of the disk can be compared with what was acknowledged.
    """

    def __init__(self, letter="a", *, first=0, blocks=256, seed=1, pace_s=0.0):
        self.disk, self.first, self.count, self.pace_s = Disk(letter), first, blocks, pace_s
        self.random = random.Random(seed)
        self.written = {}
        self.operations = 0
        self.error = None
        self._stop = threading.Event()
        self._moved = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def content(self, block, version):
        """What a block holds after it was written so often."""
        return random.Random(block << 32 | version).randbytes(64) * (BLOCK // 64)

    def _run(self):
        try:
            with self.disk.open() as disk:
                while not self._stop.is_set():
                    self._step(disk)
                    with self._moved:
                        self.operations += 1
                        self._moved.notify_all()
                    if self.pace_s:
                        self._stop.wait(self.pace_s)
        except BaseException as error:
            self.error = error
            with self._moved:
                self._moved.notify_all()

    def _step(self, disk):
        block = self.random.randrange(self.first, self.first + self.count)
        choice = self.random.random()
        # Each operation asks for something, so that none ends while nobody answers.
        if choice < 0.5 or (choice < 0.95 and block not in self.written):
            version = self.written.get(block, 0) + 1
            disk.write(block * BLOCK, self.content(block, version))
            self.written[block] = version
        elif choice < 0.95:
            self._compare(disk, block)
        else:
            disk.flush()

    def _compare(self, disk, block):
        data = disk.read(block * BLOCK, BLOCK)
        check.that(data == self.content(block, self.written[block]), f"block {block} holds what was written last")

    def wait_for(self, more, seconds, what):
        """Waits until it has done so many more operations."""
        with self._moved:
            goal = self.operations + more
            moved = self._moved.wait_for(lambda: self.error or self.operations >= goal, seconds)
        self.check()
        check.that(moved, f"I/O goes on within {seconds} s: {what}")

    def check(self):
        """Fails if an operation has failed."""
        if self.error is not None:
            raise check.Failure(f"I/O failed: {self.error!r}") from self.error

    def verify(self):
        """Compares all that it wrote. Only while it is stopped."""
        with self.disk.open(os.O_RDONLY) as disk:
            for block in sorted(self.written):
                self._compare(disk, block)

    def stop(self, seconds=60):
        """Ends it, and fails if anything was wrong."""
        self._stop.set()
        self._thread.join(seconds)
        check.that(not self._thread.is_alive(), f"the last operation ends within {seconds} s")
        self.check()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.stop()
        else:
            self._stop.set()
