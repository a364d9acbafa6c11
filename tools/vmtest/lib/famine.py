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
