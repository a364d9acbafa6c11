# SPDX-License-Identifier: GPL-2.0
"""What users do to a device: our own writer all the time; fio, and for a file system some turmoil with names, in rounds."""

import contextlib
import os
import shutil
import signal
import threading
import time

from lib import filesystem
from lib.filesystem import FileSystem
from lib.fio import Fio
from lib.program import run
from parts.writer import BLOCK, Writer

MIB = 1 << 20
# How long anything may take that waits for requests, once all servers are back.
WAIT_S = 180
WRITER_BYTES = 8 * MIB
RESTLESS_BYTES = 2 * MIB
# Where fio's jobs leave room on the raw disk; in the file they lie behind the others.
RAW_RESTLESS = 13 * MIB

RAW_JOBS = """filename={disk}
rate_iops=,25
[small]
rw=randwrite
bs=4k
iodepth=8
offset=8m
size=4m
[sectors]
rw=randwrite
bs=512
iodepth=4
offset=12m
size=1m
[large]
rw=randwrite
bs=128k
rate_iops=,5
iodepth=4
offset=16m
size=8m
"""

FILE_JOBS = """directory={place}
rate_iops=,25
[direct]
rw=randwrite
bs=4k
iodepth=8
size=4m
[cached]
direct=0
ioengine=psync
rw=randwrite
bs=1k
size=1m
fsync=32
[large]
rw=randwrite
bs=64k
rate_iops=,5
iodepth=2
size=4m
"""

# As many requests as the disk takes at once, so that all other users wait for room there.
DEEP_JOBS = """filename={disk}
[deep]
rw=randread
bs=128k
iodepth=256
verify=0
"""


def _blocks(start):
    """The restless blocks, from that byte on."""
    return range(start // BLOCK, (start + RESTLESS_BYTES) // BLOCK)


class Load:
    """On the raw disk of a device."""

    RAW = True

    def __init__(self, disk, watch, seed):
        self.disk, self.watch, self.seed = disk, watch, seed
        self.writer = None
        self.fio = None
        self.rounds = 0

    def start(self):
        """Starts the writer."""
        restless = _blocks(RAW_RESTLESS)
        self.writer = Writer(self.disk.path, blocks=WRITER_BYTES // BLOCK, seed=self.seed, restless=restless, zeroes=True)

    def _jobs(self):
        return RAW_JOBS.format(disk=self.disk.path)

    def begin_round(self, seconds):
        """Starts what comes in rounds."""
        self.rounds += 1
        self.fio = Fio(self._jobs(), seconds, self.seed + self.rounds, name=f"fio-{self.disk.name}")
        self.fio.__enter__()

    def end_round(self):
        """Waits for its end, which has to be a good one."""
        self.fio.wait(WAIT_S)
        self.fio = None

    def read_much(self, seconds):
        """Reads with a deep queue for so long."""
        jobs = DEEP_JOBS.format(disk=self.disk.path)
        with Fio(jobs, int(seconds), self.seed, name=f"deep-{self.disk.name}") as fio:
            fio.wait(seconds + WAIT_S)

    def quiesce(self):
        """Lets nothing be under way, and verifies."""
        self.writer.pause(WAIT_S)
        self.writer.verify(WAIT_S)

    def go_on(self):
        """Ends that."""
        self.writer.go_on()

    def finish(self):
        """Ends everything; the disk is closed then."""
        self.writer.end()

    def kill(self):
        """Ends all processes at once."""
        for process in [self.writer and self.writer.process, self.fio and self.fio.process]:
            if process:
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)


class FileLoad(Load):
    """In a file system on a device."""

    RAW = False

    def __init__(self, disk, watch, seed):
        super().__init__(disk, watch, seed)
        self.system = None
        self._turmoil = None
        self._calm = threading.Event()

    def start(self):
        self.system = FileSystem("ext4", self.disk, f"mnt-{self.disk.name}").__enter__()
        path = self.system.path("blocks")
        count = (WRITER_BYTES + RESTLESS_BYTES) // MIB
        run("dd", "if=/dev/zero", f"of={path}", "bs=1M", f"count={count}", "oflag=direct", "status=none")
        self.writer = Writer(path, blocks=WRITER_BYTES // BLOCK, seed=self.seed, restless=_blocks(WRITER_BYTES))

    def _jobs(self):
        os.makedirs(self.system.path("fio"), exist_ok=True)
        return FILE_JOBS.format(place=self.system.path("fio"))

    def begin_round(self, seconds):
        super().begin_round(seconds)
        self._calm.clear()
        self._turmoil = threading.Thread(target=self._stir, args=(self.rounds,), daemon=True)
        self._turmoil.start()

    def _stir(self, number):
        with self.watch.guarded():
            place = self.system.path("turmoil")
            while not self._calm.is_set():
                number += 1000
                filesystem.stress(place, number + self.seed, 40)
                shutil.rmtree(place)
                self._calm.wait(1)

    def end_round(self):
        self._calm.set()
        self._turmoil.join(WAIT_S)
        super().end_round()

    def quiesce(self):
        super().quiesce()
        run("fsfreeze", "-f", self.system.place, limit=WAIT_S)

    def go_on(self):
        run("fsfreeze", "-u", self.system.place, limit=WAIT_S)
        super().go_on()

    def finish(self):
        run("fsfreeze", "-u", self.system.place, limit=WAIT_S)
        super().finish()
        began = time.monotonic()
        run("umount", self.system.place, limit=WAIT_S)
        self.system.check()
        self.watch.log(f"{self.disk.name}: unmounted and checked in {time.monotonic() - began:.1f} s")
