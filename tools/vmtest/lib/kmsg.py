# SPDX-License-Identifier: GPL-2.0
"""The kernel log from a moment on."""

import os
import re
import select
import time

from lib.check import Failure

# What no kernel log may contain: the kernel's own words for its own bugs, and enbd's for its.
FORBIDDEN = re.compile(
    r"BUG:|kernel BUG at|WARNING: |Oops[: ]|general protection fault|Kernel panic|INFO: task .* blocked|INFO: rcu_"
    r"|rcu: INFO|soft lockup|hard LOCKUP|possible stuck|stall|refcount_t: |list_(add|del) corruption|UBSAN:|KASAN:|KCSAN:"
    r"|scheduling while atomic|unable to handle|Call Trace:|stack segment:|double fault|rust_kernel: panicked"
    r"|workqueue lockup|Bad page state|page allocation failure|sleeping function|hung task|Slab corruption|leaked"
)


class Kmsg:
    """Follows the kernel log from the moment that it is made."""

    def __init__(self):
        self._fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(self._fd, 0, os.SEEK_END)
        self._seen = []

    def close(self):
        """Ends it."""
        os.close(self._fd)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _take(self):
        while True:
            try:
                record = os.read(self._fd, 8192)
            except BlockingIOError:
                return
            except BrokenPipeError:
                # Lines were overwritten before they were read; what follows is read.
                self._seen.append("(lines of the kernel log were lost)")
                continue
            text = record.decode("ascii", "replace").split(";", 1)[-1]
            self._seen.append(text.split("\n", 1)[0])

    def lines(self, pattern=""):
        """All lines so far that the pattern is found in."""
        self._take()
        return [line for line in self._seen if re.search(pattern, line)]

    def take(self):
        """The lines that have come since the last time; `lines` begins anew."""
        self._take()
        taken, self._seen = self._seen, []
        return taken

    def forget(self):
        """Lets `lines` begin anew."""
        self._take()
        self._seen.clear()

    def wait_for(self, pattern, seconds, count=1):
        """Waits until so many lines with the pattern have come, and gives them."""
        end = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        while True:
            found = self.lines(pattern)
            if len(found) >= count:
                return found
            left = end - time.monotonic()
            if left <= 0:
                raise Failure(f"not within {seconds} s in the kernel log: {pattern}")
            poll.poll(left * 1000)

    def complaints(self):
        """The lines that must not be there."""
        self._take()
        return [line for line in self._seen if FORBIDDEN.search(line)]
