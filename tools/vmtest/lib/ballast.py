# SPDX-License-Identifier: GPL-2.0
"""A machine that has next to no memory left: a program holds all but so much of it, locked."""

import ctypes
import signal
import subprocess
import sys

from lib import check

# Nothing else can be had from it, and it is not the one that the kernel is to kill.
PROGRAM = """
import ctypes, mmap, sys
libc = ctypes.CDLL(None, use_errno=True)
open("/proc/self/oom_score_adj", "w").write("-1000")
memory = mmap.mmap(-1, int(sys.argv[1]))
if libc.mlock(ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(memory))), ctypes.c_size_t(len(memory))):
    sys.exit(ctypes.get_errno())
print("there", flush=True)
sys.stdin.read()
"""


MCL_CURRENT = 1


class Ballast:
    """There while in a `with`; leaves this many bytes to all others."""

    def __init__(self, left):
        self.size = memory("MemAvailable") - left
        check.that(self.size > 0, f"the machine has more than {left} bytes available: {self.size + left}")
        self._process = None

    def __enter__(self):
        argv = [sys.executable, "-c", PROGRAM, str(self.size)]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        check.equal(self._process.stdout.readline(), b"there\n", "what the ballast says")
        return self

    def __exit__(self, *_):
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(60)


class Machine:
    """What stands for a cgroup where there is none: programs run as any other does."""

    @staticmethod
    def popen(argv, **more):
        """Starts a program, which the kernel kills first if it kills any."""
        return subprocess.Popen(argv, preexec_fn=_be_first, **more)


def _be_first():
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")


def kept():
    """What the kernel keeps free for those that must not wait, in bytes."""
    with open("/proc/sys/vm/min_free_kbytes", encoding="ascii") as file:
        return int(file.read()) * 1024


def memory(name):
    """A line of /proc/meminfo, in bytes."""
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(f"{name}:")) * 1024


def counter(name):
    """A line of /proc/vmstat."""
    with open("/proc/vmstat", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.split()[0] == name)


def pin_down():
    """Keeps this process in memory: what has to look at a machine without memory must not wait for it."""
    libc = ctypes.CDLL(None, use_errno=True)
    check.equal(libc.mlockall(MCL_CURRENT), 0, "mlockall")
