# SPDX-License-Identifier: GPL-2.0
"""A cgroup with a limit of memory, beside the one that scenarios and their servers run in."""

import ctypes
import os
import signal
import subprocess

from lib import check

ROOT = "/sys/fs/cgroup"
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class Cgroup:
    """There while in a `with`."""

    def __init__(self, name, limit):
        self.path, self.limit = f"{ROOT}/{name}", limit

    def __enter__(self):
        # With both, the writeback of a cgroup is its own.
        _write(f"{ROOT}/cgroup.subtree_control", "+memory +io")
        os.mkdir(self.path)
        _write(f"{self.path}/memory.max", str(self.limit))
        return self

    def __exit__(self, kind, *_):
        _write(f"{self.path}/cgroup.kill", "1")
        try:
            check.until(self._is_removed, 30, f"{self.path} is empty")
        except check.Failure:
            # What is stuck is the consequence of a failure that is already on its way.
            if kind is None:
                raise

    def _is_removed(self):
        try:
            os.rmdir(self.path)
        except OSError:
            return False
        return True

    def popen(self, argv, **more):
        """Starts a program in it, which is killed with this process."""
        return subprocess.Popen(argv, preexec_fn=self._enter, **more)

    def _enter(self):
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        _write(f"{self.path}/cgroup.procs", "0")

    def events(self):
        """memory.events: how often it was at its limit, and what came of that."""
        return self._table("memory.events")

    def stat(self):
        """memory.stat."""
        return self._table("memory.stat")

    def _table(self, name):
        with open(f"{self.path}/{name}", encoding="ascii") as file:
            return {row[0]: int(row[1]) for row in map(str.split, file)}


def _write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
