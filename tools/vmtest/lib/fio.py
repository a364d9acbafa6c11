# SPDX-License-Identifier: GPL-2.0
"""fio, which writes and verifies, while groups of the mirror come and go."""

import os
import random
import signal
import subprocess

from lib import check

GLOBAL = """[global]
ioengine=libaio
direct=1
time_based=1
runtime={seconds}
verify=crc32c
verify_backlog=48
verify_fatal=1
randseed={seed}
"""


class Fio:
    """fio with a job file, in the background; its files begin with `name`."""

    def __init__(self, jobs, seconds, seed=1, name="fio"):
        self.seconds, self.name = seconds, name
        with open(f"{name}.jobs", "w", encoding="ascii") as file:
            file.write(GLOBAL.format(seconds=seconds, seed=seed) + jobs)
        self.process = None

    def is_running(self):
        """Whether it has not ended."""
        return self.process.poll() is None

    def wait(self, limit=None):
        """Waits for its end, which has to be a good one."""
        limit = limit or self.seconds + 120
        try:
            status = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            raise check.Failure(f"fio did not end within {limit} s") from None
        with open(f"{self.name}.log", encoding="utf-8", errors="replace") as file:
            lines = file.read().strip().splitlines()
        errors = [line for line in lines if "verify" in line or "err=" in line and "err= 0" not in line]
        check.equal(status, 0, f"fio: {' | '.join(errors[:4] or lines[-4:])}; status")

    def __enter__(self):
        with open(f"{self.name}.log", "wb") as log:
            self.process = subprocess.Popen(["fio", f"{self.name}.jobs"], stdout=log, stderr=log, process_group=0)
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.wait()
        elif self.is_running():
            os.killpg(self.process.pid, signal.SIGKILL)


class Unrest:
    """Sets groups faulty and brings them back, as a seed decides, as long as there is I/O that goes on."""

    def __init__(self, mirror, fio, seed):
        self.mirror, self.fio = mirror, fio
        self.dice = random.Random(seed)
        self.rounds = 0

    def run(self):
        """Until fio ends; leaves all groups in sync."""
        while self.fio.is_running():
            self._round()
            self.rounds += 1
        self.mirror.command("resync_max=0")
        for group, mark in self.mirror.status().marks().items():
            if mark == "F":
                self.mirror.command(f"hotadd={group}")
        self.mirror.wait_in_sync(60)

    def _round(self):
        group = self.dice.randrange(len(self.mirror.servers))
        self.mirror.command(f"setfaulty={group}")
        self._until_dirty(group, self.dice.randrange(1, 400))
        self.mirror.command(f"resync_max={self.dice.choice([0, 0, 0, 256, 2048])}", f"hotadd={group}")
        if self.dice.random() < 0.3:
            # In the middle of it, or just after.
            self._look(lambda s: s.mark(group) != "_" or s.dirty_columns[group] < 200)
            if self.mirror.status().mark(group) != "F":
                self.mirror.command(f"setfaulty={group}")
            self._until_dirty(group, self.dice.randrange(400))
            full = self.dice.choice(["", " full"])
            check.until(lambda: self._try(f"hotadd={group}{full}"), 30, f"group {group} can be brought back")
        self.mirror.command("resync_max=0")
        self.mirror.wait_in_sync(60)

    def _try(self, line):
        # The last resync may take its time to end; see the scenario resync_restart.
        try:
            self.mirror.command(line)
        except OSError as error:
            check.equal(error.errno, 16, f"errno of {line}")
            return False
        return True

    def _until_dirty(self, group, blocks):
        self._look(lambda s: s.dirty_columns[group] >= blocks)

    def _look(self, predicate):
        self.mirror.wait_until(lambda s: predicate(s) or not self.fio.is_running(), 60, "the I/O goes on")
