# SPDX-License-Identifier: GPL-2.0
"""Allocations that fail, where the kernel can let them (CONFIG_FAILSLAB; the debug kernel has it)."""

import contextlib
import os

DIRECTORY = "/sys/kernel/debug/failslab"
# All of them that may not wait, of the tasks that ask for it, without a word in the log. What lets it begin is the last.
SETTINGS = {"task-filter": 1, "ignore-gfp-wait": 1, "verbose": 0, "interval": 1, "times": -1, "space": 0, "probability": 100}


def is_possible():
    """Whether the kernel can."""
    return os.path.isdir(DIRECTORY)


@contextlib.contextmanager
def famine():
    """No memory for this thread, unless it can wait for it."""
    for name, value in SETTINGS.items():
        _write(f"{DIRECTORY}/{name}", value)
    _write("/proc/thread-self/make-it-fail", 1)
    try:
        yield
    finally:
        _write(f"{DIRECTORY}/probability", 0)
        _write("/proc/thread-self/make-it-fail", 0)


def _write(path, value):
    with open(path, "w", encoding="ascii") as file:
        file.write(str(value))


class Shortage:
    """While in a `with`: no memory from one of the kernel's caches for these tasks and who shares it, though they could wait."""

    MOST = 1_000_000

    def __init__(self, cache, tasks):
        self._cache = f"/sys/kernel/slab/{cache}/failslab"
        self._tasks = [f"/proc/{pid}" for pid in tasks]

    def share(self):
        """This thread, too, gets none, for as long as it lives."""
        _write("/proc/thread-self/make-it-fail", 1)

    def failed(self):
        """How often there was none so far."""
        with open(f"{DIRECTORY}/times", encoding="ascii") as file:
            return self.MOST - int(file.read())

    def __enter__(self):
        _write(self._cache, 1)
        for task in self._tasks:
            _write(f"{task}/make-it-fail", 1)
        for name, value in {"cache-filter": 1, **SETTINGS, "ignore-gfp-wait": 0, "times": self.MOST}.items():
            _write(f"{DIRECTORY}/{name}", value)
        return self

    def __exit__(self, *_):
        _write(f"{DIRECTORY}/probability", 0)
        _write(f"{DIRECTORY}/cache-filter", 0)
        for task in self._tasks:
            _write(f"{task}/make-it-fail", 0)
        _write(self._cache, 0)
