# SPDX-License-Identifier: GPL-2.0
"""Memory that a process of its own changes all the time, as fast as it can."""

import ctypes
import itertools
import os
import signal

PR_SET_PDEATHSIG = 1
PATTERNS = 5
_libc = ctypes.CDLL(None)


class Restless:
    """Changes shared memory (an `mmap`) in a `with`."""

    def __init__(self, memory):
        self.memory = memory
        self._pid = None

    def __enter__(self):
        patterns = [os.urandom(len(self.memory)) for _ in range(PATTERNS)]
        self._pid = os.fork()
        if not self._pid:
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            for pattern in itertools.cycle(patterns):
                self.memory[:] = pattern
        return self

    def __exit__(self, *_):
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
