# SPDX-License-Identifier: GPL-2.0
"""The module: loading, unloading, and the threads that it has."""

import os
import re

from lib import check
from lib.program import attempt, run

NAME = "enbd"
# Tainted as an out-of-tree (4096) and unsigned (8192) module taints; anything else is trouble.
ALLOWED_TAINT = 4096 | 8192
UNLOAD_S = 60


def is_loaded():
    """Whether it is there."""
    return os.path.isdir(f"/sys/module/{NAME}")


def load():
    """Loads it."""
    run("modprobe", NAME)


def unload():
    """Unloads it, and waits for its threads to be gone."""
    result = attempt("rmmod", NAME, limit=UNLOAD_S)
    check.that(result.returncode == 0, f"rmmod: {result.stderr.strip()}")
    check.until(lambda: not threads(), 5, f"the threads of {NAME} end after rmmod")


def threads():
    """The names of its kernel threads, a workqueue's rescuer included, by pid."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                text = file.read()
        except (FileNotFoundError, ProcessLookupError):
            continue
        name, rest = re.search(r"\((.*)\) (.*)", text, re.DOTALL).groups()
        if rest.split()[1] == "2" and re.match(rf"(kworker/R-)?{NAME}", name):
            found[int(pid)] = name
    return found


def wait_looked_at(letter="a"):
    """Waits until enbd has looked at a device of one group that was enabled: nobody but users asks its server then."""
    look = f"enbd-{letter}-look"
    check.until(lambda: look not in threads().values(), 20, f"the thread {look} ends")


def taint():
    """What taints the kernel that must not."""
    with open("/proc/sys/kernel/tainted", encoding="ascii") as file:
        return int(file.read()) & ~ALLOWED_TAINT
