# SPDX-License-Identifier: GPL-2.0
"""What was written where and when, by the kernel's tracing: by users to the devices and by servers to their stores. Kept in memory,
so that a difference comes with the story of its block."""

import os
import re

from lib.program import run

TRACING = "/sys/kernel/tracing"
# Of each processor: more than a round.
BUFFER_KIB = 32768
MOST = 300
# Registers of a system call as x86 has them: the third and the fourth argument.
THIRD, FOURTH = "+96(%di)", "+56(%di)"
PROBES = {
    "pwrite": f"__x64_sys_pwrite64 len={THIRD}:u64 pos={FOURTH}:u64",
    "pwritev": f"__x64_sys_pwritev len=+8(+104(%di)):u64 pos={FOURTH}:u64",
    "fallocate": f"__x64_sys_fallocate len={FOURTH}:u64 pos={THIRD}:u64",
}
EVENTS = ["block/block_rq_issue", "block/block_rq_complete"] + [f"store/write_{name}" for name in PROBES]
DISK = re.compile(r"block_rq_\w+: \d+,\d+ W\S* (?:\d+ )?\([^)]*\) (\d+) \+ (\d+)")
STORE = re.compile(r" len=(\d+) pos=(\d+)")


def _set(name, text, flags=os.O_TRUNC):
    # Python would seek, which not all of these files allow.
    file = os.open(os.path.join(TRACING, name), os.O_WRONLY | flags)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


class History:
    """Begins when it is made."""

    def __init__(self):
        if not os.path.exists(os.path.join(TRACING, "trace")):
            run("mount", "-t", "tracefs", "tracefs", TRACING)
        _set("trace_clock", "mono")
        _set("buffer_size_kb", str(BUFFER_KIB))
        _set("options/record-tgid", "1")
        for name, what in PROBES.items():
            _set("dynamic_events", f"p:store/write_{name} {what}\n", os.O_APPEND)
        for event in EVENTS:
            _set(f"events/{event}/enable", "1")

    def note(self, text):
        """A line of our own."""
        _set("trace_marker", text)

    def of_bytes(self, first, length):
        """The lines that tell of writes to these bytes, of any device and store, and our own; the last ones."""
        _set("tracing_on", "0")
        with open(os.path.join(TRACING, "trace"), encoding="utf-8", errors="replace") as file:
            lines = [line.rstrip() for line in file if "tracing_mark_write" in line or self._touches(line, first, length)]
        return lines[-MOST:]

    @staticmethod
    def _touches(line, first, length):
        disk, store = DISK.search(line), STORE.search(line)
        if disk:
            at, size = int(disk[1]) * 512, int(disk[2]) * 512
        elif store:
            at, size = int(store[2]), int(store[1])
        else:
            return False
        return at < first + length and first < at + size
